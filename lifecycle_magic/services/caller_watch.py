"""Notices which callers have closed their connections, while threads wait for something else."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lifecycle_magic.threads.event_loop import EventLoop

if TYPE_CHECKING:
    from lifecycle_magic.threads.event_loop import Timer

__all__ = ["CallerWatch", "caller_watch"]

LOOK_SECONDS = 0.25
"""Seconds between two looks where no system call reports an end alone."""


class CallerWatch(Protocol):
    """Watches sockets for their end."""

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the event loop's thread when the other side closes the connection."""

    def remove(self, fd: int) -> None:
        """Watch a socket no longer. Call this before it is closed."""

    def close(self) -> None:
        """Watch no socket any more."""

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""


def caller_watch(event_loop: EventLoop) -> CallerWatch:
    """Return the watch that this system can do."""
    watch: CallerWatch
    if sys.platform == "linux":
        watch = EpollWatch(event_loop)
    else:
        watch = LookingWatch(event_loop)
    return watch


class LookingWatch:
    """A watch that looks at its sockets now and then, while there are any.

    It sees an end only behind data that has been read: callers that wait send nothing more.
    """

    def __init__(self, event_loop: EventLoop) -> None:
        self._event_loop = event_loop
        self._callbacks: dict[int, Callable[[], None]] = {}  # by file descriptor
        self._lock = threading.Lock()
        self._timer: Timer | None = None

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        with self._lock:
            self._callbacks[fd] = callback
            if self._timer is None:
                self._timer = self._event_loop.call_later(LOOK_SECONDS, self._look)

    def remove(self, fd: int) -> None:
        with self._lock:
            self._callbacks.pop(fd, None)

    def _look(self) -> None:
        with self._lock:
            ended = [fd for fd in self._callbacks if _has_ended(fd)]
            found = [self._callbacks.pop(fd) for fd in ended]
            self._timer = None
            if self._callbacks:
                self._timer = self._event_loop.call_later(LOOK_SECONDS, self._look)
        for callback in found:
            callback()

    def close(self) -> None:
        with self._lock:
            self._callbacks.clear()

    def close_in_fork(self) -> None:
        self._callbacks.clear()


def _has_ended(fd: int) -> bool:
    """Return whether the next that can be read from a socket is its end."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


if sys.platform == "linux":

    class EpollWatch:
        """A watch by epoll(7), which reports an end alone: data that arrives costs nothing."""

        def __init__(self, event_loop: EventLoop) -> None:
            self._event_loop = event_loop
            self._epoll = select.epoll()
            self._callbacks: dict[int, Callable[[], None]] = {}  # by file descriptor
            self._lock = threading.Lock()
            event_loop.watch(self._epoll, self._look)

        def add(self, fd: int, callback: Callable[[], None]) -> None:
            with self._lock:
                self._callbacks[fd] = callback
                # Closed, or at a limit of the system: the end is noticed when an answer is sent.
                with contextlib.suppress(ValueError, OSError):
                    self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

        def remove(self, fd: int) -> None:
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
            def close() -> None:
                self._event_loop.unwatch(self._epoll)
                with self._lock:
                    self._epoll.close()

            self._event_loop.call_soon(close)

        def close_in_fork(self) -> None:
            self._epoll.close()
