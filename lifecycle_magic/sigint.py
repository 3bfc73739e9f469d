"""SIGINT that waits until something has been done whole.

Python raises KeyboardInterrupt between any two bytecodes of the main thread. In the middle of
handing a slot over that would lose it: nobody would ever give it back.
"""

from __future__ import annotations

# What `signal` wraps: its conversions to and from enums take longer than all the rest.
import _signal  # type: ignore[import-not-found]
import signal
import threading

_MAIN = threading.main_thread().ident
_SIGINT = int(signal.SIGINT)


class deferred:  # a context manager that reads like a function
    """``with deferred():`` on the main thread, a SIGINT is raised when the block is through.

    Of use where a block is short: nothing interrupts it. Elsewhere, and where SIGINT is not
    handled by Python, it changes nothing.
    """

    __slots__ = ("_came", "_previous")

    def __enter__(self) -> None:
        self._came = False
        self._previous = None
        if threading.get_ident() == _MAIN:
            previous = _signal.getsignal(_SIGINT)
            if callable(previous):
                self._previous = previous
                _signal.signal(_SIGINT, self._keep)

    def _keep(self, *_: object) -> None:
        self._came = True

    def __exit__(self, *_: object) -> None:
        previous = self._previous
        if previous is not None:
            _signal.signal(_SIGINT, previous)
            if self._came:
                previous(signal.SIGINT, None)  # raises, unless it is not the default
