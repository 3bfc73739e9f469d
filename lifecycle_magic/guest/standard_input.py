"""``sys.stdin``, ``input`` and ``getpass`` of the worker, which ask the caller of the method.

    worker → kernel   PROMPT over the call's data socket, after what the call has printed
    worker → session  ASK under the key `PROMPTS`, as a call of another class: the answer is wanted
    session → worker  RESULT: the line, the end of the input, or why no line can be read

The kernel asks in the cell or terminal that waits for the call. A call for which no cell waits gets
its error at once. Children of the worker have the standard input of the container, which is empty.
"""

from __future__ import annotations

import builtins
import getpass
import io
import itertools
import sys
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest import debuggers, forks, handles
from lifecycle_magic.guest.output import lane_here, set_lanes

if TYPE_CHECKING:
    from lifecycle_magic.guest.answers import Wait
    from lifecycle_magic.guest.lane import Lane

__all__ = ["Conversation", "StandardInput", "install"]

FIX = (
    "Fix: call the method with .remote() in a cell or terminal of the session that declares its "
    "class, or pass the answer as an argument; to debug a method, run it there with .local(...)"
)
_NO_CALL = "no call runs on this thread"
_ENDED = "the call that asked has ended"
_PASSWORD = "Password: "
_numbers = itertools.count(1)
_plain_input = builtins.input


class Conversation:
    """What one call has asked for: prompts that are open, and debuggers that ran.

    ``had_end``: the user ended the input.
    """

    def __init__(self) -> None:
        self.had_end = False
        self.debuggers = debuggers.Debuggers()
        self._open: set[Wait] = set()

    def wait(self, waiting: Wait) -> Any:
        """Wait for an answer. Raises EOFError if the call ends first, which another thread asks
        in.
        """
        self._open.add(waiting)
        try:
            answer = waiting.wait()
        finally:
            self._open.discard(waiting)
        if answer is None:
            raise EOFError(_ENDED)
        return answer

    def end(self) -> None:
        """End what is open: the call has ended, on the thread that runs this."""
        for waiting in list(self._open):
            waiting.give_up()
        self.debuggers.end()


class StandardInput(io.TextIOBase):
    """``sys.stdin`` of the worker. Each line is a prompt in the caller's cell or terminal."""

    encoding = "utf-8"
    errors = "strict"
    newlines = None
    mode = "r"
    line_buffering = True
    name = "<stdin>"

    def __init__(self, plain: Any) -> None:
        self._plain = plain  # the standard input of the container
        self._rest = ""  # of a line that was read in part
        self._bytes: io.BufferedIOBase | None = None

    @property
    def buffer(self) -> io.BufferedIOBase:
        """The stream of bytes below this one."""
        if self._bytes is None:
            self._bytes = _Bytes(self)
        return self._bytes

    def reconfigure(self, **settings: Any) -> None:
        """Accept the settings of `io.TextIOWrapper.reconfigure`: lines arrive as text."""

    def fileno(self) -> int:
        return 0  # of the container, for subprocesses: it is empty

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Do nothing: ``quit()`` closes ``sys.stdin``, which later calls need."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        if forks.in_child:
            return str(self._plain.readline(-1 if size is None else size)) if self._plain else ""
        if not self._rest:
            line = ask("", is_secret=False)
            if line is None:
                return ""
            self._rest = line + "\n"
        end = len(self._rest) if size is None or size < 0 else size
        found, self._rest = self._rest[:end], self._rest[end:]
        return found

    def read(self, size: int | None = -1, /) -> str:
        """Read ``size`` characters, or up to the end of the input: Ctrl-D in a terminal."""
        found = ""
        while size is None or size < 0 or len(found) < size:
            line = self.readline(-1 if size is None or size < 0 else size - len(found))
            if not line:
                break
            found += line
        return found

    def ask(self, prompt: str) -> str:
        """Return the next line without its end. Raises EOFError at the end of the input."""
        if self._rest:
            return self.readline().removesuffix("\n")
        return _line(prompt, is_secret=False)


