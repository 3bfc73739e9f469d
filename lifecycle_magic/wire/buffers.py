"""Values whose content is bytes, with those bytes outside the pickle."""

from __future__ import annotations

import pickle
from typing import Any

__all__ = [
    "OUT_OF_BAND_BYTES",
    "LargeBytes",
    "make_memoryview",
    "reduce_image",
    "reduce_memoryview",
    "reduce_with_bytes",
]

OUT_OF_BAND_BYTES = 1 << 12
"""Size in bytes from which a buffer travels outside the pickle. Below, a separate part costs more:
five arrays of 3 KB took 99 us inside of the pickle, and 134 us outside. Only in frames that go
through a segment would arrays from 1.5 KB on gain, up to a third.
"""


class LargeBytes:
    """A large ``bytes`` or ``bytearray`` that is pickled as a buffer. It arrives with its own
    type.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def reduce_with_bytes(value: Any) -> Any:
    """Reduce a value as its library does, with large byte strings of its state as buffers."""
    reduced = value.__reduce_ex__(5)
    if type(reduced) is not tuple or len(reduced) < 3:
        return reduced
    state = reduced[2]
    if type(state) in (tuple, list):
        state = type(state)(map(_large, state))
    return (*reduced[:2], _large(state), *reduced[3:])


def _large(value: Any) -> Any:
    if type(value) is bytes and len(value) >= OUT_OF_BAND_BYTES:
        return LargeBytes(value)
    return value


def reduce_image(value: Any) -> Any:
    """Reduce an image of PIL, whose pixels it reads from any buffer."""
    reduced = value.__reduce_ex__(5)
    if type(reduced) is tuple and len(reduced) > 2 and type(reduced[2]) is list:
        state = [pickle.PickleBuffer(one) if type(one) is bytes else one for one in reduced[2]]
        return (*reduced[:2], state, *reduced[3:])
    return reduced


def reduce_memoryview(value: memoryview) -> Any:
    """Reduce a memoryview to its bytes, format and shape. It arrives as a memoryview."""
    # Bytes in C order: a view with gaps, or of objects in another order, is copied.
    content: Any = value if value.c_contiguous else value.tobytes()
    return make_memoryview, (
        pickle.PickleBuffer(content),
        value.format,
        value.shape,
        value.readonly,
    )


def make_memoryview(content: Any, form: str, shape: tuple[int, ...], readonly: bool) -> memoryview:
    """Return a memoryview of the bytes that arrived."""
    view = memoryview(content)
    if view.readonly and not readonly:
        view = memoryview(bytearray(view))
    view = view.cast("B")
    if shape != (view.nbytes,) or form != "B":
        view = view.cast(form, shape) if 0 not in shape else view.cast(form)  # type: ignore[call-overload]
    return view.toreadonly() if readonly else view
