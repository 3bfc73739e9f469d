"""Requests to the queues and dictionaries of a session, from its kernel and from its containers.

Items, keys and values travel as pickles, made and read by the caller alone.
"""

from __future__ import annotations

import functools
import importlib
import secrets
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from lifecycle_magic.callers.methods_with_aio import MethodWithAio, with_aio
from lifecycle_magic.decorators import travel
from lifecycle_magic.exception import InvalidError, NotFoundError, SerializationError
from lifecycle_magic.threads.futures import await_future
from lifecycle_magic.wire.pickling import dumps, loads

__all__ = [
    "EMPTY", "EPHEMERAL", "FULL", "MISSING", "NAMES", "OK", "TOO_LARGE",
    "Answer", "NamedObjects", "ObjectRequest", "Packed", "Request", "SharedObject", "Transport",
    "asks", "other_session", "pack", "unpack",
]  # fmt: skip

Packed = tuple[bytes, tuple[bytes, ...]]
"""A pickle, and the large buffers outside of it."""

Request = tuple[str, str, bool, str, tuple[Any, ...]]
"""``queue`` or ``dict``, its name, whether it may be created, a method and its arguments."""

Answer = tuple[str, Any]
"""How a request ended, and its value."""

OK = "ok"
EMPTY = "empty"
FULL = "full"
MISSING = "missing"
TOO_LARGE = "too large"

NAMES = "names"
"""The request for all names of a kind, of no object."""

EPHEMERAL = "\n"
"""The start of names of objects without a name: no user can give it."""


class Transport(Protocol):
    """The way of requests to a session."""

    def start(self, request: Request) -> Future[Answer]:
        """Send a request. Cancelling its future withdraws it."""

    def wait(self, future: Future[Answer]) -> Answer:
        """Return the answer."""


other_session: ContextVar[Transport | None] = ContextVar("other_session", default=None)
"""The way to another session than this process's own, for the requests of this context."""


def _transport() -> Transport:
    """Return what carries requests to the session that this process is, or belongs to."""
    if (other := other_session.get()) is not None:
        return other
    if (handles := travel.container_handles()) is not None:
        found: Transport = handles.object_transport()
        return found
    # By its name: a container has this module too, and no session.
    return cast("Transport", importlib.import_module("lifecycle_magic.session.objects"))


Self = TypeVar("Self", bound="SharedObject")


class SharedObject:
    """A queue or dictionary by its name. It is looked up when it is first used."""

    _kind = ""
    _length: tuple[Any, ...] = ("len",)  # a request that changes nothing

    def __init__(self, name: str, create: bool, is_ephemeral: bool = False) -> None:
        self._name = name
        self._create = create
        self._is_ephemeral = is_ephemeral

    @classmethod
    def _named(cls, name: object, create: bool) -> Any:
        if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isprintable():
            raise InvalidError(
                f"{cls.__name__}.from_name({name!r}) is not a valid name. Fix: use a string of up "
                "to 64 printable characters"
            )
        return cls(name, create)

    @classmethod
    def _of_no_name(cls) -> Any:
        return cls(f"{EPHEMERAL}{secrets.token_hex(16)}", True, True)

    @property
    def name(self) -> str | None:
        """The name, None for an ephemeral one."""
        return None if self._is_ephemeral else self._name

    @with_aio
    def hydrate(self, client: object = None) -> Any:
        """Return the object: it is looked up when it is first used."""
        return self

    def _request(self, method: str, arguments: tuple[Any, ...]) -> Request:
        return self._kind, self._name, self._create, method, arguments

    def _ask(self, method: str, *arguments: Any) -> Answer:
        transport = _transport()
        future = transport.start(self._request(method, arguments))
        return self._checked(transport.wait(future))

    async def _ask_aio(self, method: str, *arguments: Any) -> Answer:
        future = _transport().start(self._request(method, arguments))
        return self._checked(await await_future(future))

    def _checked(self, answer: Answer) -> Answer:
        kind = type(self).__name__
        if answer[0] == MISSING:
            shown = "it was deleted" if self._is_ephemeral else f"there is no {self._name!r}"
            raise NotFoundError(
                f"{kind}: {shown} in this session. Fix: check the name, or write "
                f"{kind}.from_name(name, create_if_missing=True)"
            )
        if answer[0] == TOO_LARGE:
            raise InvalidError(
                f"{kind}: this does not fit: a {self._kind} holds at most 1 GiB, and a partition "
                "of a queue 5000 items. Fix: put large data into a volume, and its path here"
            )
        return answer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._create, self._is_ephemeral)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._name == self._name

    def __hash__(self) -> int:
        return hash((self._kind, self._name))

    def __repr__(self) -> str:
        made = "ephemeral()" if self._is_ephemeral else f"from_name({self._name!r})"
        return f"{type(self).__name__}.{made}"

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ephemeral:
            transport = _transport()
            transport.wait(transport.start(self._request("delete", ())))

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_ephemeral:
            await await_future(_transport().start(self._request("delete", ())))


