"""Interrupts of one running call, and of nothing else.

The supervisor writes the id of the call to interrupt into a pipe and sends `SIGNAL`. The handler,
which Python runs on the main thread between two bytecodes, compares that id with the running call.
So a late interrupt has no effect, an early one is remembered, and an interrupt waits while a frame
is being sent (``with target``).

SIGINT belongs to the user's code. Raised in a method, it is a KeyboardInterrupt there, or calls the
user's own handler. That handler also receives the interrupts that would raise on the main thread.
Between two calls SIGINT has no effect.

Each lane has an `InterruptTarget`. A method on the main thread is stopped by raising from the
handler, a method on another thread by Python's asynchronous exceptions, and a coroutine by
cancelling its task.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest import forks

if TYPE_CHECKING:
    from lifecycle_magic.guest.waiting import Waiting

ANY_CALL = 2**64 - 1  # whatever is running
# Ended calls that a lane remembers, to detect late interrupts. More than are sent ahead.
MAX_ANSWERED = 128
# No common library uses it. Only containers send it, and they run Linux.
if sys.platform == "linux":
    SIGNAL = signal.SIGRTMAX - 3
else:
    SIGNAL = signal.SIGUSR2
_MAIN = threading.main_thread().ident
_ID = struct.Struct("<Q")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_FINALIZERS = frozenset({"__del__", "_forget", "on_last_view"})  # called where an object dies
_IMPORTLIB = importlib.__file__  # `importlib.import_module` calls what is frozen


class InterruptedBeforeStart(KeyboardInterrupt):
    """The interrupt arrived before the call: no code of the call has run."""


def request_interrupt(pipe: int, call: int) -> None:
    """Write the id of the call to interrupt. The supervisor does this before it sends `SIGNAL`."""
    os.write(pipe, _ID.pack(call))


class InterruptTarget:
    """The running call of one lane.

    ``current`` is the id of the interruptible call, None between calls.
    """

    def __init__(self, interrupts: InterruptHandler) -> None:
        self.current: int | None = None
        self.requested: int | None = None  # the last call that the kernel asked to interrupt
        self.cancel_task: Callable[[], object] | None = None  # set while a coroutine runs
        self.cancel_again: Callable[[], bool] | None = None  # meanwhile, once that was taken
        self.interrupts = interrupts
        self._thread = threading.get_ident()
        self._on_main = threading.current_thread() is threading.main_thread()
        # A thread's `end` against the main thread's `stop`, which may find that thread in here.
        self._lock = threading.RLock()
        self.waits: list[Waiting] = []  # of threads on which no interrupt is raised
        self._hit = False
        self._shielded = 0
        self._pending = False
        self._answered: deque[int] = deque(maxlen=MAX_ANSWERED)
        if not self._on_main:
            # Here, and not in the handler: a second signal would find it half imported.
            import ctypes  # noqa: F401
        interrupts.targets.append(self)

    @property
    def is_here(self) -> bool:
        """True if the caller runs on the lane's thread."""
        return threading.get_ident() == self._thread

    @property
    def raises_here(self) -> bool:
        """True if an interrupt may raise on the caller's thread: the lane's, or that of the event
        loop that runs the lane's coroutines. A thread that the call itself has started is another.
        """
        thread = threading.get_ident()
        return thread == self._thread or (not self._on_main and thread == _MAIN)

    @property
    def is_held_back(self) -> bool:
        """True if an interrupt is raised at the end of a block (``with target``)."""
        return self._pending

    def begin(self, call: int) -> None:
        """Make ``call`` interruptible from here on.

        Raises `InterruptedBeforeStart` if the interrupt was requested already.
        """
        self.current = call
        if self.interrupts.early and self.interrupts.take_early(call):
            self.current = None
            raise InterruptedBeforeStart

    def end(self) -> None:
        """Raise no interrupt on this lane from here on, not even one that is on its way."""
        if self._on_main:
            self.current = None
            return
        with self._lock:
            self.current = None
            if self._hit:
                self._hit = False
                _raise_in_thread(self._thread, None)

    def mark_answered(self, call: int) -> None:
        """Note that ``call`` has ended: an interrupt that arrives for it from now on is late, not
        early.
        """
        self._answered.append(call)
        if self.interrupts.early:
            self.interrupts.early.discard(call)

    def forget_answered(self) -> None:
        """Forget which calls have ended: those of another kernel have the same ids again."""
        self._answered.clear()

    def has_answered(self, call: int) -> bool:
        """Return whether ``call`` ended a short time ago. Any thread may ask."""
        return call in self._answered.copy()

    def is_in_package_step(self) -> bool:
        """Return whether this lane's thread, if it is not the main one, runs code of this package
        that no exception may interrupt: see `_is_in_package_step`. Any thread may ask.
        """
        if self._on_main:
            return False
        return _is_in_package_step(sys._current_frames().get(self._thread))

    def stop(self) -> bool:
        """Interrupt the running call, on the main thread. Return True if that must raise here."""
        for wait in self.waits.copy():
            if wait.call == self.current:
                wait.end()
        if self.cancel_task is not None:
            # Cancel first. A second interrupt stops the coroutine like a function.
            cancel, self.cancel_task = self.cancel_task, None
            cancel()
        elif self._shielded:
            self._pending = True
        elif self.cancel_again is not None:
            return self.cancel_again()
        elif self._on_main:
            return True
        else:
            with self._lock:
                if self.current is not None:
                    self._hit = True
                    _raise_in_thread(self._thread, KeyboardInterrupt)
        return False

    def __enter__(self) -> None:
        if self.raises_here:
            self.shield()

    def __exit__(self, *exc: object) -> None:
        if self.raises_here:
            self.unshield()

    def shield(self) -> None:
        """Hold interrupts back. On a thread where they raise: see `raises_here`."""
        if self._on_main:
            self._shielded += 1
            return
        with self._lock:
            if self._hit:  # on its way to this thread: hold it back
                self._hit = False
                self._pending = True
                _raise_in_thread(self._thread, None)
            self._shielded += 1  # last: what was on its way may have raised before

    def unshield(self) -> None:
        """Raise the interrupt that was held back. On the thread that has called `shield`."""
        if self._on_main:
            self._shielded -= 1
        else:
            with self._lock:
                self._shielded -= 1
        if self._pending and not self._shielded:
            self._pending = False
            if self.current is None:
                return
            runs_coroutine = self.cancel_task is not None or self.cancel_again is not None
            # On another thread, this is a coroutine of the lane on the main thread.
            if self.stop() if runs_coroutine or not self.is_here else True:
                raise KeyboardInterrupt


