"""Arrays of strings, as numpy and pandas hold them: one Python object for each string.

The pickler would write each of them and note where. Joined, a million strings took 100 ms instead
of 260 ms here.
"""

from __future__ import annotations

import importlib
import pickle
from typing import Any

__all__ = ["MIN_STRINGS", "make_strings", "reduce_strings"]

MIN_STRINGS = 1000

_SEPARATOR = "\0"
_MISSING = {("builtins", "NoneType"), ("builtins", "float"), ("pandas._libs.missing", "NAType")}


def reduce_strings(value: Any) -> Any:
    """Reduce an array of objects that are strings, a few of them missing; None for any other."""
    items = value.ravel(order="F" if _is_fortran(value) else "C").tolist()
    kinds = set(map(type, items))
    if str not in kinds:
        return None
    kinds.discard(str)
    if any((kind.__module__, kind.__qualname__) not in _MISSING for kind in kinds):
        return None
    sample = items[:: len(items) // MIN_STRINGS]
    if 10 * len(set(sample)) < 9 * len(sample):
        return None  # the pickler writes an object that is there again in two bytes
    missing = [(n, one) for n, one in enumerate(items) if type(one) is not str] if kinds else []
    if 2 * len(missing) > len(items):
        return None
    for n, _ in missing:
        items[n] = ""
    joined = _SEPARATOR.join(items)
    if joined.count(_SEPARATOR) != len(items) - 1:
        return None
    content = pickle.PickleBuffer(joined.encode("utf-8", "surrogatepass"))
    return make_strings, (content, missing, value.shape, _is_fortran(value))


def make_strings(
    content: Any, missing: list[tuple[int, Any]], shape: tuple[int, ...], is_fortran: bool
) -> Any:
    """Return an array of the strings that arrived, with the missing ones at their places."""
    numpy = importlib.import_module("numpy")
    texts = str(content, "utf-8", "surrogatepass").split(_SEPARATOR)
    array = numpy.empty(len(texts), object)
    array[:] = texts
    for n, one in missing:
        array[n] = one
    return array if len(shape) == 1 else array.reshape(shape, order="F" if is_fortran else "C")


def _is_fortran(value: Any) -> bool:
    return bool(value.flags.f_contiguous and not value.flags.c_contiguous)
