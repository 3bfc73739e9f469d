"""The session's one background thread: it waits for sockets to become readable and for times to
come.

Callbacks run on this thread and must not block. Nothing runs while nothing happens: the thread
sleeps in the operating system until a socket, a timer or another thread wakes it.
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

MANY = 256


class HasFileno(Protocol):
    """A socket, or whatever stands for one."""

    def fileno(self) -> int: ...


class Timer:
    """A callback that is due at ``when`` (of `time.monotonic`). `cancel` is final and
    idempotent.
    """

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Monitor:
    """A selector loop on a daemon thread of its own. Every method may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_w.setblocking(False)
        self._wake_r.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._many = MANY  # timers at which the cancelled ones are thrown out
        self._timers_lock = threading.Lock()
        self._stopping = False
        self._name = name
        self._replies: Monitor | None = None
        self._replies_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the monitor's thread."""
        self._soon.append(callback)
        try:
            self._wake_w.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # it has been woken already, or it is gone

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` on the monitor's thread in ``seconds``, unless the timer is
        cancelled.
        """
        timer = Timer(time.monotonic() + seconds, callback)
        with self._timers_lock:
            heapq.heappush(self._timers, (timer.when, next(self._order), timer))
            if len(self._timers) > self._many:
                # Nearly every timer is cancelled, by a call that ended in time.
                self._timers = [one for one in self._timers if one[2].callback is not None]
                heapq.heapify(self._timers)
                self._many = max(MANY, 2 * len(self._timers))
            first = bool(self._timers) and self._timers[0][2] is timer
        if first:
            self.soon(lambda: None)
        return timer

    def watch(self, source: HasFileno, callback: Callable[[], object]) -> None:
        """Run ``callback`` whenever ``source`` is readable, until `unwatch`."""
        self.soon(lambda: self._register(source, callback))

    def unwatch(self, source: HasFileno) -> None:
        """Stop watching; call it on the monitor's thread, before the source is closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def _register(self, source: HasFileno, callback: Callable[[], object]) -> None:
        if source.fileno() < 0:
            return  # closed in the meantime
        self._selector.register(source, selectors.EVENT_READ, callback)

    @property
    def replies(self) -> Monitor:
        """A second one, for the data that containers send: rebuilding a result may take long, and
        no timer and no interrupt may wait for that.
        """
        with self._replies_lock:
            if self._replies is None:
                self._replies = Monitor(f"{self._name}-replies")
            return self._replies

    @property
    def on_thread(self) -> bool:
        """Whether this is its thread, or that of `replies`."""
        here = threading.current_thread()
        return here is self._thread or (self._replies is not None and self._replies.on_thread)

    def stop(self) -> None:
        """End the thread. What is still watched or due is dropped."""
        if self._replies is not None:
            self._replies.stop()
        self._stopping = True
        self.soon(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close_in_fork(self) -> None:
        """In a forked child: let go of what only the parent's thread uses."""
        if self._replies is not None:
            self._replies.close_in_fork()
        # The parent's epoll set is the same object: closing is fine, unregistering would be not.
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _run(self) -> None:
        while not self._stopping:
            self._turn()
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _turn(self) -> None:
        """Sleep until something happens, and see to it.

        In a function of its own, so that nothing of it is kept during the next sleep: a callback
        may lead to a large result.
        """
        for key, _ in self._selector.select(self._timeout()):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake_r.recv(4096)
            else:
                self._safely(key.data)
        while self._soon:
            self._safely(self._soon.popleft())
        for timer in self._due():
            if timer.callback is not None:
                self._safely(timer.callback)

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

    def _safely(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            # A bug of ours. The thread has to live on for all the other containers.
            traceback.print_exc()
