"""The progress bar of a map, where somebody looks and the number of inputs is known."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["UNKNOWN", "Bar", "length"]

UNKNOWN = float("inf")
"""The number of inputs of an iterable that can't tell."""


class Bar:
    """A bar of ``total`` steps in a ``with``, which gives the function that advances it by one.

    It appears after half a second, and goes when it is through.
    """

    def __init__(self, where: str, total: float) -> None:
        self._bar: Any = None
        if total != UNKNOWN and _somebody_looks():
            from tqdm.std import tqdm

            class Quiet(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
                monitor_interval = 0  # no thread of its own

            # As text, not as a widget: a saved notebook holds no widget state because of it.
            self._bar = Quiet(total=int(total), desc=where, delay=0.5, leave=False)

    def __enter__(self) -> Callable[[], Any]:
        return self._bar.update if self._bar is not None else lambda: None

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()


def length(inputs: Any) -> float:
    """How many inputs there are, or `UNKNOWN`."""
    try:
        return len(inputs)
    except TypeError:
        return operator.length_hint(inputs, 0) or UNKNOWN


def _somebody_looks() -> bool:
    """Whether standard error is a terminal or a notebook."""
    if sys.stderr is None:
        return False
    if sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
