"""Raising exceptions here: remote ones as they were there, none with frames of ours."""

from __future__ import annotations

import copy
import functools
import linecache
import os
import sys
import types
from typing import Any

from lifecycle_magic.exception import RemoteError
from lifecycle_magic.wire.messages import Failure, Line
from lifecycle_magic.wire.pickling import loads

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def rebuild(failure: Failure, where: str, *, stays: bool = True) -> BaseException:
    """The exception that ``failure`` was, with a traceback of the remote frames.

    ``where`` names class and method for an exception that can't be made again: it comes as a
    `RemoteError` with the original's type and text. ``stays`` is false where its container goes.
    """
    error = _exception(failure, where, stays)
    error.__traceback__ = _traceback(failure.lines, failure.sources)
    if failure.cause is not None:
        error.__cause__ = rebuild(failure.cause, where, stays=stays)
    if failure.context is not None:
        error.__context__ = rebuild(failure.context, where, stays=stays)
    error.__suppress_context__ = failure.suppress_context
    hide_plumbing(error)
    return error


def alike(error: BaseException) -> BaseException:
    """An exception for one more waiter: raised in two threads, one object would get both their
    frames.
    """
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    twin.__traceback__ = error.__traceback__
    twin.__cause__ = error.__cause__
    hide_plumbing(twin)
    return twin


def _exception(failure: Failure, where: str, stays: bool) -> BaseException:
    if failure.type_name in ("SystemExit", "GeneratorExit"):
        # Raised here it would end the kernel, or a generator that has nothing to do with it.
        detail = "sys.exit() or exit()" if failure.type_name == "SystemExit" else "a GeneratorExit"
        code = f"(code {failure.text or 0})"
        if not stays:
            return RemoteError(
                f"{where}, or the constructor, called {detail} {code}, so there is no container: "
                "to say what is wrong raise an exception"
            )
        return RemoteError(
            f"{where} called {detail} {code}. The container stays warm; "
            "to report a failure raise an exception, to end the container use %lifecycle stop"
        )
    if failure.pickled is not None:
        try:
            error = loads(failure.pickled)
        except Exception:  # its class is not here, or does not unpickle here
            error = None
        if isinstance(error, ModuleNotFoundError) and error.name:
            from lifecycle_magic.missing import mend

            told = f"{error}. {mend(error.name, where.partition('.')[0])}"
            return ModuleNotFoundError(told, name=error.name, path=error.path)
        if isinstance(error, BaseException):
            return error
    return RemoteError(f"{where} raised {failure.type_name}: {failure.text}")


def _traceback(lines: tuple[Line, ...], sources: dict[str, str]) -> types.TracebackType | None:
    if not lines:
        return None
    import tblib

    names = {filename: _offer(filename, text) for filename, text in sources.items()}
    chain: dict[str, Any] | None = None
    for line in reversed(lines):
        filename = names.get(line.filename, line.filename)
        code = {"co_filename": filename, "co_name": line.name}
        frame = {
            "f_code": code,
            "f_lineno": line.lineno,
            "f_globals": {"__name__": "?", "__file__": filename},
        }
        chain = {"tb_frame": frame, "tb_lineno": line.lineno, "tb_next": chain}
    traceback: types.TracebackType | None = tblib.Traceback.from_dict(chain).as_traceback()
    return traceback


def _offer(filename: str, text: str) -> str:
    """Make the remote file's source known to `linecache`; the name under which it is known."""
    lines = text.splitlines(keepends=True)
    if linecache.getlines(filename) == lines:
        return filename
    name = f"<container>{filename}"
    # A None for the time of change keeps linecache.checkcache from dropping the entry.
    linecache.cache[name] = (len(text), None, lines, name)
    return name


def hide_plumbing(error: BaseException) -> None:
    """Have IPython show ``error`` without our own frames.

    IPython asks an exception for its rendering by ``_render_traceback_``
    (`InteractiveShell.showtraceback`).
    """
    if "IPython" in sys.modules:
        try:
            error._render_traceback_ = functools.partial(_render, error)  # type: ignore[attr-defined]
        except AttributeError:
            pass  # a class with __slots__: then our frames are seen


def _render(error: BaseException) -> list[str]:
    import IPython

    shell = IPython.get_ipython()
    strip(error)
    return shell.InteractiveTB.structured_traceback(  # type: ignore[no-any-return]
        type(error), error, error.__traceback__, tb_offset=shell.InteractiveTB.tb_offset
    )


def strip(error: BaseException) -> BaseException:
    """Take our own frames out of the traceback of ``error``, in place."""
    kept: list[types.TracebackType] = []
    tb = error.__traceback__
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(PACKAGE):
            kept.append(tb)
        tb = tb.tb_next
    for tb, following in zip(kept, [*kept[1:], None], strict=False):
        tb.tb_next = following
    error.__traceback__ = kept[0] if kept else None
    return error
