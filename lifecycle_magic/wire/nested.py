"""Calls from inside containers, as they travel between a container and the kernel's session.

    ASK      container: an `Ask`; its arguments are the frame's buffers
    ABANDON  container: the caller wants no answer any more
    AWAIT    container: the caller waits from now on for a call that it has spawned
    NEXT     container: the caller of a generator wants another item; its ASK wants the first
    RESULT FAILURE CANCELLED ITEM END    kernel: the answers

Except for ASK, the payload is the number of the call. The kernel passes arguments and answers on as
the bytes that they are: their types need not exist there.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.pickling import Buffer, dumps, loads

__all__ = ["Ask", "Invitation", "forward", "number_of", "pack_number", "read_ask"]

REMOTE = "remote"  # the caller waits
SPAWN = "spawn"  # the caller does not wait
ITEMS = "items"  # the caller reads a generator's items
ADDRESS = "address"  # the address of a method that answers HTTP

_NUMBER = struct.Struct("<Q")
_TYPES = (int, str, bytes, str, str, int)  # of the fields of an Ask


class Invitation(NamedTuple):
    """What a container needs to connect to its session: the address, and its own token.

    ``address`` is ``unix:<name in the run folder>`` or ``tcp:<host>:<port>``. ``key`` is that of
    the container's own class.
    """

    address: str
    token: str
    key: str

    def __repr__(self) -> str:
        """Return the address without the token."""
        return f"Invitation({self.address!r})"


class Ask(NamedTuple):
    """One call. ``slot`` is the number of the connection whose call makes it, -1 for none.

    ``key`` names the class in its session, ``arguments`` are the pickled ``(args, kwargs)`` of its
    constructor, ``form`` is one of the constants above.
    """

    number: int
    key: str
    arguments: bytes
    method: str
    form: str
    slot: int


def read_ask(payload: memoryview) -> Ask:
    """Return the `Ask` in a payload. Raises `WireError` if there is none."""
    try:
        found = loads(payload)
    except Exception as error:
        raise WireError(f"a call that can't be read: {error}") from None
    if not isinstance(found, Ask) or [type(one) for one in found] != [
        int,
        str,
        bytes,
        str,
        str,
        int,
    ]:
        raise WireError(f"a call that is a {type(found).__name__}")
    return found


def pack_number(number: int) -> bytes:
    """Return the payload that names a call."""
    return _NUMBER.pack(number)


def number_of(payload: memoryview) -> int:
    """Return the number of the call that a payload names. Raises `WireError` if it names none."""
    if len(payload) != _NUMBER.size:
        raise WireError("a frame that names no call")
    return int(_NUMBER.unpack(payload)[0])


class _Forwarded:
    """An input whose arguments are a pickle already. It arrives like any other input."""

    def __init__(self, call: int, method: str, data: Any, buffers: Sequence[Any]) -> None:
        self._fields = call, method, data, buffers

    def __reduce__(self) -> tuple[Any, ...]:
        call, method, data, buffers = self._fields
        parts = [pickle.PickleBuffer(one) for one in buffers]
        return _unfold, (call, method, pickle.PickleBuffer(data), parts)


def _unfold(call: int, method: str, data: Any, buffers: Sequence[Any]) -> tuple[Any, ...]:
    args, kwargs = loads(data, buffers=buffers)
    return call, method, args, kwargs


def forward(
    call: int, method: str, data: Any, buffers: Sequence[Any]
) -> tuple[bytes, list[Buffer]]:
    """Return the payload and the buffers of a CALL with arguments that are pickled already."""
    return dumps(_Forwarded(call, method, data, buffers))
