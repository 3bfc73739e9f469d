"""A wait for a call of another container, as a part of the call that makes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from lifecycle_magic.guest.interrupts import InterruptTarget

__all__ = ["Waiting"]


class Waiting:
    """Context manager of a thread's wait, which the first interrupt of the lane's call ends.

    ``cancel`` ends the wait; it runs in a signal handler. On a thread where interrupts raise, none
    does so before the end of the block. Other threads may wait at the same time, as with
    ``asyncio.to_thread``: an interrupt ends all these waits, and interrupts the call besides.
    """

    __slots__ = ("_before", "_cancel", "_raises", "_target", "call")

    def __init__(self, target: InterruptTarget, cancel: Callable[[], object]) -> None:
        self._target = target
        self._cancel = cancel
        self._before: Callable[[], object] | None = None
        self._raises = target.raises_here
        self.call = target.current

    def __enter__(self) -> None:
        target = self._target
        if not self._raises:
            target.waits.append(self)
            return
        target.shield()
        self._before = target.cancel_task
        target.cancel_task = self._cancel
        if target.is_held_back:  # an interrupt that came right before
            self._cancel()

    def __exit__(self, *exc: object) -> None:
        target = self._target
        if not self._raises:
            self._leave()
            return
        if target.cancel_task is self._cancel:  # otherwise an interrupt has taken it
            target.cancel_task = self._before
        target.unshield()

    def end(self) -> None:
        """End the wait of another thread."""
        self._leave()
        self._cancel()

    def _leave(self) -> None:
        with contextlib.suppress(ValueError):  # it has ended already
            self._target.waits.remove(self)
