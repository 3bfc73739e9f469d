"""Tracebacks of remote frames, each with a code object like the one that raised.

IPython, `traceback`, `inspect` and debuggers find the source of a frame by its file and by the line
where its function begins, its name by the code object, and the underlined part by the positions of
the instruction. Therefore each entry is a function of its own, compiled to be at exactly that
place, and run up to its ``raise``.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from lifecycle_magic.wire.host_settings import MODULES

if TYPE_CHECKING:
    from lifecycle_magic.wire.messages import TracebackEntry

__all__ = ["FRAMES", "REMOTE", "known_as", "made"]

FRAMES = "__lifecycle_frames__"
"""The name, among the globals of a remote frame, of the id of the frames that a container keeps."""

REMOTE = "?"
"""The module name of remote frames."""


class _Elsewhere:
    """The value of a parameter of a remote frame."""

    def __repr__(self) -> str:
        return "<in the container>"


_ELSEWHERE = _Elsewhere()

_LONGEST = 1_000_000
"""Maximum lines of a function. Code takes memory for the distance between two of its lines."""


def made(
    lines: tuple[TracebackEntry, ...], sources: dict[str, str], frames: str = ""
) -> types.TracebackType | None:
    """Return a traceback of the remote frames. ``sources`` are the texts of their files.

    ``frames`` is the id of the frames, if their container keeps them.
    """
    names = {filename: known_as(filename, text) for filename, text in sources.items()}
    trace: types.TracebackType | None = None
    for line in reversed(lines):
        one = line._replace(filename=names.get(line.filename, line.filename))
        try:
            last = _raised(_code(one), one, frames)
            trace = types.TracebackType(trace, last.tb_frame, last.tb_lasti, one.lineno)
        # a line that Python can't have: the exception matters more than its frame
        except Exception:
            continue
    return trace


def known_as(filename: str, text: str) -> str:
    """Register the remote file's source in `linecache`, and return the name that it has there."""
    lines = text.splitlines(keepends=True)
    for known in (filename, *_own_paths(filename)):
        if linecache.getlines(known) == lines:
            return known
    name = f"<container>{filename}"
    # A None for the time of change keeps linecache.checkcache from dropping the entry.
    linecache.cache[name] = (len(text), None, lines, name)
    return name


def _own_paths(filename: str) -> list[str]:
    """Return the possible local paths of a module that was sent as a file."""
    _, travelled, path = filename.partition(f"/{MODULES}/")
    return [os.path.abspath(os.path.join(folder, path)) for folder in sys.path if travelled]


@functools.lru_cache(maxsize=512)
def _code(line: TracebackEntry) -> types.CodeType:
    """Compile a function like that of ``line``, which raises there."""
    _check(line)
    # The function begins in line 1 of its own code and is moved as a whole.
    first = min(line.first, line.lineno) if line.first > 0 else line.lineno
    if line.lineno - first > _LONGEST:
        first = line.lineno
    own = line.lineno - first + 1
    end, start, stop = line.columns or (line.lineno, 0, 0)
    place: dict[str, Any] = {
        "lineno": own,
        "end_lineno": min(max(own, end - first + 1), own + _LONGEST),
        "col_offset": start,
        "end_col_offset": stop,
    }
    function = ast.FunctionDef(
        name="remote",
        args=_arguments(line),
        body=[ast.Raise(exc=ast.Name("RuntimeError", ast.Load(), **place), cause=None, **place)],
        decorator_list=[],
        lineno=1,
        end_lineno=place["end_lineno"],
        col_offset=0,
        end_col_offset=stop,
    )
    if sys.version_info >= (3, 12):
        function.type_params = []
    module = ast.fix_missing_locations(ast.Module(body=[function], type_ignores=[]))
    outer = compile(module, line.filename, "exec")
    [code] = [one for one in outer.co_consts if isinstance(one, types.CodeType)]
    code = code.replace(co_name=line.name, co_firstlineno=first)
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=line.qualname)
    return code


def _check(line: TracebackEntry) -> None:
    """Raise ValueError if no code can have such a line and such parameters."""
    names, count, positional, keywords, flags = line.parameters
    most = 1 << 30  # lines and columns are C integers
    named = count + keywords + bool(flags & 0x04) + bool(flags & 0x08)
    if (
        not 0 <= positional <= count
        or keywords < 0
        or named != len(names)
        or not all(0 <= one < most for one in (line.lineno, *(line.columns or ())))
        or line.first >= most
    ):
        raise ValueError("a line that no code has")


def _arguments(line: TracebackEntry) -> ast.arguments:
    names, count, positional, keywords, _ = line.parameters
    args = [ast.arg(arg=name, lineno=1, col_offset=0) for name in names]
    plain, named, rest = args[:count], args[count : count + keywords], args[count + keywords :]
    variadic = bool(line.parameters[4] & 0x04)
    return ast.arguments(
        posonlyargs=plain[:positional],
        args=plain[positional:],
        vararg=rest[0] if variadic else None,
        kwonlyargs=named,
        kw_defaults=[None] * keywords,
        kwarg=rest[-1] if line.parameters[4] & 0x08 else None,
        defaults=[],
    )


def _raised(code: types.CodeType, line: TracebackEntry, frames: str) -> types.TracebackType:
    """Run the function up to its ``raise``, and return its entry in the traceback."""
    names, count, _, keywords, _ = line.parameters
    space = {"__name__": REMOTE, "__file__": line.filename}
    if frames:
        space[FRAMES] = frames
    function = types.FunctionType(code, space)
    values = [_ELSEWHERE] * count
    trace = None
    try:
        function(*values, **dict.fromkeys(names[count : count + keywords], _ELSEWHERE))
    except RuntimeError as error:  # only its place matters
        trace = error.__traceback__
    assert trace is not None
    assert trace.tb_next is not None
    return trace.tb_next
