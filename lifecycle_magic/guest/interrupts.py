"""Interrupting a running call, and nothing else.

The supervisor writes the id of the call it wants stopped into a pipe and sends SIGINT. The
handler, which Python runs on the main thread between two bytecodes, compares that id with what
runs. Thus an interrupt that comes late hits nothing, one that comes early is remembered, a SIGINT
from elsewhere hits nothing, and while a frame is on its way out (``with target``) it waits.

Each lane has a `Target`. A method on the main thread is stopped by raising from the handler, one on
a thread by Python's asynchronous exceptions, a coroutine by cancelling its task.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

ANY = 2**64 - 1  # whatever is running
ANSWERED = 128  # calls of a lane whose interrupts are known to be late; more than are sent ahead
_ID = struct.Struct("<Q")


class NotBegun(KeyboardInterrupt):
    """The interrupt came before the call did: nothing of it has run."""


def ask(pipe: int, call: int) -> None:
    """The supervisor's half, before it sends SIGINT."""
    os.write(pipe, _ID.pack(call))


class Target:
    """What one lane runs. ``current`` is the id of its interruptible call, None in between."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.current: int | None = None
        self.cancel_task: Callable[[], object] | None = None  # set while a coroutine runs
        self.interrupts = interrupts
        self._thread = threading.get_ident()
        self._on_main = threading.current_thread() is threading.main_thread()
        self._lock = threading.Lock()  # a thread's `end` against the main thread's `stop`
        self._hit = False
        self._shielded = 0
        self._pending = False
        self._answered: deque[int] = deque(maxlen=ANSWERED)
        if not self._on_main:
            # Here, and not in the handler: a second signal would find it half imported.
            import ctypes  # noqa: F401
        interrupts.targets.append(self)

    @property
    def is_here(self) -> bool:
        """Whether the lane's thread is the one that asks."""
        return threading.get_ident() == self._thread

    def begin(self, call: int) -> None:
        """From here on ``call`` may be interrupted.

        Raises `NotBegun` if that was asked for already.
        """
        self.current = call
        if self.interrupts.early and self.interrupts.was_asked(call):
            self.current = None
            raise NotBegun

    def end(self) -> None:
        """From here on no interrupt is raised on this lane, not even one that is on its way."""
        if self._on_main:
            self.current = None
            return
        with self._lock:
            self.current = None
            if self._hit:
                self._hit = False
                _raise_in_thread(self._thread, None)

    def answered(self, call: int) -> None:
        """``call`` is over: an interrupt for it that comes from now on is late, not early."""
        self._answered.append(call)
        if self.interrupts.early:
            self.interrupts.early.discard(call)

    def has_answered(self, call: int) -> bool:
        """Whether ``call`` was over just now. From any thread."""
        return call in self._answered.copy()

    def stop(self) -> None:
        """On the main thread: interrupt what runs here."""
        if self.cancel_task is not None:
            # The polite way first; asked again, the coroutine is stopped like a function.
            cancel, self.cancel_task = self.cancel_task, None
            cancel()
        elif self._shielded:
            self._pending = True
        elif self._on_main:
            self.current = None
            raise KeyboardInterrupt
        else:
            with self._lock:
                if self.current is not None:
                    self._hit = True
                    _raise_in_thread(self._thread, KeyboardInterrupt)

    def __enter__(self) -> None:
        if self._on_main:
            if self.is_here:  # what another thread sends is not torn by raising here
                self._shielded += 1
            return
        with self._lock:
            self._shielded += 1
            if self._hit:  # on its way to this thread: hold it back
                self._hit = False
                self._pending = True
                _raise_in_thread(self._thread, None)

    def __exit__(self, *exc: object) -> None:
        if self._on_main and not self.is_here:
            return
        self._shielded -= 1
        if self._pending and not self._shielded:
            self._pending = False
            if self.current is None:
                return
            if not self.is_here:  # a coroutine of the lane, on the main thread
                self.stop()
                return
            self.current = None
            raise KeyboardInterrupt


class Interrupts:
    """The worker's half of the pipe, and the handler of SIGINT.

    ``with interrupts`` on the main thread: whatever is to be interrupted waits for the end of it.
    """

    def __init__(self, pipe: int) -> None:
        self.targets: list[Target] = []
        self.early: set[int] = set()  # asked for before the call was read
        self._pipe = pipe
        self._held = 0
        self._late = False  # a SIGINT came while they were held
        os.set_blocking(pipe, False)
        signal.signal(signal.SIGINT, self._on_sigint)

    def __enter__(self) -> None:
        self._held += 1

    def __exit__(self, *exc: object) -> None:
        self._held -= 1
        if self._late and not self._held:
            self._on_sigint(signal.SIGINT, None)

    def was_asked(self, call: int) -> bool:
        """Whether an interrupt for ``call`` came before the call did; it is then used up."""
        if call in self.early:
            self.early.discard(call)
            return True
        return self.going

    @property
    def going(self) -> bool:
        """The container has to go: whatever runs is interrupted, and nothing more begins."""
        return ANY in self.early

    def _on_sigint(self, signum: int, frame: Any) -> None:
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
        if ANY in wanted:
            self.early.add(ANY)  # the container goes: what lies unread in a socket does not begin
        running = [t for t in self.targets if t.current is not None]
        self.early.update(
            call
            for call in wanted - {target.current for target in running}
            if call < ANY and not any(target.has_answered(call) for target in self.targets)
        )
        # The main thread's own last: raising ends this function.
        for target in sorted(running, key=lambda target: target._on_main):
            if target.current in wanted or ANY in wanted:
                target.stop()


def _raise_in_thread(thread: int, error: type[BaseException] | None) -> None:
    """Have ``error`` raised in a thread at its next bytecode, or with None take that back.

    Source: PyThreadState_SetAsyncExc, https://docs.python.org/3/c-api/init.html
    """
    import ctypes

    what = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
