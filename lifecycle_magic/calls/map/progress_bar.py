"""The progress of a map: a bar in a terminal, one output in a notebook, nothing elsewhere."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.map.progress_output import ProgressOutput

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["UNKNOWN", "ProgressBar", "Shown", "length", "nothing_shown", "shown_progress"]

UNKNOWN = float("inf")
"""The number of inputs of an iterable that does not know its length."""

Shown = contextlib.AbstractContextManager[Callable[[Any], Any]]
"""A context manager that returns the function to call with each result."""


def shown_progress(where: str, total: float, pool: Pool, *, counts_errors: bool) -> Shown:
    """Return what shows a map's progress: in a notebook or a terminal, if there is one.

    ``total`` is the number of inputs, or `UNKNOWN`. With ``counts_errors``, results that are
    exceptions count as failed inputs.
    """
    if _is_notebook():
        return ProgressOutput(where, total, pool, counts_errors=counts_errors)
    if sys.stderr is not None and sys.stderr.isatty():
        return ProgressBar(where, total)
    return nothing_shown()


def nothing_shown() -> Shown:
    """Return what shows no progress."""
    return contextlib.nullcontext(lambda result: None)


class ProgressBar:
    """A bar in a terminal. It appears after half a second, and disappears at the end."""

    def __init__(self, where: str, total: float) -> None:
        from tqdm.std import tqdm

        class Quiet(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
            monitor_interval = 0  # no thread of its own

        known = None if total == UNKNOWN else int(total)
        self._bar = Quiet(total=known, desc=where, delay=0.5, leave=False)

    def __enter__(self) -> Callable[[Any], Any]:
        return lambda result: self._bar.update()

    def __exit__(self, *exc: object) -> None:
        self._bar.close()


def length(inputs: Any) -> float:
    """Return the number of inputs, or `UNKNOWN`."""
    try:
        return len(inputs)
    except TypeError:
        return operator.length_hint(inputs, 0) or UNKNOWN


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