class InterruptHandler:
    """The worker's half of the pipe, and the handlers of `SIGNAL` and SIGINT.

    ``with interrupts`` on the main thread delays all interrupts until the end of the block.
    """

    def __init__(self, pipe: int) -> None:
        self.targets: list[InterruptTarget] = []
        self.early: set[int] = set()  # asked for before the call was read
        self._pipe = pipe
        # Called with the running calls when the container stops.
        self.on_stopping: Callable[[list[int]], object] = lambda calls: None
        # Called for the same signal to be sent again a moment later.
        self.signal_again: Callable[[], object] = lambda: None
        self._held = 0
        self._late = False  # a signal arrived while interrupts were held back
        self._has_sigint = False  # a SIGINT arrived that is not handled yet
        os.set_blocking(pipe, False)
        forks.handle(SIGNAL, self._on_signal)
        forks.handle(signal.SIGINT, self._on_sigint)

    def __enter__(self) -> None:
        self._held += 1

    def __exit__(self, *exc: object) -> None:
        self._held -= 1
        if self._late and not self._held:
            self._late = False
            self._on_signal(SIGNAL, None)

    def take_early(self, call: int) -> bool:
        """Return whether an interrupt for ``call`` arrived before the call did, and forget that
        interrupt.
        """
        if call in self.early:
            self.early.discard(call)
            return True
        return self.is_stopping

    def forget_early(self) -> None:
        """Forget the interrupts that arrived before their calls."""
        self.early.intersection_update({ANY_CALL})

    @property
    def is_stopping(self) -> bool:
        """True if the container stops: running calls are interrupted, and nothing more begins."""
        return ANY_CALL in self.early

    def _on_sigint(self, signum: int, frame: Any) -> None:
        """Interrupt the one running call, whose own code, or a library, sent SIGINT to this
        process.

        If several calls run, nothing says which of them the signal was for.
        """
        self._has_sigint = True
        self._on_signal(signum, frame)

    def _on_signal(self, signum: int, frame: Any) -> None:
        if forks.on_main_thread() or self._must_wait(frame):
            self.signal_again()
            return
        self._late = bool(self._held)
        if self._late:
            return
        wanted = set()
        while True:
            try:
                data = os.read(self._pipe, _ID.size)
            except BlockingIOError:
                break
            if not data:
                break
            wanted.add(_ID.unpack(data)[0])
        if ANY_CALL in wanted:
            # The container stops: inputs that are unread in a socket do not begin.
            self.early.add(ANY_CALL)
        running = [t for t in self.targets if t.current is not None]
        for target in running:
            if target.current in wanted or ANY_CALL in wanted:
                target.requested = target.current
        if self._has_sigint:
            self._has_sigint = False
            wanted.update(_only(running))
        if ANY_CALL in wanted and running:
            self.on_stopping([t.current for t in running if t.current is not None])
        self.early.update(
            call
            for call in wanted - {target.current for target in running}
            if call < ANY_CALL and not any(target.has_answered(call) for target in self.targets)
        )
        wanted_here = [t for t in running if t.current in wanted or ANY_CALL in wanted]
        raises = [target.stop() for target in wanted_here]  # all of them, before one raises
        if any(raises):
            if ANY_CALL not in wanted and _pass_to_handler(self._on_sigint, frame):
                return
            raise KeyboardInterrupt

    def _must_wait(self, frame: Any) -> bool:
        """Return whether a call that runs is in a step of this package that must not be torn."""
        running = [target for target in self.targets if target.current is not None]
        return any(one.is_in_package_step() for one in running) or _is_in_package_step(frame)


def _is_in_package_step(frame: Any) -> bool:
    """Return whether a stack has a frame of this package that imports, or that runs because an
    object has died.

    A package whose import was interrupted can't be imported again: the container would answer no
    further call that needs it. What is raised where an object dies is lost, the interrupt as well.
    What the user's own code does is interrupted as in plain Python.
    """
    is_importing = False
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or name == _IMPORTLIB:
            is_importing = True
        elif name.startswith(_PACKAGE) and (is_importing or frame.f_code.co_name in _FINALIZERS):
            return True
        else:
            is_importing = False
        frame = frame.f_back
    return False


def _only(running: list[InterruptTarget]) -> list[int]:
    """Return the id of the only running call; an empty list if none or several run."""
    calls = [target.current for target in running if target.current is not None]
    return calls if len(calls) == 1 else []


def _pass_to_handler(own_handler: forks.Handler, frame: Any) -> bool:
    """Pass SIGINT to the user's own handler. Return whether there is one, or SIGINT is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler) and handler != own_handler:
        handler(signal.SIGINT, frame)
        return True
    return handler == signal.SIG_IGN


def _raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Raise ``error`` in a thread at its next bytecode; with None, take that back.

    Source: PyThreadState_SetAsyncExc, https://docs.python.org/3/c-api/init.html
    """
    import ctypes

    what = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
