"""Exceptions of the user's code, taken apart so that the kernel can raise them again."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import sys
import traceback
from types import TracebackType
from typing import Any

from lifecycle_magic.exception import SerializationError
from lifecycle_magic.wire.exception_records import record
from lifecycle_magic.wire.exceptions import Links, message, type_name
from lifecycle_magic.wire.messages import ExceptionRecord, Failure, TracebackEntry

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
MAX_SOURCE_CHARS = 1 << 18  # of one source file; a longer file is not sent
MAX_TRACEBACK_CHARS = 1 << 14  # of an exit hook's traceback, which travels in one control line
MAX_SUMMARY_CHARS = 400  # of a message's first line, in the reason of a failed start
MAX_TRACEBACK_ENTRIES = 200  # of one traceback; the middle of an endless recursion is dropped

_DRIVERS = tuple(f"{os.sep}{name}{os.sep}" for name in ("asyncio", "concurrent"))
_VARIADIC = 0x0C  # CO_VARARGS and CO_VARKEYWORDS of a code object's flags


def to_failure(error: BaseException, frames: str = "") -> Failure:
    """Return ``error`` and all exceptions that it refers to, without this package's frames.

    ``frames`` is the id of the frames, if they are kept. Never raise.
    """
    with contextlib.suppress(BaseException):
        records = record(error, _entries)
        return Failure(records, _sources(records), frames)
    name = type_name(type(error))  # an exception that breaks the code above
    try:
        return Failure(
            (ExceptionRecord(name, message(error), lines=_entries(Links.of(error).traceback)),), {}
        )
    except BaseException:
        return Failure((ExceptionRecord(name, ""),), {})


def summarize(error: BaseException) -> str:
    """Return the error's type and the first line of its message. Never raises."""
    first, _, _ = message(error).strip().partition("\n")
    name = type_name(type(error))
    return f"{name}: {first[:MAX_SUMMARY_CHARS]}" if first else name


def format_error(error: BaseException) -> str:
    """Return the traceback as a string, without this package's frames, shortened in the middle.

    Never raises.
    """
    try:
        whole = traceback.TracebackException.from_exception(error)
        _drop_internal_frames(whole)
        text = "".join(whole.format())
    except BaseException:  # its __str__ raises KeyboardInterrupt, say
        text = f"{type_name(type(error))}: {message(error)}\n"
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    half = MAX_TRACEBACK_CHARS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"


def _drop_internal_frames(whole: traceback.TracebackException) -> None:
    todo, seen = [whole], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        kept = [frame for frame in one.stack if not is_internal(frame.filename)]
        one.stack = traceback.StackSummary.from_list(kept)
        inner = (one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ()))
        todo.extend(linked for linked in inner if linked is not None)


def _entries(trace: TracebackType | None) -> tuple[TracebackEntry, ...]:
    found: list[TracebackEntry] = []
    only_internal = True
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not (is_package_file(filename) or (only_internal and is_internal(filename))):
            only_internal = False
            found.append(_entry(trace))
        trace = trace.tb_next
    if len(found) > MAX_TRACEBACK_ENTRIES:
        found[MAX_TRACEBACK_ENTRIES // 2 : -MAX_TRACEBACK_ENTRIES // 2] = []
    return tuple(found)


def _entry(trace: TracebackType) -> TracebackEntry:
    code = trace.tb_frame.f_code
    lineno, columns = trace.tb_lineno or code.co_firstlineno, None
    if sys.version_info >= (3, 11):
        place = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None), None)
        if place is not None and place[0] == lineno and None not in place:
            columns = place[1:]
    flags = code.co_flags & _VARIADIC
    count = code.co_argcount + code.co_kwonlyargcount + flags.bit_count()
    return TracebackEntry(
        filename=code.co_filename,
        lineno=lineno,
        name=code.co_name,
        qualname=getattr(code, "co_qualname", code.co_name),
        first=code.co_firstlineno,
        columns=columns,
        parameters=(
            code.co_varnames[:count],
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            flags,
        ),
    )


def is_package_file(filename: str) -> bool:
    """Return whether a file belongs to this package, so that its frames are hidden from users."""
    return filename.startswith(PACKAGE_FOLDER)


def is_internal(filename: str) -> bool:
    """Return whether a frame belongs to this package, or to the loop or executor that runs a
    coroutine.
    """
    return is_package_file(filename) or any(name in filename for name in _DRIVERS)


def _sources(records: tuple[ExceptionRecord, ...]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for name in {line.filename for one in records for line in one.lines}:
        if os.path.isfile(name):  # a cell has no file here; the kernel has its source
            text = "".join(linecache.getlines(name))
            if 0 < len(text) <= MAX_SOURCE_CHARS:
                sources[name] = text
    return sources


def unpicklable(name: str, value: Any, error: BaseException, did: str = "returned") -> Exception:
    """Return the error of the method ``name`` that returned a value which can't be pickled.

    ``error`` is what pickling has raised.
    """
    from lifecycle_magic.wire.pickling import dumps
    from lifecycle_magic.wire.unpicklable import part_of

    what = message(error)
    if isinstance(error, Exception):
        what = part_of(value, ("the value",), error, dumps)
    return SerializationError(
        f"{name} {did} a {type(value).__name__}, which can't be pickled and so can't travel "
        f"to the kernel: {what}. Fix: return plain data (numbers, strings, arrays, ...), "
        "or keep the object on self and return what describes it."
    )
