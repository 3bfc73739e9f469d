"""Content of the larger frames.

The classes are named tuples: a frozen dataclass takes twice as long to define, and a container
defines them while it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lifecycle_magic.decorators.marks import WebMarks
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.host_settings import HostSettings
from lifecycle_magic.wire.nested import Invitation
from lifecycle_magic.wire.pickling import loads


def output(payload: memoryview) -> tuple[str, str]:
    """Return the stream's name and the string of an OUTPUT frame.

    Raises `WireError` if the payload holds neither.
    """
    try:
        stream, text = loads(payload)
        if not isinstance(stream, str) or not isinstance(text, str):
            raise TypeError("it is not a pair of strings")
        return stream, text
    except BaseException as error:
        raise _unreadable("output", error) from None


def prompt(payload: memoryview) -> tuple[int, str, bool]:
    """Return the number and the string of a PROMPT frame, and whether it asks for a password.

    Raises `WireError` if the payload holds something else.
    """
    try:
        number, text, is_secret = loads(payload)
        if (type(number), type(text), type(is_secret)) != (int, str, bool):
            raise TypeError("it is not a number, a string and a flag")
        return number, text, is_secret
    except BaseException as error:
        raise _unreadable("a prompt", error) from None


def failure(payload: memoryview) -> Failure:
    """Return the content of a FAILURE frame. Raises `WireError` if the payload holds no failure."""
    try:
        found = loads(payload)
    except BaseException as error:
        raise _unreadable("a failure", error) from None
    if not isinstance(found, Failure) or type(found.frames) is not str:
        raise WireError(f"a failure that is a {type(found).__name__}")
    return found


def asgi(payload: memoryview, buffers: Sequence[Any]) -> list[Any]:
    """Return the ASGI messages of an ITEM or END frame. Raises `WireError` if there are none."""
    try:
        found = loads(payload, buffers=buffers)
    except BaseException as error:
        raise _unreadable("messages", error) from None
    if not isinstance(found, list):
        raise WireError(f"messages that are a {type(found).__name__}")
    return found


def _unreadable(what: str, error: BaseException) -> WireError:
    """Return the error for a payload that can't be read.

    Code in a payload may raise anything, also SystemExit, which would end the thread that reads.
    """
    if type(error) is KeyboardInterrupt:
        raise error  # the user's, on the main thread
    from lifecycle_magic.wire.exceptions import message, name_of

    return WireError(f"{what} that can't be read: {name_of(type(error))}: {message(error)}")


class Setup(NamedTuple):
    """The first frame after the handshake: all that the worker needs to create the instance.

    ``cls`` is the pickled class, ``arguments`` the pickled ``(args, kwargs)`` of its constructor.
    ``env`` holds the secrets too, so it travels here and never through the engine. ``web`` are the
    names of the methods that answer HTTP, with their marks. ``host_settings`` are the settings that
    the worker takes over from the kernel's machine, if any. ``session`` is for calls of its own,
    and ``session_id`` a part of the names of calls. ``keeps_frames``: a debugger may look at the
    frames of the last exception. ``in_notebook``: the cells of a notebook show the figures that a
    call leaves open. ``secrets`` names the variables whose values no file of a build hook may hold.
    ``key`` identifies the code, and ``files`` the modules that came with it: see `Adopted`.
    """

    cls: bytes
    arguments: bytes
    enter: tuple[str, ...]
    exit: tuple[str, ...]
    env: dict[str, str]
    shared_limit: int
    web: tuple[tuple[str, WebMarks], ...] = ()
    host_settings: HostSettings | None = None
    session: Invitation | None = None
    session_id: str = ""
    keeps_frames: bool = False
    secrets: tuple[str, ...] = ()
    key: str = ""
    files: str = ""
    in_notebook: bool = False

    def __repr__(self) -> str:
        """Return the shape without values: ``env``, arguments and code may hold secrets."""
        return f"Setup(enter={self.enter!r}, exit={self.exit!r}, env={sorted(self.env)!r})"


class Swap(NamedTuple):
    """New code for the class of the live instance, with its current ``exit`` hooks and web
    methods. ``key`` identifies the code.
    """

    cls: bytes
    exit: tuple[str, ...]
    web: tuple[tuple[str, WebMarks], ...] = ()
    key: str = ""

    def __repr__(self) -> str:
        """Return the shape without the code, which may hold secrets."""
        return f"Swap({len(self.cls)} bytes, exit={self.exit!r})"


class Adopt(NamedTuple):
    """The first frame of a kernel that adopts a container: see the same fields of `Setup`."""

    session: Invitation | None
    session_id: str
    keeps_frames: bool


class Adopted(NamedTuple):
    """The answer to `Adopt`: the pickled arguments of the instance, and the key and the files of
    the code that it has now.
    """

    arguments: bytes
    key: str
    files: str


OF_CLASS = " (of a class)"
"""Ends what a `SwapConflict` names that no live class can change, as in ``the slots of M (b)``."""
OF_MEMORY = " (the results that it remembers)"
"""Ends a name that a `SwapConflict` names for results of code or values that changed."""


class SwapConflict(Exception):
    """New code does not fit the live objects in a container. The arguments name what differs."""

    def __str__(self) -> str:
        others = [one for one in map(str, self.args) if not one.endswith((OF_CLASS, OF_MEMORY))]
        reasons = []
        if others:
            listed = ", ".join(others)
            reasons.append(f"{listed} changed both in the notebook and in the container")
        if memories := self._ending(OF_MEMORY):
            reasons.append(f"{memories} may remember results of what changed")
        if classes := self._ending(OF_CLASS):
            reasons.append(f"{classes} changed")
        return ", and ".join(reasons)

    def _ending(self, kind: str) -> str:
        names = map(str, self.args)
        return ", ".join(one.removesuffix(kind) for one in names if one.endswith(kind))


class TracebackEntry(NamedTuple):
    """One entry of a remote traceback.

    ``first`` is the first line of its function. ``columns`` is what Python 3.11 and newer
    underline: the last line, the first and the last column. ``parameters`` are the names of the
    function's parameters, with the four numbers that `inspect.getargs` reads from its code.
    """

    filename: str
    lineno: int
    name: str
    qualname: str
    first: int
    columns: tuple[int, int, int] | None = None
    parameters: tuple[tuple[str, ...], int, int, int, int] = ((), 0, 0, 0, 0)


class ExceptionRecord(NamedTuple):
    """One exception, taken apart so that rebuilding it can't fail as a whole.

    ``cls`` is the pickled class, or the reason why there is none. ``own`` is the result of its own
    ``__reduce__`` (None: it has none; empty: it failed), ``state`` the rest: ``args``, fields,
    slots and attributes. ``lost`` names values that could not be part of ``state``. ``group`` has
    the message and the members of an exception group. Numbers are indices of other records.
    """

    type_name: str
    text: str
    cls: bytes | str = ""
    own: bytes | None = None
    state: bytes | None = None
    lost: tuple[str, ...] = ()
    group: tuple[str, tuple[int, ...]] | None = None
    cause: int | None = None
    context: int | None = None
    suppress_context: bool = False
    lines: tuple[TracebackEntry, ...] = ()


class Failure(NamedTuple):
    """An exception, which is the first of ``records``, and the exceptions that it refers to.

    ``sources`` maps each source file of their tracebacks that exists where they were raised to its
    content. ``frames`` is the id of the frames, if the container keeps them for a debugger.
    """

    records: tuple[ExceptionRecord, ...]
    sources: dict[str, str]
    frames: str = ""
