"""Prompts of the running method, which the caller's cell or terminal shows.

    worker → kernel   PROMPT over the call's data socket, after what the call has printed
    worker → session  ASK under the key `PROMPTS`, as a call of another class: the answer is wanted
    session → worker  RESULT: the line, the end of the input, or why no line can be read

A call for which no cell waits gets its error at once. This module is loaded for the first prompt.
"""

from __future__ import annotations

import io
import itertools
import sys
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest import container_connection, debuggers
from lifecycle_magic.guest.output import lane_here
from lifecycle_magic.guest.session_answers import Wait, value_of
from lifecycle_magic.guest.session_connection import CallTarget
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import LINE, PROMPTS, REFUSED, REMOTE
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.standard_input import StandardInput

__all__ = ["Bytes", "Conversation", "ask", "line"]

FIX = (
    "Fix: call the method with .remote() in a cell or terminal of the session that declares its "
    "class, or pass the answer as an argument; to debug a method, run it there with .local(...)"
)
_NO_CALL = "no call runs on this thread"
_ENDED = "the call that asked has ended"
_numbers = itertools.count(1)


class Conversation:
    """The questions of one call: prompts that are open, and debuggers that ran.

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


class Bytes(io.BufferedIOBase):
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


def line(prompt: str, *, is_secret: bool) -> str:
    """Return the line that the user enters after ``prompt``. Raises EOFError at the input's end."""
    found = ask(prompt, is_secret=is_secret)
    if found is None:
        raise EOFError("EOF when reading a line")
    return found


def ask(prompt: str, *, is_secret: bool) -> str | None:
    """Return the line that the user enters after ``prompt``, or None for the end of the input.

    Raises EOFError if there is no cell or terminal to ask in.
    """
    lane = lane_here()
    conversation = _conversation(lane)
    if lane is None or conversation is None:
        raise EOFError(f"input() can't ask here: {_NO_CALL}. {FIX}")
    is_debugger = conversation.debuggers.prepare(sys._getframe(1))
    lane.show_output()
    number, waiting = next(_numbers), Wait()
    used = container_connection.connection()
    target = CallTarget(PROMPTS, b"", str(number), "input()")
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


def _conversation(lane: Lane | None) -> Conversation | None:
    if lane is None or not lane.has_reader or lane.target.current is None:
        return None
    if lane.conversation is None:
        lane.conversation = Conversation()
        lane.at_end.append(lane.end_conversation)
    return lane.conversation
