"""``sys.stdout`` and ``sys.stderr`` of the worker.

While a call runs, its lines go to the caller's cell over its lane's data socket, and always to the
supervisor, which keeps the log; `lifecycle_magic.guest.print_buffer` sends them together. Output
that bypasses these objects (C code, subprocesses) goes to the pipes behind descriptors 1 and 2,
which the supervisor reads.
"""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest.json_lines import encode_line, write_all

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lifecycle_magic.guest.interrupts import InterruptHandler
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.print_buffer import PrintBuffer

CHUNK_CHARS = 1 << 16
_NOTHING = contextlib.nullcontext()

# The lane whose call runs in this context. A task inherits it from the lane that started it.
current_lane: contextvars.ContextVar[Lane | None] = contextvars.ContextVar("lane", default=None)


_lanes: list[Lane] = []


def set_lanes(lanes: list[Lane]) -> None:
    """Set the lanes of the worker, a list that may change."""
    global _lanes
    _lanes = lanes


def lane_here() -> Lane | None:
    """Return the lane of this thread or task, or the only one that there is."""
    lane = current_lane.get()
    if lane is None and len(_lanes) == 1:
        lane = _lanes[0]
    return lane


class SupervisorPipe:
    """The worker's end of the pipe to the supervisor.

    Lines are written whole, one after the other, because a pipe takes a long line in pieces.
    """

    def __init__(self, fd: int, interrupts: InterruptHandler) -> None:
        self._fd = fd
        self._interrupts = interrupts
        self._lock = threading.RLock()  # a signal handler may print while this thread takes it
        self._writer: int | None = None
        self._lines: deque[bytes] = deque()

    def send(self, note: str, **fields: Any) -> None:
        """Write a note. Interrupts wait until it is written."""
        self._lines.append(encode_line(note=note, **fields))
        if self._writer == threading.get_ident():
            return  # a signal handler, in the middle of a line: this line is written after that one
        with self.hold_interrupts(), self._lock:
            self._writer = threading.get_ident()
            try:
                while self._lines:
                    write_all(self._fd, self._lines.popleft())
            except BaseException:
                self._lines.appendleft(b"\n")  # end the incomplete line
                raise
            finally:
                self._writer = None

    def hold_interrupts(self) -> AbstractContextManager[None]:
        """Hold back exceptions that interrupt a call on this thread."""
        if threading.get_ident() == threading.main_thread().ident:
            return self._interrupts
        lane = current_lane.get()
        if lane is not None and lane.target.is_here:
            return lane.target
        return _NOTHING


class Output(io.TextIOBase):
    """A line-buffered text stream that forwards what is written to it.

    ``lanes`` is shared with the worker. A thread that the user's code started belongs to no lane.
    Its output goes to the only lane, or only to the log if there are several.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(self, stream: str, fd: int, prints: PrintBuffer, lanes: list[Lane]) -> None:
        self.stream = stream
        self._fd = fd
        self._prints = prints
        self._lanes = lanes
        self._lock = threading.RLock()
        self._buffer: ByteStream | None = None
        self.unflushed: dict[Lane | None, str] = {}  # text without a final newline, of each lane
        self._forked = False
        os.register_at_fork(after_in_child=self._in_child)

    @property
    def name(self) -> str:
        return f"<{self.stream}>"

    @property
    def buffer(self) -> ByteStream:
        """The stream of bytes below this one."""
        if self._buffer is None:
            self._buffer = ByteStream(self)
        return self._buffer

    def reconfigure(
        self,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool | None = None,
        write_through: bool | None = None,
    ) -> None:
        """Change the settings that `io.TextIOWrapper.reconfigure` changes.

        Text is forwarded as text, so an encoding only decides which characters can't be written.
        """
        if encoding is not None:
            codecs.lookup(encoding)
        if errors is not None:
            codecs.lookup_error(errors)
        self.flush()
        if encoding is not None:
            self.encoding, self.errors = encoding, errors or "strict"
        self.errors = errors or self.errors
        if line_buffering is not None:
            self.line_buffering = line_buffering
        if write_through is not None:
            self.write_through = write_through

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.encoding is not Output.encoding:
            text.encode(self.encoding, self.errors)  # raises where a file of that encoding would
        lane = self._lane()
        with self._lock:
            pending = self.unflushed[lane] = self.unflushed.get(lane, "") + text
            if self.write_through or "\n" in text or "\r" in text or len(pending) >= CHUNK_CHARS:
                self.flush_lane(lane)
        return len(text)

    def flush(self) -> None:
        if self.unflushed:
            self.flush_lane(self._lane())
        self._prints.flush_if_pending()

    def flush_lane(self, lane: Lane | None) -> None:
        """Forward the text that this lane wrote without a final newline."""
        with self._lock:
            text = self.unflushed.pop(lane, "")
            if not text:
                return
            if self._forked:
                write_all(self._fd, text.encode(self.encoding, self.errors))
                return
            for start in range(0, len(text), CHUNK_CHARS):
                self._prints.add(lane, self.stream, text[start : start + CHUNK_CHARS])
            if self.write_through:
                self._prints.flush()

    def log(self, text: str) -> None:
        """Write to the log only: the kernel shows this text in its own way."""
        for start in range(0, len(text), CHUNK_CHARS):
            self._prints.log(self.stream, text[start : start + CHUNK_CHARS])

    def _lane(self) -> Lane | None:
        lane = current_lane.get()
        if lane is None and len(self._lanes) == 1:
            lane = self._lanes[0]
        return lane

    def _in_child(self) -> None:
        """Stop writing to the worker's sockets and pipes, in a process that the user's code
        forked.
        """
        self._lock = threading.RLock()
        self._forked = True
        self.unflushed = {}


class ByteStream(io.BufferedIOBase):
    """The bytes below an `Output`. Bytes written here keep their order with its text."""

    def __init__(self, text: Output) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def name(self) -> str:
        return self._text.name

    @property
    def raw(self) -> ByteStream:
        return self

    def write(self, data: Any) -> int:
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        view = memoryview(data).cast("B")
        self._text.write(self._decoder.decode(view))
        return len(view)

    def flush(self) -> None:
        self._text.flush()

    def fileno(self) -> int:
        return self._text.fileno()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False
