"""Reading of values under the user's filters of warnings, which are meant for the user's code.

Plain Python takes no value apart to call a method. Some kinds of values warn when they are taken
apart, as `itertools.count` does from Python 3.12 on, and a filter may make that an error.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

__all__ = ["despite_filters"]

T = TypeVar("T")

_lock = (
    threading.RLock()
)  # two threads that restore each other's filters would leave the wrong ones


def despite_filters(read: Callable[[], T]) -> T:
    """Return what ``read`` returns. It is called again without filters if a warning ends it.

    Raises what ``read`` raises.
    """
    try:
        return read()
    except Exception as error:
        # It may be the error that describes it.
        if not isinstance(error, Warning) and not isinstance(error.__context__, Warning):
            raise
        with _lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