class _Bytes(io.BufferedIOBase):
    """The bytes of a `StandardInput`."""

    name = "<stdin>"

    def __init__(self, text: StandardInput) -> None:
        self._text = text
        self._rest = b""

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Do nothing, as `StandardInput.close`."""

    def readline(self, size: int | None = -1, /) -> bytes:
        self._rest = self._rest or self._text.readline().encode()
        end = len(self._rest) if size is None or size < 0 else size
        line, self._rest = self._rest[:end], self._rest[end:]
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        found = b""
        while size is None or size < 0 or len(found) < size:
            line = self.readline(-1 if size is None or size < 0 else size - len(found))
            if not line:
                break
            found += line
        return found

    read1 = read


def _line(prompt: str, *, is_secret: bool) -> str:
    """Return the line that the user enters after ``prompt``. Raises EOFError at the input's end."""
    line = ask(prompt, is_secret=is_secret)
    if line is None:
        raise EOFError("EOF when reading a line")
    return line


def ask(prompt: str, *, is_secret: bool) -> str | None:
    """Return the line that the user enters after ``prompt``, or None for the end of the input.

    Raises EOFError if there is no cell or terminal to ask in.
    """
    from lifecycle_magic.guest import session_connection
    from lifecycle_magic.guest.answers import Wait, value_of
    from lifecycle_magic.wire.frames import Kind
    from lifecycle_magic.wire.nested import LINE, PROMPTS, REFUSED, REMOTE
    from lifecycle_magic.wire.pickling import dumps

    lane = lane_here()
    conversation = _conversation(lane)
    if lane is None or conversation is None:
        raise EOFError(f"input() can't ask here: {_NO_CALL}. {FIX}")
    is_debugger = conversation.debuggers.prepare(sys._getframe(1))
    lane.show_output()
    number, waiting = next(_numbers), Wait()
    session_connection.set_session(*handles.session())
    used = session_connection.connection()
    target = session_connection.Target(PROMPTS, b"", str(number), "input()")
    asked = used.ask(target, REMOTE, (), {}, waiting.receive)
    try:
        with lane.target:
            lane.send(Kind.PROMPT, *dumps((number, prompt, is_secret)))
        answer = conversation.wait(waiting)
    except BaseException:
        used.send(Kind.ABANDON, asked)
        raise
    kind, text = value_of(answer, "input()")
    if kind == LINE:
        return str(text)
    if kind == REFUSED:
        if is_debugger:  # for which EOFError is the command "quit", and a notebook shows no BdbQuit
            raise RuntimeError(f"the debugger can't ask for a command here: {text}. {FIX}")
        raise EOFError(f"input() can't ask here: {text}. {FIX}")
    conversation.had_end = True
    return None


def has_ended_input() -> bool:
    """Return whether the user has ended the input at a prompt of the call that has just ended."""
    lane = lane_here()
    return lane is not None and lane.has_ended_input


def _conversation(lane: Lane | None) -> Conversation | None:
    if lane is None or not lane.has_reader or lane.target.current is None:
        return None
    if lane.conversation is None:
        lane.conversation = Conversation()
    return lane.conversation


_stdin: StandardInput | None = None


def _input(prompt: object = "", /) -> str:
    """Read a line, which is asked for in the cell or terminal that waits for this call."""
    if _stdin is None or sys.stdin is not _stdin or forks.in_child:
        return str(_plain_input(prompt))
    return str(_stdin.ask(str(prompt)))


_input.__name__ = _input.__qualname__ = "input"
_input.__module__ = "builtins"  # by which pickles name it
_plain_getpass = getpass.getpass


def _getpass(prompt: str = _PASSWORD, stream: Any = None, **settings: Any) -> str:
    """Read a line, which is asked for without showing what is typed."""
    if forks.in_child:
        return str(_plain_getpass(prompt, stream, **settings))
    return _line(str(prompt), is_secret=True)


_getpass.__name__ = _getpass.__qualname__ = "getpass"
_getpass.__module__ = "getpass"


def install(lanes: list[Lane]) -> None:
    """Have ``input``, ``getpass.getpass`` and ``sys.stdin`` ask the caller.

    ``lanes`` are those of the worker, which may change.
    """
    global _stdin
    set_lanes(lanes)
    sys.stdin = _stdin = StandardInput(sys.stdin)
    builtins.input = _input
    getpass.getpass = _getpass
