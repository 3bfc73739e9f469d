"""`Dict`: values by key that the notebook and containers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lifecycle_magic.callers.methods_with_aio import WithAio, items_with_aio
from lifecycle_magic.callers.object_calls import (
    EMPTY,
    Answer,
    NamedObjects,
    ObjectRequest,
    SharedObject,
    asks,
    pack,
    unpack,
)
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import check_keywords, refuse_members

__all__ = ["Dict"]

_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_MISSING = object()


class Dict(SharedObject):
    """A dictionary that the notebook and its containers share.

    The session keeps it until the kernel ends; containers may come and go. Keys and values are
    anything that can be pickled; keys are equal if their types and values are. A value that is read
    is a copy: after a change, put it back. Together they take 1 GiB at most. Every method has a
    form for coroutines, such as ``await shared.get.aio(key)``.

    >>> with Dict.ephemeral() as shared:
    ...     shared["a"] = 1
    ...     shared.update({"b": 2}, c=3)
    ...     shared["a"], shared.get("z", 0), "b" in shared, sorted(shared.keys())
    (1, 0, True, ['a', 'b', 'c'])
    """

    _kind = "dict"

    @classmethod
    def from_name(cls, name: str, *, create_if_missing: bool = False, **of_modal: object) -> Dict:
        """Return the dictionary of this name in the session, looked up when it is first used.

        A use raises `NotFoundError` if there is none, unless ``create_if_missing``. Raises
        `InvalidError` for an invalid name.

        >>> Dict.from_name("results", create_if_missing=True)
        Dict.from_name('results')
        """
        check_keywords("Dict.from_name", of_modal, ("create_if_missing",))
        made: Dict = cls._named(name, create_if_missing)
        return made

    ephemeral: ClassVar[WithAio[..., Dict, Dict]]

    lookup = OldMember(looks_up)
    persisted = OldMember(looks_up)
    new = OldMember(lambda cls, **of_modal: cls.ephemeral(**of_modal))

    @asks
    def get(self, key: Any, default: Any = None) -> ObjectRequest[Any]:
        """Return the value of ``key``, or ``default`` if there is none."""
        return ObjectRequest("get", (_identity(key),), lambda answer: _value(answer, default))

    @asks
    def put(self, key: Any, value: Any, *, skip_if_exists: bool = False) -> ObjectRequest[bool]:
        """Set the value of ``key``. Return False if ``skip_if_exists`` kept an earlier value."""
        entries = [_entry(key, value)]
        return ObjectRequest("put", (entries, bool(skip_if_exists)), lambda answer: bool(answer[1]))

    @asks
    def pop(self, key: Any, default: Any = _MISSING) -> ObjectRequest[Any]:
        """Remove ``key`` and return its value, or ``default``. Raises `KeyError` without one."""

        def finish(answer: Answer) -> Any:
            found = _value(answer, default)
            if found is _MISSING:
                raise KeyError(key)
            return found

        return ObjectRequest("pop", (_identity(key),), finish)

    @asks
    def update(
        self, other: Mapping[Any, Any] | None = None, /, **kwargs: Any
    ) -> ObjectRequest[None]:
        """Set several values, all at once."""
        entries = [_entry(key, value) for key, value in {**dict(other or {}), **kwargs}.items()]
        return ObjectRequest("put", (entries, False), lambda answer: None)

    @asks
    def contains(self, key: Any) -> ObjectRequest[bool]:
        """Return whether there is a value of ``key``."""
        return ObjectRequest("contains", (_identity(key),), lambda answer: bool(answer[1]))

    @asks
    def len(self) -> ObjectRequest[int]:
        """Return the number of keys."""
        return ObjectRequest("len", (), lambda answer: int(answer[1]))

    @asks
    def clear(self) -> ObjectRequest[None]:
        """Remove all keys."""
        return ObjectRequest("clear", (), lambda answer: None)

    @items_with_aio
    def keys(self) -> Iterator[Any]:
        """Yield the keys, as they were when the iteration began."""
        return (unpack(key) for key, _ in self._ask("entries")[1])

    @items_with_aio
    def values(self) -> Iterator[Any]:
        """Yield the values, as they were when the iteration began."""
        return (unpack(value) for _, value in self._ask("entries")[1])

    @items_with_aio
    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield the keys with their values, as they were when the iteration began."""
        return ((unpack(key), unpack(value)) for key, value in self._ask("entries")[1])

    objects: ClassVar[NamedObjects[Dict]]
    delete: ClassVar[Any]  # `Dict.objects.delete`

    def __getitem__(self, key: Any) -> Any:
        found = self.get(key, _MISSING)
        if found is _MISSING:
            raise KeyError(key)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __len__(self) -> int:
        return self.len()

    def __bool__(self) -> bool:
        return True  # an empty one too: `if shared:` asks whether there is one

    def __iter__(self) -> Iterator[Any]:
        return self.keys()


def _ephemeral(
    client: object = None, environment_name: str | None = None, **of_modal: object
) -> Dict:
    """Return a new dictionary without a name; as a ``with`` block it is deleted at the end.

    >>> with Dict.ephemeral() as shared:
    ...     len(shared)
    0
    """
    of_modal = {"client": client, "environment_name": environment_name, **of_modal}
    check_keywords("Dict.ephemeral", of_modal)
    made: Dict = Dict._of_no_name()
    return made


Dict.ephemeral = CallWithAio(_ephemeral, _ephemeral)
Dict.objects = NamedObjects(Dict)
Dict.delete = Dict.objects.delete
refuse_members(Dict)


def _entry(key: Any, value: Any) -> tuple[bytes, Any, Any]:
    return _identity(key), pack(key, "Dict: a key"), pack(value, f"Dict: the value of {key!r}")


def _identity(key: Any) -> bytes:
    """Return bytes that equal keys share: pickles of equal values may differ."""
    if _is_plain(key):
        return repr(key).encode(errors="surrogatepass")
    data, buffers = pack(key, "Dict: a key")
    return b"\0".join((b"pickle", data, *buffers))


def _is_plain(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_is_plain, key))
    return type(key) in _PLAIN


def _value(answer: Answer, default: Any) -> Any:
    return default if answer[0] == EMPTY else unpack(answer[1])
