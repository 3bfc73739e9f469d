"""Objects to bytes and back.

The C pickler does nearly all of the work. cloudpickle is for what it can't do: what was defined
in a notebook (`__main__`) means something else, or nothing, on the other side, so it has to
travel by value. Large buffers (numpy arrays, say) stay outside of the pickle and are not copied
into it: pickle protocol 5, PEP 574.
"""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.wire.frames import MAX_BUFFERS

OUT_OF_BAND = 1 << 12
"""Buffers from this many bytes on travel beside the pickle. Below, a part of its own costs more."""

APART = 1 << 18
"""Bytes of a ``bytes`` or ``bytearray`` from which it travels like an array, if it is an argument
or a result itself. Else it is copied into the pickle: 20 ms for 50 MB.
"""

_BY_REFERENCE_TO_MAIN = b"__main__"


Buffer = bytes | bytearray | pickle.PickleBuffer


def dumps(obj: Any) -> tuple[bytes, list[Buffer]]:
    """``obj`` as a pickle and its large buffers, which are the object's own memory.

    Raises what the pickler raises: `pickle.PicklingError`, `TypeError`, `AttributeError`,
    `RecursionError`, or anything that an object's own ``__reduce__`` raises.
    """
    buffers: list[Buffer] = []
    obj = _apart(obj)

    def keep(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < OUT_OF_BAND or len(buffers) == MAX_BUFFERS:
            return True  # into the pickle
        buffers.append(buffer)
        return False

    try:
        data = pickle.dumps(obj, 5, buffer_callback=keep)
    except Exception:
        data = b""
    # The name may also stand there as an ordinary string: then the second pickle costs a little
    # time.
    if data and _BY_REFERENCE_TO_MAIN not in data:
        return data, buffers
    buffers.clear()
    return dumps_by_value(obj, keep), buffers


class _Apart:
    """A large ``bytes`` or ``bytearray``, to be pickled as a buffer. It arrives as what it was."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def _apart(value: Any) -> Any:
    if (type(value) is bytes or type(value) is bytearray) and len(value) >= APART:
        return _Apart(value)
    return value


def apart(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments to be pickled, with those apart that are large."""
    for value in args:
        if (type(value) is bytes or type(value) is bytearray) and len(value) >= APART:
            return tuple(map(_apart, args))
    return args


def dumps_by_value(
    obj: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None
) -> bytes:
    """``obj`` as a pickle of cloudpickle's, in which code keeps the name of its file.

    Raises what `dumps` raises.
    """
    file = io.BytesIO()
    _by_value()(file, 5, buffer_callback).dump(obj)
    return file.getvalue()


@functools.cache
def _by_value() -> Any:
    """Cloudpickle's pickler, imported when it is first needed."""
    import types

    import cloudpickle

    from lifecycle_magic.wire.annotations import names

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        """cloudpickle 3.1.3 writes ``<dynamic-code>`` for every file name: a traceback would then
        show neither where it came from nor its lines.
        """

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind.__name__ == "State" and kind.__module__ == "starlette.datastructures":
                return kind, (dict(obj._state),)  # unpickled as it is, it asks itself for _state
            if kind is not types.CodeType:
                return super().reducer_override(obj)
            make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](obj)
            named = (obj.co_filename if _is_no_name(one) else one for one in arguments)
            return make, tuple(named)

        def _dynamic_function_reduce(self, func: Any) -> Any:
            """Also with what the annotations of a web method name: FastAPI looks them up."""
            reduced = super()._dynamic_function_reduce(func)
            wanted = names(func) & func.__globals__.keys()
            if wanted:
                taken = reduced[2][1]["__globals__"]
                taken.update((name, func.__globals__[name]) for name in wanted)
            return reduced

    return ByValue


def _is_no_name(argument: object) -> bool:
    return isinstance(argument, str) and argument == "<dynamic-code>"


loads = pickle.loads


def copied(buffers: Sequence[Buffer]) -> list[Buffer]:
    """The buffers as they are now, whatever happens to the memory that they lie in."""
    return [bytearray(one.raw() if hasattr(one, "raw") else one) for one in buffers]


class Snapshot:
    """An object as it is now, to be pickled later. It arrives as the object.

    Raises what `dumps` raises.
    """

    def __init__(self, obj: Any) -> None:
        self._data, buffers = dumps(obj)
        self._buffers = copied(buffers)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unfold, (self._data, [pickle.PickleBuffer(one) for one in self._buffers])


def _unfold(data: bytes, buffers: Sequence[Any]) -> Any:
    return loads(data, buffers=buffers)
