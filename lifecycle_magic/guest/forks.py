"""Forked children of the user's code, which keep nothing of the worker.

A forked child has the signal handlers of a fresh Python and none of the worker's descriptors. When
it returns from the method in which it was forked, it ends as in plain Python. Programs started with
``exec`` need none of this: the system resets handlers, and every descriptor of the worker is
close-on-exec.

The worker's signals are blocked around the fork. Otherwise a SIGTERM that arrives before the child
has reset its handlers would be lost, and ``Process.terminate()`` followed by ``join()`` would wait
for ever.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import functools
import os
import posix
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from lifecycle_magic.guest import interpreter_end

Handler = Callable[[int, Any], object]

_DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}  # others: SIG_DFL

_handlers: dict[int, Handler] = {}
_close_callbacks: list[Callable[[], object]] = []
_on_start: Callable[[int], object] | None = None  # gets the pid of each child
_fork_state = threading.local()  # ``mask`` of this thread before its fork
_forking: int | None = None  # the thread that runs the hooks around a fork on the main thread
_before_start: Callable[[], object] | None = None  # runs before a process starts
_before_fork: Callable[[], object] | None = None
in_child = False  # this process was forked off the worker
has_started_processes = False  # this process has, at any time


def handle(signum: int, handler: Handler) -> None:
    """Handle a signal with ``handler`` in this process, but in none of its children."""
    _handlers[signum] = handler
    signal.signal(signum, handler)


def close_in_child(close: Callable[[], object]) -> None:
    """Call ``close`` in every forked child, to close a descriptor of the worker."""
    _close_callbacks.append(close)


def install(
    on_start: Callable[[int], object],
    before_start: Callable[[], object],
    before_fork: Callable[[], object],
) -> None:
    """Install the hooks around forks. Called once, when the worker starts.

    ``on_start`` gets the pid of each process that the worker starts, with or without a fork that
    runs Python's hooks; ``before_start`` runs before a start without them.
    """
    global _before_fork, _before_start, _on_start
    _on_start = on_start
    _before_start = before_start
    _before_fork = before_fork
    _posixsubprocess.fork_exec = _reporting(_posixsubprocess.fork_exec)
    if (subprocess := sys.modules.get("subprocess")) is not None:
        subprocess._fork_exec = _posixsubprocess.fork_exec  # type: ignore[attr-defined]
    for name in ("posix_spawn", "posix_spawnp"):  # what subprocess uses since Python 3.13
        # In both modules: a pickle of the function names posix.
        noted = _reporting(getattr(posix, name))
        setattr(posix, name, noted)
        setattr(os, name, noted)
    os.system = posix.system = _noting(posix.system)
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )


def _reporting(start: Callable[..., int]) -> Callable[..., int]:
    """Return ``start``, a function that starts a process, extended to report each pid to
    `_on_start`.
    """

    @functools.wraps(start)
    def noted(*args: Any, **kwargs: Any) -> int:
        global has_started_processes
        has_started_processes = True
        if _before_start is not None:
            _before_start()
        pid = start(*args, **kwargs)
        if _on_start is not None:
            _on_start(pid)
        return pid

    return noted


def _noting(start: Callable[..., int]) -> Callable[..., int]:
    """Return ``start``, a function that runs a command to its end, extended to note that it did."""

    @functools.wraps(start)
    def noted(*args: Any, **kwargs: Any) -> int:
        global has_started_processes
        has_started_processes = True
        if _before_start is not None:
            _before_start()
        return start(*args, **kwargs)

    return noted


def on_main_thread() -> bool:
    """Return whether the main thread is forking. Python drops exceptions raised in fork hooks."""
    return _forking is not None


def end_child(error: BaseException | None = None) -> None:
    """End a forked child as plain Python does. In the worker, do nothing.

    ``error`` is the exception that the child's code raised.
    """
    if not in_child:
        return
    code = 0
    try:
        code = _exit_code(error)
        interpreter_end.run()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    """Return Python's exit code for ``error``, and print the error if Python prints it."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    return 1


def _before() -> None:
    global _forking, has_started_processes
    has_started_processes = True
    if threading.current_thread() is threading.main_thread():
        _forking = threading.get_ident()
    if _before_fork is not None:
        _before_fork()
    _fork_state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _after_in_parent() -> None:
    global _forking
    if _on_start is not None:
        with contextlib.suppress(OSError, IndexError):  # the fork failed
            thread = threading.get_native_id()
            with open(f"/proc/self/task/{thread}/children") as file:
                _on_start(int(file.read().split()[-1]))  # the youngest comes last
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork_state.mask)
    if _forking == threading.get_ident():
        _forking = None


def _after_in_child() -> None:
    global _before_fork, _before_start, _forking, _on_start, in_child
    _forking = None
    _on_start = _before_start = _before_fork = None
    in_child = True
    for signum, handler in _handlers.items():
        if signal.getsignal(signum) == handler:  # otherwise it is the user's own
            signal.signal(signum, _DEFAULTS.get(signum, signal.SIG_DFL))
    _handlers.clear()
    for close in _close_callbacks:
        with contextlib.suppress(Exception):
            close()
    _close_callbacks.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork_state.mask)
