"""What the larger frames carry.

Named tuples: a frozen dataclass takes twice as long to define, and a container defines them on its
way up.
"""

from __future__ import annotations

from typing import NamedTuple

from lifecycle_magic.exception import WireError
from lifecycle_magic.marks import WebMarks
from lifecycle_magic.wire.pickling import loads


def output(payload: memoryview) -> tuple[str, str]:
    """The stream's name and the text of an OUTPUT frame. Raises `WireError` if it has none."""
    try:
        stream, text = loads(payload)
    except Exception as error:
        raise WireError(f"output that can't be read: {type(error).__name__}: {error}") from None
    return str(stream), str(text)


def failure(payload: memoryview) -> Failure:
    """What a FAILURE frame holds. Raises `WireError` if it holds none."""
    try:
        found = loads(payload)
    except Exception as error:
        raise WireError(f"a failure that can't be read: {type(error).__name__}: {error}") from None
    if not isinstance(found, Failure):
        raise WireError(f"a failure that is a {type(found).__name__}")
    return found


class Setup(NamedTuple):
    """The first frame after the handshake: all that the worker needs to make the instance.

    ``cls`` is the pickled class, ``arguments`` the pickled ``(args, kwargs)`` of its
    constructor. ``env`` holds the secrets too; that is why it travels here and not in the
    engine's hands. ``web`` are the names of the methods that answer HTTP, with their marks.
    """

    cls: bytes
    arguments: bytes
    enter: tuple[str, ...]
    exit: tuple[str, ...]
    env: dict[str, str]
    shared_limit: int
    web: tuple[tuple[str, WebMarks], ...] = ()


class Swap(NamedTuple):
    """New code for the class of the live instance, and the ``exit`` hooks and web methods that
    it has now.
    """

    cls: bytes
    exit: tuple[str, ...]
    web: tuple[tuple[str, WebMarks], ...] = ()


class Line(NamedTuple):
    """One entry of a remote traceback."""

    filename: str
    lineno: int
    name: str


class Failure(NamedTuple):
    """An exception, taken apart so that its rebuilding can't fail as a whole.

    ``pickled`` is None where the exception does not survive pickling; ``text`` then stands for it.
    ``sources`` maps each file of ``lines`` that exists where the exception was raised to its text.
    """

    type_name: str
    text: str
    pickled: bytes | None
    lines: tuple[Line, ...]
    sources: dict[str, str]
    cause: Failure | None = None
    context: Failure | None = None
    suppress_context: bool = False
