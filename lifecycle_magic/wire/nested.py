"""Calls to a session, as they travel between the caller and the session.

The caller is a container of the session, or another process that calls by name.

    ASK      caller: an `Ask`; its arguments are the frame's buffers
    ABANDON  caller: no answer is wanted any more
    AWAIT    caller: a spawned call is waited for from now on
    NEXT     caller: another item of a generator is wanted; its ASK wants the first. Its payload,
             and that of AWAIT, has the number of outputs that the caller's own call has sent, too
    RESULT FAILURE CANCELLED ITEM END    session: the answers; ITEM of COLLECT: the call still runs
    PROMPT   session: a called container asks: (number, prompt, is it a password)
             caller: it can't be asked here
    OUTPUT   session: what the call printed, for a caller that calls by name
    CHANGED  session: a class was declared again, so what is known of classes may be outdated
    LEAVING  session: another session has replaced this one; calls that run are answered

Except for ASK, the payload is the number of the call, 0 for none. The session passes arguments and
answers on as the bytes that they are: their types need not exist there.

A connection of the role SERIAL carries the blocking calls of one thread at a time, one after the
other, so its frames are shorter. The tag of a frame is the number of its call. The arguments are
those of a whole input (`pack_input`), the payload of an answer is the pickle itself, and the caller
closes the connection where it would send ABANDON.

    ASK      caller: an `Ask` of the form REMOTE; its input is the frame's buffers
    AGAIN    caller: the same with another input, which is payload and buffers
    RESULT FAILURE OUTPUT PROMPT    session: the answers
    PROMPT   caller: it can't be asked here
    CHANGED  session: as above, before the next answer
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.pickling import Buffer, dumps, loads, prepare_args, prepare_kwargs

__all__ = ["Ask", "Invitation", "forward", "number_of", "pack_input", "pack_number"]
__all__ += ["numbers_of", "pack_numbers", "read_ask", "with_number"]

BY_NAME = "name:"
"""Prefix of a key that is an app and a name, ``name:app/Model``, whichever session serves them."""

REMOTE = "remote"  # the caller waits
SPAWN = "spawn"  # the caller does not wait
ITEMS = "items"  # the caller reads a generator's items
ADDRESS = "address"  # the address of a method that answers HTTP
DESCRIBE = "describe"  # the methods of a class: `lifecycle_magic.named.description`
WAITS = "waits"  # what the session's inputs wait for: `lifecycle_magic.calls.far_circles`
COLLECT = "collect"  # the outcome of a spawned call, whose id is in the place of the method

OBJECTS = ":objects"
"""The key, in place of a class's, of requests to the session's queues and dictionaries."""

PROMPTS = ":prompts"
"""The key, in place of a class's, of the wait for a line that the user enters.

The number of the prompt is in the place of the method. The answer is one of the following words,
and a string: the line, or why there is none.
"""

LINE = "line"
END = "end"  # the end of the input
REFUSED = "refused"

_NUMBER = struct.Struct("<Q")
_NUMBERS = struct.Struct("<QQ")
_TYPES = [int, str, bytes, str, str, int, str, str, int]  # of the fields of an Ask


class Invitation(NamedTuple):
    """The means of a container to connect to its session: the address, and a key of its own.

    ``token`` is that key, which is never sent (`lifecycle_magic.wire.proofs`). ``address`` is
    ``unix:<name in the run folder>`` or ``tcp:<host>:<port>``. ``key`` is that of the container's
    own class, ``session`` the id of the session.
    """

    address: str
    token: str
    key: str
    session: str = ""

    def __repr__(self) -> str:
        """Return the address without the token."""
        return f"Invitation({self.address!r})"


class Ask(NamedTuple):
    """One call. ``slot`` is the number of the connection whose call makes it, -1 for none.

    ``key`` names the class in its session, ``arguments`` are the pickled ``(args, kwargs)`` of its
    constructor, ``form`` is one of the constants above. ``id`` is that of a spawned call, under
    which other processes find it. ``wait`` names the wait of a container of another session.
    ``outputs`` counts those that the caller's data connection has sent: they are shown first.
    """

    number: int
    key: str
    arguments: bytes
    method: str
    form: str
    slot: int
    id: str = ""
    wait: str = ""
    outputs: int = 0


def read_ask(payload: memoryview) -> Ask:
    """Return the `Ask` in a payload. Raises `WireError` if there is none."""
    try:
        found = loads(payload)
    except Exception as error:
        raise WireError(f"a call that can't be read: {error}") from None
    if not isinstance(found, Ask) or [type(one) for one in found] != _TYPES:
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


def pack_numbers(number: int, outputs: int) -> bytes:
    """Return the payload that names a call, and how many outputs come first: see `Ask`."""
    return _NUMBERS.pack(number, outputs)


def numbers_of(payload: memoryview) -> tuple[int, int]:
    """Return what `pack_numbers` has packed. Raises `WireError` for anything else."""
    if len(payload) != _NUMBERS.size:
        raise WireError("a frame that names no call")
    number, outputs = _NUMBERS.unpack(payload)
    return number, outputs


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


_UNKNOWN = 0x7FFF_FFFF  # the number of an input that gets one later: always five bytes of pickle
_HEAD = b"\x80\x05\x95"  # protocol 5, and a frame, whose size takes eight bytes
_NUMBER_AT = 13  # after head, size and the opcodes of a tuple and of a number
_OPCODES = b"(J\xff\xff\xff\x7f"
_CALL = struct.Struct("<i")


def pack_input(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bytes, list[Buffer]]:
    """Return an input as a pickle and its buffers. It has no number before `with_number`."""
    return dumps((_UNKNOWN, method, prepare_args(args), prepare_kwargs(kwargs)))


def with_number(data: Any, call: int) -> bytes:
    """Return the payload of a CALL: the pickle that `pack_input` returned, with its number.

    The number is at the same place in each such pickle, so the pickle need not be read.
    Raises `WireError` for any other data.
    """
    start = bytes(
        data[: _NUMBER_AT + 4]
    )  # comparing parts of a memoryview takes five times as long
    if start[:3] != _HEAD or start[_NUMBER_AT - 2 :] != _OPCODES:
        raise WireError("an input that can't be read")
    return b"".join((start[:_NUMBER_AT], _CALL.pack(call), data[_NUMBER_AT + 4 :]))
