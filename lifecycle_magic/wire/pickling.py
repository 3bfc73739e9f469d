"""Objects as bytes, and back.

The C pickler does nearly all of the work. cloudpickle does what the C pickler can't: definitions in
a notebook (`__main__`) mean something else, or nothing, on the other side, so they have to travel
by value. Large buffers, such as numpy arrays, stay outside the pickle and are not copied into it:
pickle protocol 5, PEP 574.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.wire.buffers import OUT_OF_BAND_BYTES, LargeBytes
from lifecycle_magic.wire.dispatch_table import DispatchTable
from lifecycle_magic.wire.frame_header import MAX_BUFFERS
from lifecycle_magic.wire.reading_values import despite_filters

OUT_OF_BAND_ARGUMENT_BYTES = 1 << 18
"""Size from which a ``bytes`` or ``bytearray`` that is itself an argument or a result travels like
an array. Otherwise it is copied into the pickle: 20 ms for 50 MB.
"""

_CONTENT_BYTES = 1 << 18
"""Size of a part of a pickle that can only be the content of one string. The pickler writes content
from 64 KB on its own, and all else in frames that end at 64 KB, after at most one such piece more.
Searching 100 MB for the two names took 360 ms.
"""

_BY_REFERENCE_TO_MAIN = b"__main__"
_BY_REFERENCE_TO_SHELL = b"IPython.utils.text"  # the type of `!ls`, which containers lack


Buffer = bytes | bytearray | pickle.PickleBuffer


def dumps(obj: Any) -> tuple[bytes, list[Buffer]]:
    """Return ``obj`` as a pickle and its large buffers, which are the object's own memory.

    Raises what the pickler raises: `pickle.PicklingError`, `TypeError`, `AttributeError`,
    `RecursionError`, or anything that an object's own ``__reduce__`` raises.
    """
    buffers: list[Buffer] = []
    obj = _prepare(obj)

    def keep(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < OUT_OF_BAND_BYTES or len(buffers) == MAX_BUFFERS:
            return True  # into the pickle
        buffers.append(buffer)
        return False

    try:
        if is_simple(obj):
            return pickle.dumps(obj, 5, buffer_callback=keep), buffers
        parts: list[bytes] = []
        _Pickler(types.SimpleNamespace(write=parts.append), keep).dump(obj)
        if not any(map(_needs_by_value, parts)):
            return parts[0] if len(parts) == 1 else b"".join(parts), buffers
    except Exception:
        pass  # cloudpickle may know how

    def by_value() -> bytes:
        buffers.clear()
        return _by_value(obj, keep)

    return despite_filters(by_value), buffers


def _needs_by_value(part: bytes) -> bool:
    """Return whether a part of a pickle may name a definition that is not there on arrival.

    The names may also be ordinary strings in the pickle. Then the second pickle only costs time.
    """
    if len(part) >= _CONTENT_BYTES:
        return False
    return _BY_REFERENCE_TO_MAIN in part or _BY_REFERENCE_TO_SHELL in part


class _Pickler(pickle.Pickler):
    """The C pickler, with a table of reducers."""

    def __init__(self, file: Any, buffer_callback: Any) -> None:
        self.dispatch_table = DispatchTable()  # read by the constructor
        super().__init__(file, 5, buffer_callback=buffer_callback)


_SIMPLE = frozenset({int, float, complex, str, bool, bytes, type(None)})


def is_simple(obj: Any) -> bool:
    """Return whether a value, or an input with its arguments, needs no reducer and no definition.

    Creating a pickler takes longer than pickling such a value.
    """
    kind = type(obj)
    if kind is not tuple:
        return kind in _SIMPLE or _is_array(obj)
    if len(obj) != 4 or obj[3] or type(obj[0]) is not int or type(obj[1]) is not str:
        return False
    if type(obj[2]) is not tuple:
        return False
    # A generator expression takes longer.
    for value in obj[2]:  # noqa: SIM110
        if type(value) not in _SIMPLE and not _is_array(value):
            return False
    return True


def _is_array(value: Any) -> bool:
    kind = type(value)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy":
        return False
    dtype = value.dtype  # of a type that numpy hands over as a buffer, in one piece
    return dtype.isbuiltin == 1 and dtype.char not in "OMm" and value.flags.forc


_LARGE = (bytes, bytearray)


def _prepare(value: Any) -> Any:
    kind = type(value)
    if (kind is bytes or kind is bytearray) and len(value) >= OUT_OF_BAND_ARGUMENT_BYTES:
        return LargeBytes(value)
    return value


def prepare_args(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Wrap the large byte strings among the arguments for pickling."""
    for value in args:
        if type(value) in _LARGE:
            return tuple(map(_prepare, args))
    return args


def prepare_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Wrap the large byte strings among the keyword arguments for pickling."""
    return {name: _prepare(value) for name, value in kwargs.items()} if kwargs else kwargs


def dumps_by_value(obj: Any) -> bytes:
    """Return ``obj`` as a pickle made by cloudpickle, in which code keeps the name of its file.

    Raises what `dumps` raises.
    """
    return despite_filters(lambda: _by_value(obj))


def _by_value(
    obj: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None
) -> bytes:
    # cloudpickle is imported when it is first needed.
    from lifecycle_magic.wire.by_value import ByValue

    file = io.BytesIO()
    ByValue(file, buffer_callback).dump(obj)
    return file.getvalue()


loads = pickle.loads


def copy_buffers(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Return copies of the buffers, which later changes to their memory do not reach."""
    return [bytearray(one.raw() if hasattr(one, "raw") else one) for one in buffers]


class Snapshot:
    """A copy of an object's current content, to be pickled later. It arrives as the object.

    Raises what `dumps` raises.
    """

    def __init__(self, obj: Any) -> None:
        self._data, buffers = dumps(obj)
        self._buffers = copy_buffers(buffers)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unfold, (self._data, [pickle.PickleBuffer(one) for one in self._buffers])


def _unfold(data: bytes, buffers: Sequence[Any]) -> Any:
    return loads(data, buffers=buffers)
