"""Arrays of numpy and JAX whose memory numpy itself would copy into the pickle.

numpy hands over the memory of a plain array that is contiguous and has a type of the buffer
protocol. It copies arrays of subclasses, views with gaps, dates, and the types of ``ml_dtypes``
(bfloat16, float8). They arrive here as numpy would rebuild them.
"""

from __future__ import annotations

import importlib
import pickle
from typing import Any

from lifecycle_magic.wire.buffers import OUT_OF_BAND_BYTES, reduce_with_bytes
from lifecycle_magic.wire.string_arrays import MIN_STRINGS, reduce_strings

__all__ = ["make_array", "make_jax", "reduce_array", "reduce_jax"]


def reduce_array(value: Any) -> Any:
    """Reduce an array, or an array of a subclass that is pickled by the rules of numpy."""
    kind, dtype, flags = type(value), value.dtype, value.flags
    is_plain = kind.__name__ == "ndarray" and kind.__module__ == "numpy"
    if is_plain and dtype.isbuiltin == 1 and flags.c_contiguous and dtype.char not in "OMm":
        # numpy's own way runs Python code for each array on both sides. For a list of many small
        # arrays that was half of the time to pickle, and three quarters of the time to unpickle.
        return kind, (value.shape, dtype, _content(value, flags))
    if value.nbytes < OUT_OF_BAND_BYTES:
        return value.__reduce_ex__(5)
    if dtype.hasobject:
        return (is_plain and _reduce_strings(value)) or value.__reduce_ex__(5)
    if is_plain and flags.forc and _has_buffer(value):
        return value.__reduce_ex__(5)
    if not is_plain and not _is_pickled_by_numpy(kind):
        return reduce_with_bytes(value)
    if dtype.kind not in _KINDS:
        return value.__reduce_ex__(5)  # such as StringDType, whose strings are elsewhere
    array = _plain(value)
    is_fortran = flags.fnc
    if not flags.forc:
        array = array.copy(order="C")
    return make_array, (kind, _bytes_of(array), dtype, value.shape, is_fortran)


def _content(value: Any, flags: Any) -> Any:
    """Return the memory of an array, or a copy where that is the faster way."""
    if value.nbytes >= OUT_OF_BAND_BYTES:
        return pickle.PickleBuffer(value)
    return bytearray(value.data) if flags.writeable else value.tobytes()


_KINDS = frozenset("?biufcmMSUV")  # those of ml_dtypes are V


def _reduce_strings(value: Any) -> Any:
    if value.dtype.names or value.size < MIN_STRINGS:
        return None
    return reduce_strings(value)


def _plain(value: Any) -> Any:
    numpy = importlib.import_module("numpy")
    return numpy.ndarray.view(value, numpy.ndarray)


def _bytes_of(array: Any) -> Any:
    """Return the memory of a contiguous array as an array of bytes."""
    flat = (array.T if array.flags.fnc else array).reshape(-1)
    return flat.view("u1")


def make_array(kind: Any, flat: Any, dtype: Any, shape: tuple[int, ...], is_fortran: bool) -> Any:
    """Return an array of type ``kind`` over the memory of ``flat``, an array of bytes."""
    numpy = importlib.import_module("numpy")
    if not flat.flags.writeable:
        flat = flat.copy()
    return numpy.ndarray.__new__(kind, shape, dtype, buffer=flat, order="F" if is_fortran else "C")


def _has_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except (BufferError, TypeError, ValueError):  # numpy raises any of them, depending on the type
        return False
    return True


def _is_pickled_by_numpy(kind: Any) -> bool:
    numpy = importlib.import_module("numpy")
    return all(
        getattr(kind, name) is getattr(numpy.ndarray, name)
        for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    ) and getattr(kind, "__getstate__", None) is getattr(numpy.ndarray, "__getstate__", None)


def reduce_jax(value: Any) -> Any:
    """Reduce an array of JAX that is on one device and has a type that numpy knows."""
    if not _is_simple(value):
        return value.__reduce_ex__(5)
    numpy = importlib.import_module("numpy")
    array = numpy.asarray(value)
    if not array.flags.c_contiguous:
        return value.__reduce_ex__(5)
    return make_jax, (_bytes_of(array), array.dtype, array.shape)


def _is_simple(value: Any) -> bool:
    aval = value.aval
    return (
        not aval.weak_type  # it would have to be set on a private attribute
        and type(aval.dtype).__module__.partition(".")[0] == "numpy"  # a random key has its own
        and value.is_fully_addressable
        and len(value.sharding.device_set) == 1
        and value.nbytes >= OUT_OF_BAND_BYTES
    )


def make_jax(flat: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return an array of JAX on the default device, as JAX itself unpickles one."""
    return importlib.import_module("jax").device_put(flat.view(dtype).reshape(shape))
