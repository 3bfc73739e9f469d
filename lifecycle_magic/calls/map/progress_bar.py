"""The progress bar of a map, for a terminal or notebook and a known number of inputs."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["UNKNOWN", "ProgressBar", "length"]

UNKNOWN = float("inf")
"""The number of inputs of an iterable that does not know its length."""


class ProgressBar:
    """A bar of ``total`` steps, as a context manager that returns the function to advance it by
    one.

    The bar appears after half a second, and disappears at the end.
    """

    def __init__(self, where: str, total: float) -> None:
        self._bar: Any = None
        if total != UNKNOWN and _somebody_looks():
            from tqdm.std import tqdm

            class Quiet(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
                monitor_interval = 0  # no thread of its own

            # As text, not as a widget: a saved notebook then holds no widget state.
            self._bar = Quiet(total=int(total), desc=where, delay=0.5, leave=False)

    def __enter__(self) -> Callable[[], Any]:
        return self._bar.update if self._bar is not None else lambda: None

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()


def length(inputs: Any) -> float:
    """Return the number of inputs, or `UNKNOWN`."""
    try:
        return len(inputs)
    except TypeError:
        return operator.length_hint(inputs, 0) or UNKNOWN


def _somebody_looks() -> bool:
    """Return whether standard error is a terminal or a notebook."""
    if sys.stderr is None:
        return False
    if sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