def pack(value: Any, what: str) -> Packed:
    """Return a value as it travels. ``what`` describes it in the `SerializationError`."""
    try:
        data, buffers = dumps(value)
    except Exception as error:
        raise SerializationError(
            f"{what} can't be pickled, so other processes can't have it: {error}. Fix: pass plain "
            "data"
        ) from None
    return data, tuple(bytes(memoryview(one).cast("B")) for one in buffers)


def unpack(packed: Packed) -> Any:
    """Return a value that has travelled. Arrays in it can be written to."""
    data, buffers = packed
    return loads(data, buffers=[bytearray(one) for one in buffers])


P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=SharedObject)


def _check_keywords(where: str, given: dict[str, object], known: tuple[str, ...]) -> None:
    if given:
        from lifecycle_magic.modal_api.table import check_keywords  # every kernel has this module

        check_keywords(where, given, known)


class NamedObjects(Generic[S]):
    """The queues or dictionaries of the session that have a name: `Queue.objects`."""

    def __init__(self, kind: type[S]) -> None:
        self._kind = kind
        self._where = f"{kind.__name__}.objects"

    @with_aio
    def list(self, /, *, max_objects: int | None = None, **of_modal: object) -> list[S]:
        """Return at most ``max_objects`` of them, sorted by their names."""
        _check_keywords(f"{self._where}.list", of_modal, ("max_objects",))
        return [self._kind(name, False) for name, _ in self.counts()][:max_objects]

    @with_aio
    def create(self, /, name: str, *, allow_existing: bool = False, **of_modal: object) -> None:
        """Create an empty one. Raises `InvalidError` if there is one, unless ``allow_existing``."""
        _check_keywords(f"{self._where}.create", of_modal, ("allow_existing",))
        made: S = self._kind._named(name, True)
        if not allow_existing and name in dict(self.counts()):
            raise InvalidError(
                f"{self._where}.create: there is a {made._kind} {name!r} already. "
                "Fix: give another name, or allow_existing=True"
            )
        made._ask(*made._length)

    @with_aio
    def delete(self, /, name: str, *, allow_missing: bool = False, **of_modal: object) -> None:
        """Delete it with its content. Raises `NotFoundError` unless ``allow_missing``."""
        _check_keywords(f"{self._where}.delete", of_modal, ("allow_missing",))
        found: S = self._kind._named(name, False)
        transport = _transport()
        answer = transport.wait(transport.start(found._request("delete", ())))
        if not allow_missing:
            found._checked(answer)

    def counts(self) -> Sequence[tuple[str, int]]:
        """Return the names, and how many items or keys each has."""
        transport = _transport()
        found: Sequence[tuple[str, int]] = transport.wait(
            transport.start((self._kind._kind, "", False, NAMES, ()))
        )[1]
        return found


class ObjectRequest(Generic[T]):
    """A request, and what makes the result of its answer."""

    def __init__(
        self, method: str, arguments: tuple[Any, ...], finish: Callable[[Answer], T]
    ) -> None:
        self.method = method
        self.arguments = arguments
        self.finish = finish


def asks(
    prepare: Callable[Concatenate[Any, P], ObjectRequest[T]],
) -> MethodWithAio[P, T, Coroutine[Any, Any, T]]:
    """Make a method of a `SharedObject`, with a form for coroutines, from what prepares its
    request.
    """
    returned = prepare.__annotations__["return"]
    prepare.__annotations__["return"] = returned.removeprefix("ObjectRequest[").removesuffix("]")

    @functools.wraps(prepare)
    def call(self: SharedObject, *args: P.args, **kwargs: P.kwargs) -> T:
        asked = prepare(self, *args, **kwargs)
        return asked.finish(self._ask(asked.method, *asked.arguments))

    async def aio(self: SharedObject, *args: P.args, **kwargs: P.kwargs) -> T:
        asked = prepare(self, *args, **kwargs)
        return asked.finish(await self._ask_aio(asked.method, *asked.arguments))

    return MethodWithAio(call, aio)
