"""Taking an exception apart, so that the kernel can raise it again with the frames it had here."""

from __future__ import annotations

import linecache
import os
import pickle
import traceback
from typing import Any

from lifecycle_magic.wire.messages import Failure, Line
from lifecycle_magic.wire.pickling import dumps

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_SOURCE = 1 << 18  # of a file in characters; a longer one is shown without its lines
MAX_TOLD = 1 << 14  # of an exit hook's traceback in characters: it travels in one control line
MAX_LINES = 200  # of a traceback; the middle of a runaway recursion tells nothing more


def take_apart(error: BaseException) -> Failure:
    """``error`` with its causes and contexts, without our own frames. Never raises."""
    return _take_apart(error, set())


def told(error: BaseException) -> str:
    """The traceback as text, without our own frames; of a very long one its head and its end."""
    whole = traceback.TracebackException.from_exception(error)
    whole.stack = traceback.StackSummary.from_list(
        [frame for frame in whole.stack if not _is_plumbing(frame.filename)]
    )
    text = "".join(whole.format())
    if len(text) <= MAX_TOLD:
        return text
    half = MAX_TOLD // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"


def _take_apart(error: BaseException, seen: set[int]) -> Failure:
    seen.add(id(error))
    lines = _lines(error.__traceback__)
    return Failure(
        type_name=_type_name(type(error)),
        text=_text(error),
        pickled=_pickled(error),
        lines=lines,
        sources=_sources(lines),
        cause=_linked(error.__cause__, seen),
        context=_linked(error.__context__, seen),
        suppress_context=error.__suppress_context__,
    )


def _linked(error: BaseException | None, seen: set[int]) -> Failure | None:
    if error is None or id(error) in seen or len(seen) > 20:
        return None
    return _take_apart(error, seen)


def _type_name(cls: type) -> str:
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its message can't be had: {type(broken).__name__}>"


def _pickled(error: BaseException) -> bytes | None:
    """The exception alone, if it survives the way there: many need more than ``args`` to be
    made again.
    """
    bare: Any = error
    links = bare.__traceback__, bare.__cause__, bare.__context__, bare.__suppress_context__
    try:
        bare.__traceback__ = bare.__cause__ = bare.__context__ = None
        data, buffers = dumps(bare)
        # cloudpickle's buffers would have to travel beside it; an exception is no place for
        # large arrays.
        if buffers or type(pickle.loads(data)) is not type(error):
            return None
        return data
    except Exception:
        return None
    finally:
        bare.__traceback__, bare.__cause__, bare.__context__, bare.__suppress_context__ = links


def _lines(tb: Any) -> tuple[Line, ...]:
    found: list[Line] = []
    ours_first = True
    for frame, lineno in traceback.walk_tb(tb):
        filename = frame.f_code.co_filename
        if filename_is_ours(filename) or (ours_first and _is_plumbing(filename)):
            continue
        ours_first = False
        found.append(Line(filename, lineno or 0, frame.f_code.co_name))
    if len(found) > MAX_LINES:
        found[MAX_LINES // 2 : -MAX_LINES // 2] = []
    return tuple(found)


def filename_is_ours(filename: str) -> bool:
    """Whether a frame of this file is plumbing, which no user wants to read."""
    return filename.startswith(OURS + os.sep)


def _is_plumbing(filename: str) -> bool:
    """Ours, or the event loop's that drives a coroutine for us."""
    return filename_is_ours(filename) or (os.sep + "asyncio" + os.sep) in filename


def _sources(lines: tuple[Line, ...]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for name in {line.filename for line in lines}:
        if os.path.isfile(name):  # a cell's code has no file here; the kernel has its source
            text = "".join(linecache.getlines(name))
            if 0 < len(text) <= MAX_SOURCE:
                sources[name] = text
    return sources
