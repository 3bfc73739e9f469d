"""``sys.stdin``, ``input`` and ``getpass`` of the worker, which ask the caller of the method.

`lifecycle_magic.guest.prompts` asks. Children of the worker have the standard input of the
container, which is empty.
"""

from __future__ import annotations

import builtins
import contextlib
import getpass
import io
import sys
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest import forks
from lifecycle_magic.guest.output import lane_here, set_lanes

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane

__all__ = ["StandardInput", "install"]

_plain_input = builtins.input


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
            self._bytes = _prompts().Bytes(self)
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
            line = _prompts().ask("", is_secret=False)
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
        return str(_prompts().line(prompt, is_secret=False))


def _prompts() -> Any:
    """Return the module that asks. Few workers load it."""
    lane = lane_here()
    with lane.target if lane is not None else contextlib.nullcontext():
        # An interrupted import would break every later one.
        from lifecycle_magic.guest import prompts
    return prompts


_stdin: StandardInput | None = None


def _input(prompt: object = "", /) -> str:
    """Read a line, which is asked for in the cell or terminal that waits for this call."""
    if _stdin is None or sys.stdin is not _stdin or forks.in_child:
        return str(_plain_input(prompt))
    return str(_stdin.ask(str(prompt)))


_input.__name__ = _input.__qualname__ = "input"
_input.__module__ = "builtins"  # by which pickles name it
_plain_getpass = getpass.getpass


def _getpass(prompt: str = "Password: ", stream: Any = None, **settings: Any) -> str:
    """Read a line, which is asked for without showing what is typed."""
    if forks.in_child:
        return str(_plain_getpass(prompt, stream, **settings))
    return str(_prompts().line(str(prompt), is_secret=True))


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
