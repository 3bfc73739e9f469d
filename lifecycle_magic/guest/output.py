"""``sys.stdout`` and ``sys.stderr`` of the worker.

While a call runs, its lines go to the caller's cell over its lane's data socket, and in any case
to the supervisor, which keeps the log. What bypasses these objects (C code, subprocesses) ends in
the pipes behind descriptors 1 and 2, which the supervisor reads.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest.notes import line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lifecycle_magic.guest.interrupts import Interrupts
    from lifecycle_magic.guest.lane import Lane

CHUNK = 1 << 16

# Whose call runs in this context. A coroutine's task inherits it from the lane that started it.
current_lane: contextvars.ContextVar[Lane | None] = contextvars.ContextVar("lane", default=None)


class Notes:
    """The worker's end of the pipe to the supervisor. One line goes out after the other, whole:
    a pipe takes a long one in pieces.
    """

    def __init__(self, fd: int, interrupts: Interrupts) -> None:
        self._fd = fd
        self._interrupts = interrupts
        self._lock = threading.RLock()  # a signal handler may print while this thread takes it
        self._writer: int | None = None
        self._lines: deque[bytes] = deque()

    def tell(self, note: str, **told: Any) -> None:
        """Write a note; interrupts wait for its end."""
        self._lines.append(line(note=note, **told))
        if self._writer == threading.get_ident():
            return  # a signal handler, in the middle of a line: this one goes out behind that
        with self.held(), self._lock:
            self._writer = threading.get_ident()
            try:
                while self._lines:
                    write_all(self._fd, self._lines.popleft())
            except BaseException:
                self._lines.appendleft(b"\n")  # what was torn ends here
                raise
            finally:
                self._writer = None

    def held(self) -> AbstractContextManager[None]:
        """Hold back what could be raised on this thread to interrupt a call."""
        if threading.current_thread() is threading.main_thread():
            return self._interrupts
        lane = current_lane.get()
        if lane is not None and lane.target.is_here:
            return lane.target
        return contextlib.nullcontext()


class Output(io.TextIOBase):
    """A line-buffered text stream that hands on what is written to it.

    ``lanes`` is shared with the worker: a thread that the user's code started is in no lane,
    and what it prints goes to the only lane there is, or if there are several to the log alone.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: str, fd: int, notes: Notes, lanes: list[Lane]) -> None:
        self.stream = stream
        self._fd = fd
        self._notes = notes
        self._lanes = lanes
        self._lock = threading.RLock()
        self._buffer: Any = None
        self._kept: dict[Lane | None, str] = {}
        self._forked = False
        os.register_at_fork(after_in_child=self._in_child)

    @property
    def name(self) -> str:
        return f"<{self.stream}>"

    @property
    def buffer(self) -> Any:
        """Bytes go to the descriptor itself, as a subprocess's would."""
        if self._buffer is None:
            self._buffer = os.fdopen(os.dup(self._fd), "wb", 0)
        return self._buffer

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        lane = self._lane()
        with self._lock:
            kept = self._kept[lane] = self._kept.get(lane, "") + text
            if "\n" in text or "\r" in text or len(kept) >= CHUNK:
                self.flush_lane(lane)
        return len(text)

    def flush(self) -> None:
        if self._kept:
            self.flush_lane(self._lane())

    def flush_lane(self, lane: Lane | None) -> None:
        """Hand on what this lane wrote and did not end with a newline."""
        with self._lock:
            text = self._kept.pop(lane, "")
            if not text:
                return
            if self._forked:
                write_all(self._fd, text.encode(self.encoding, self.errors))
                return
            for start in range(0, len(text), CHUNK):
                piece = text[start : start + CHUNK]
                with self._notes.held():
                    shown = lane is not None and lane.show(self.stream, piece)
                    self._notes.tell("print", stream=self.stream, text=piece, shown=shown)

    def log(self, text: str) -> None:
        """Write for the log alone: the kernel has its own way to show this."""
        for start in range(0, len(text), CHUNK):
            piece = text[start : start + CHUNK]
            self._notes.tell("print", stream=self.stream, text=piece, shown=True)

    @property
    def unflushed(self) -> bool:
        return bool(self._kept)

    def _lane(self) -> Lane | None:
        lane = current_lane.get()
        if lane is None and len(self._lanes) == 1:
            lane = self._lanes[0]
        return lane

    def _in_child(self) -> None:
        """A process that the user's code forked must not write into our sockets and pipes."""
        self._lock = threading.RLock()
        self._forked = True
        self._kept = {}


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; a pipe may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
