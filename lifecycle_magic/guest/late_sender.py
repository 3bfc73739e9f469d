"""A thread that sends printed text a moment later, in case the worker's code does not."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

LINGER_SECONDS = 0.1
"""Seconds without output after which the thread ends."""

_LOOK_SECONDS = 0.0001


class LateSender:
    """Calls ``send`` on a thread of its own, which exists while it is needed.

    The thread is no `threading.Thread`, so the user's code does not find it in
    ``threading.enumerate()``. It blocks all signals: each of them must end a wait of the main
    thread. ``lock`` guards what `send_in` changes; its caller holds it.
    """

    def __init__(self, send: Callable[[], object], lock: threading.RLock) -> None:
        self._send = send
        self._lock = lock
        self._is_due = False  # the thread was woken, and has not sent yet
        self._is_ending = False
        self._has_thread = False
        self._thread = 0  # its id for the system
        self._seconds = 0.0
        self._wake = _thread.allocate_lock()
        self._wake.acquire()

    def send_in(self, seconds: float) -> bool:
        """Send in so many seconds. Return False if that is impossible: no thread can start."""
        if self._is_due:
            return True
        if self._is_ending or not (self._has_thread or self._start()):
            return False
        self._seconds = seconds
        self._is_due = True
        self._wake.release()
        return True

    def end(self) -> None:
        """Wait until the system has no such thread any more. The caller does not hold the lock."""
        with self._lock:
            if not self._has_thread:
                return
            self._is_ending = True
            if not self._is_due:
                self._wake.release()
        while self._exists() or os.path.exists(f"/proc/self/task/{self._thread}"):
            time.sleep(_LOOK_SECONDS)
        self._is_ending = False

    def _exists(self) -> bool:
        return self._has_thread

    def _start(self) -> bool:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # no more threads, or Python is at its end
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._has_thread = True
        return True

    def _run(self) -> None:
        self._thread = threading.get_native_id()
        while self._wait():
            if not self._is_ending:
                time.sleep(self._seconds)
            self._is_due = False
            with contextlib.suppress(Exception):  # the supervisor has exited, or Python is ending
                self._send()

    def _wait(self) -> bool:
        """Wait until text is due. Return False if the thread ends instead."""
        is_woken = not self._is_ending and self._wake.acquire(timeout=LINGER_SECONDS)
        with self._lock:
            if not is_woken and self._is_due:  # `send_in` has come just now
                is_woken = self._wake.acquire(blocking=False)
            if not is_woken or self._is_ending:
                self._has_thread = self._is_due = False
                self._wake.acquire(blocking=False)
            return self._has_thread
