"""The session's background event loop: callbacks for readable sockets and for timers.

Callbacks run on the loop's one thread and must not block. The thread sleeps in the operating system
until a socket, a timer or another thread wakes it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol

COMPACT_FROM_TIMERS = 256

LAST_ROUNDS = 1000
"""How often a loop that stops looks for readable sockets: a callback may read only a part."""


class HasFileno(Protocol):
    """A socket, or an object with a socket's file descriptor."""

    def fileno(self) -> int: ...


class Timer:
    """A callback that is due at ``when``, in seconds of `time.monotonic`."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel the callback. Calling this again does nothing."""
        self.callback = None


class EventLoop:
    """A selector loop on a daemon thread of its own. Any thread may call its methods."""

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_w.setblocking(False)
        self._wake_r.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._callbacks: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        # The number of timers from which cancelled ones are removed.
        self._compact_from = COMPACT_FROM_TIMERS
        self._timers_lock = threading.Lock()
        self._stopping = False
        self._name = name
        self._reply_loop: EventLoop | None = None
        self._reply_loop_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop's thread."""
        self._callbacks.append(callback)
        try:
            self._wake_w.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # the thread is awake already, or has ended

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` on the loop's thread in ``seconds``, and return the timer that cancels
        it.
        """
        timer = Timer(time.monotonic() + seconds, callback)
        with self._timers_lock:
            heapq.heappush(self._timers, (timer.when, next(self._order), timer))
            if len(self._timers) > self._compact_from:
                # Nearly every timer is cancelled, by a call that ended in time.
                self._timers = [one for one in self._timers if one[2].callback is not None]
                heapq.heapify(self._timers)
                self._compact_from = max(COMPACT_FROM_TIMERS, 2 * len(self._timers))
            first = bool(self._timers) and self._timers[0][2] is timer
        if first:
            self.call_soon(lambda: None)
        return timer

    def watch(self, source: HasFileno, callback: Callable[[], object]) -> None:
        """Run ``callback`` whenever ``source`` is readable, until `unwatch`."""
        self.call_soon(lambda: self._register(source, callback))

    def unwatch(self, source: HasFileno) -> None:
        """Stop watching ``source``. Call this on the loop's thread, before the source is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def _register(self, source: HasFileno, callback: Callable[[], object]) -> None:
        if source.fileno() < 0:
            return  # closed meanwhile
        self._selector.register(source, selectors.EVENT_READ, callback)

    @property
    def reply_loop(self) -> EventLoop:
        """A second loop for the data that containers send, started when it is first used.

        Rebuilding a large result takes long, and no timer and no interrupt may wait for that.
        """
        with self._reply_loop_lock:
            if self._reply_loop is None:
                self._reply_loop = EventLoop(f"{self._name}-replies")
            return self._reply_loop

    @property
    def is_current_thread(self) -> bool:
        """True if the caller runs on this loop's thread, or on that of `reply_loop`."""
        here = threading.current_thread()
        return here is self._thread or (
            self._reply_loop is not None and self._reply_loop.is_current_thread
        )

    def stop(self) -> None:
        """End the thread, after the callbacks of sockets that are readable now.

        Sockets that are still watched then and timers that are still due are dropped.
        """
        if self._reply_loop is not None:
            self._reply_loop.stop()
        self._stopping = True
        self.call_soon(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close_in_fork(self) -> None:
        """Close the file descriptors that a forked child inherits and that only the parent's loop
        uses.
        """
        if self._reply_loop is not None:
            self._reply_loop.close_in_fork()
        # The parent's epoll set is the same object: closing it is safe, unregistering is not.
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _run(self) -> None:
        while not self._stopping:
            self._run_once(self._timeout())
        # What exited containers have answered, and the ends of their connections.
        for _ in range(LAST_ROUNDS):
            if not self._run_once(0.0):
                break
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _run_once(self, timeout: float | None) -> bool:
        """Sleep until something happens, then run the callbacks that are due; return whether
        there were any but those of timers.

        This is a function of its own so that no local variable survives into the next sleep: a
        callback may lead to a large result.
        """
        ran = False
        for key, _ in self._selector.select(timeout):
            ran = True
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_r.recv(4096)
            else:
                self._call(key.data)
        while self._callbacks:
            ran = True
            self._call(self._callbacks.popleft())
        for timer in self._due():
            if timer.callback is not None:
                self._call(timer.callback)
        return ran

    def _timeout(self) -> float | None:
        with self._timers_lock:
            while self._timers and self._timers[0][2].callback is None:
                heapq.heappop(self._timers)
            if not self._timers:
                return None
            return max(0.0, self._timers[0][0] - time.monotonic())

    def _due(self) -> list[Timer]:
        now = time.monotonic()
        due = []
        with self._timers_lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        return due

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            # A bug in this package. The thread has to live on for all the other containers.
            traceback.print_exc()
