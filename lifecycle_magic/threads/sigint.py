"""SIGINT held back until a step is complete, or forwarded to the call that runs.

Python raises KeyboardInterrupt between any two bytecodes of the main thread. In the middle of
handing over a slot, that would lose the slot: no code would ever give it back. No other module of
the kernel touches signal handlers.
"""

from __future__ import annotations

# The module that `signal` wraps: conversions to and from enums take longer than all the rest.
import _signal  # type: ignore[import-not-found]
import os
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")

_fork_state = threading.local()  # ``mask`` of this thread before its fork
_MAIN = threading.main_thread().ident
_SIGINT = int(signal.SIGINT)


class deferred:  # a context manager that reads like a function
    """Context manager that holds SIGINT back: on the main thread, it is raised after the block.

    Use it for short blocks only, since nothing can interrupt them. On other threads, and where
    Python does not handle SIGINT, it does nothing.
    """

    __slots__ = ("_previous", "_received")

    def __enter__(self) -> None:
        self._received = False
        self._previous = None
        if threading.get_ident() == _MAIN:
            previous = _signal.getsignal(_SIGINT)
            if callable(previous):
                self._previous = previous
                _signal.signal(_SIGINT, self._record)

    def _record(self, *_: object) -> None:
        self._received = True

    def __exit__(self, *_: object) -> None:
        previous = self._previous
        if previous is not None:
            _signal.signal(_SIGINT, previous)
            if self._received:
                previous(signal.SIGINT, None)  # the default handler raises KeyboardInterrupt


def run_forwarding(handler: Callable[[], object], function: Callable[[A], T], argument: A) -> T:
    """Return ``function(argument)``. Meanwhile SIGINT on the main thread calls ``handler`` instead,
    and is raised after the function.

    The handler runs between any two bytecodes, so it must not take locks. A function and not a
    context manager, because it is on the path of a call.
    """
    if threading.get_ident() != _MAIN:
        return function(argument)
    previous = _signal.getsignal(_SIGINT)
    if not callable(previous):
        return function(argument)
    received = False

    def forward(*_: object) -> None:
        nonlocal received
        received = True
        handler()

    _signal.signal(_SIGINT, forward)
    try:
        return function(argument)
    finally:
        _signal.signal(_SIGINT, previous)
        if received:
            # raises KeyboardInterrupt, unless the user has another handler
            previous(signal.SIGINT, None)


class Interrupted(Exception):
    """`run_interruptible` was interrupted, and the installed handler has noted that."""


def run_interruptible(function: Callable[[], T]) -> T:
    """Return ``function()``, which SIGINT ends whatever handler is installed.

    That handler is called then. Raises what the handler raises, or `Interrupted` if it raises
    nothing. On other threads, and where Python does not handle SIGINT, it calls the function only.
    """
    previous = _signal.getsignal(_SIGINT)
    if threading.get_ident() != _MAIN or not callable(previous):
        return function()
    received = False

    def raise_once(*_: object) -> None:
        nonlocal received
        if not received:
            received = True
            raise KeyboardInterrupt

    try:
        try:
            _signal.signal(_SIGINT, raise_once)
            return function()
        finally:
            try:
                _signal.signal(_SIGINT, previous)
            finally:  # the signal may come right before
                _signal.signal(_SIGINT, previous)
    except KeyboardInterrupt:
        pass
    previous(signal.SIGINT, None)  # here, where no handled exception would become its context
    raise Interrupted


def call_instead(function: Callable[[], object], *numbers: int) -> None:
    """Have the signals ``numbers`` call ``function`` from now on."""
    for number in numbers:
        _signal.signal(int(number), lambda *_: function())


def raise_again() -> None:
    """Have SIGINT raise KeyboardInterrupt again, after `call_instead`."""
    _signal.signal(_SIGINT, signal.default_int_handler)


def end_process_instead() -> None:
    """Have SIGINT end this process, which is about to end."""
    _signal.signal(_SIGINT, signal.SIG_DFL)


def is_user_interrupt(error: BaseException) -> bool:
    """Return whether an exception is an interrupt of this thread, not one that a value raised."""
    return (
        issubclass(type(error), KeyboardInterrupt)
        and threading.get_ident() == _MAIN
        and _signal.getsignal(_SIGINT) is signal.default_int_handler
    )


def _is_own_handler(handler: object) -> bool:
    return (getattr(handler, "__module__", None) or "").startswith("lifecycle_magic.")


def _before_fork() -> None:
    _fork_state.mask = None
    if _is_own_handler(_signal.getsignal(_SIGINT)):  # the main thread calls a method
        _fork_state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [_SIGINT])


def _after_fork() -> None:
    if _fork_state.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork_state.mask)


def _in_forked_child() -> None:
    """Restore Python's own SIGINT handler: an interrupt ends a forked child like any other
    process.
    """
    if _is_own_handler(_signal.getsignal(_SIGINT)):
        _signal.signal(_SIGINT, signal.default_int_handler)
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_forked_child
)
