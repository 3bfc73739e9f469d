"""Notices which callers have closed their connections, while threads wait for something else."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable

from lifecycle_magic.threads.event_loop import EventLoop

__all__ = ["CallerWatch"]


class CallerWatch:
    """Watches sockets for their end alone: data that arrives costs nothing."""

    def __init__(self, event_loop: EventLoop) -> None:
        self._event_loop = event_loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}  # by file descriptor
        self._lock = threading.Lock()
        event_loop.watch(self._epoll, self._look)

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the event loop's thread when the other side closes the connection."""
        with self._lock:
            self._callbacks[fd] = callback
            with contextlib.suppress(ValueError):  # closed
                self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def remove(self, fd: int) -> None:
        """Watch a socket no longer. Call this before it is closed."""
        with self._lock:
            self._callbacks.pop(fd, None)
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def _look(self) -> None:
        with self._lock:
            found = [self._callbacks.get(fd) for fd, _ in self._epoll.poll(0)]
        for callback in found:
            if callback is not None:
                callback()

    def close(self) -> None:
        """Watch no socket any more."""

        def close() -> None:
            self._event_loop.unwatch(self._epoll)
            with self._lock:
                self._epoll.close()

        self._event_loop.call_soon(close)

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        self._epoll.close()
