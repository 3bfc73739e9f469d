"""Remote exceptions, rebuilt where their caller is, with their remote frames."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from lifecycle_magic.callers import tracebacks
from lifecycle_magic.exception import RemoteError
from lifecycle_magic.wire.exception_records import Rebuilder
from lifecycle_magic.wire.exceptions import Links, add_note, make_blank
from lifecycle_magic.wire.messages import ExceptionRecord, Failure

__all__ = ["blocking_call_error", "rebuild"]


def rebuild(
    failure: Failure,
    where: str,
    *,
    stays: bool = True,
    explain: Callable[[BaseException, str], None] = lambda error, where: None,
) -> BaseException:
    """Return the exception in ``failure``, with a traceback of the remote frames.

    ``where`` names class and method for an exception that cannot be rebuilt: it becomes a
    `RemoteError` with the original's type and text. ``stays`` is false if its container stops. An
    exception that would end an event loop, a thread or a generator here becomes a `RemoteError`
    too; `blocking_call_error` returns the original. ``explain(error, where)`` may add notes.
    """

    def stand_in(record: ExceptionRecord, cls: type | None, why: str) -> BaseException:
        return _stand_in(record, cls, f"{where} raised {_described(record)}", why)

    errors = Rebuilder(failure.records, stand_in).rebuild()
    for error, record in zip(errors, failure.records, strict=True):
        trace = tracebacks.made(record.lines, failure.sources, failure.frames)
        Links.of(error)._replace(traceback=trace).set_on(error)
        explain(error, where)
    return _detached(errors[0], failure.records[0], where, stays)


def blocking_call_error(error: BaseException) -> BaseException:
    """Return what a blocking call raises in place of ``error``, which awaitables raise."""
    original = error.original if isinstance(error, RemoteError) else None
    if original is None:
        return error
    if isinstance(original, SystemExit) and threading.current_thread() is not _MAIN:
        return error  # it would end the thread without a message
    return original


_MAIN = threading.main_thread()


def _detached(
    error: BaseException, record: ExceptionRecord, where: str, stays: bool
) -> BaseException:
    """Return ``error``, or the exception that coroutines and generators can pass on instead."""
    if isinstance(error, SystemExit):
        held = RemoteError(_exited(f"sys.exit() or exit() (code {error.code})", where, stays))
        held.code = error.code
        if not stays:
            add_note(error, str(held))
    elif isinstance(error, GeneratorExit):
        return _linked(RemoteError(_exited("a GeneratorExit", where, stays)), error)
    elif isinstance(error, (StopIteration, CancelledError, KeyboardInterrupt)):
        held = RemoteError(f"{where} raised {_described(record)}")
    else:
        return error
    held.original = error
    return _linked(held, error)


def _exited(what: str, where: str, stays: bool) -> str:
    if not stays:
        return (
            f"{where}, or the constructor, called {what}, so there is no container. "
            "Fix: raise an exception to report what is wrong"
        )
    return (
        f"{where} called {what}. The container stays warm. "
        "Fix: raise an exception to report a failure; use %lifecycle stop to end the container"
    )


def _linked(error: RemoteError, original: BaseException) -> RemoteError:
    Links.of(original).set_on(error)
    return error


def _described(record: ExceptionRecord) -> str:
    return f"{record.type_name}: {record.text}" if record.text else record.type_name


def _stand_in(record: ExceptionRecord, cls: type | None, what: str, why: str) -> BaseException:
    text = f"{what} (it can't be rebuilt here: {why})"
    if cls is not None and issubclass(cls, Exception):
        try:
            error = make_blank(_also(cls))
            error.args = (text,)
            return error
        except BaseException:  # a class that can't be subclassed
            pass
    return RemoteError(text)


class _Unrebuilt(RemoteError):
    """A `RemoteError` that is also of the type that it stands for.

    It is a base of the classes that `_also` creates.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        pass  # the other base's own must not run

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteError, (str(self),)


def _also(cls: type) -> type:
    # Not by calling the metaclass, which may be written in Python.
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for name in ("code", "original"):  # the other base's, if it has them
        having = [vars(one)[name] for one in cls.__mro__ if name in vars(one)]
        if having:
            names[name] = having[0]
    return type.__new__(type(cls), cls.__name__, (_Unrebuilt, cls), names)
