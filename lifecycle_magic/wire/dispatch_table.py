"""The dispatch table of a pickler: how values of other libraries are taken apart.

Many libraries copy a value's content into the pickle, or know protocol 5 for the plain case only: a
torch tensor of 100 MB is copied six times on its way. The reducers here hand its memory over
instead, as `pickle.PickleBuffer`. A type is found by its name, or by the name of a base, so that no
library is imported for it.
"""

from __future__ import annotations

import copyreg
import importlib
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DispatchTable"]

Reducer = Callable[[Any], Any]

_by_itself: Reducer = operator.methodcaller("__reduce_ex__", 5)

_REDUCERS = {
    ("builtins", "memoryview"): ("buffers", "reduce_memoryview"),
    ("numpy", "ndarray"): ("arrays", "reduce_array"),
    ("jaxlib._jax", "ArrayImpl"): ("arrays", "reduce_jax"),
    ("jaxlib.xla_extension", "ArrayImpl"): ("arrays", "reduce_jax"),
    ("torch", "Tensor"): ("torch_storages", "reduce_tensor"),
    ("torch.storage", "UntypedStorage"): ("torch_storages", "reduce_untyped"),
    ("torch.storage", "TypedStorage"): ("torch_storages", "reduce_typed"),
    ("polars.dataframe.frame", "DataFrame"): ("polars_frames", "reduce_frame"),
    ("polars.series.series", "Series"): ("polars_frames", "reduce_series"),
    ("PIL.Image", "Image"): ("buffers", "reduce_image"),
}
"""The reducers by module and name of a type; each by its own module in this package and its
name.
"""

_NAMES = frozenset(name for _, name in _REDUCERS)

# A metaclass may override these names.
_mro: Any = type.__dict__["__mro__"]
_name: Any = type.__dict__["__name__"]
_module: Any = type.__dict__["__module__"]


class DispatchTable(dict[type, Reducer]):
    """Reducers by type, found when a pickler first meets the type. One table serves one pickler.

    `copyreg` comes first, because an entry there is the user's or the library's own word. The types
    in ``further`` come last. A table that stays would keep classes of a notebook alive, which each
    run of a cell makes anew.
    """

    __slots__ = ("_further",)

    def __init__(self, further: Mapping[type, Reducer] | None = None) -> None:
        super().__init__()
        self._further = further

    def __missing__(self, kind: type) -> Reducer:
        found = copyreg.dispatch_table.get(kind) or _of_library(kind)
        if found is None and self._further is not None:
            found = self._further.get(kind)
        if found is None:
            if issubclass(kind, type):
                raise KeyError(kind)  # the pickler writes the class's name
            found = _of_exception(kind) if issubclass(kind, BaseException) else _by_itself
        self[kind] = found
        return found


def _of_library(kind: type) -> Reducer | None:
    for base in _mro.__get__(kind):
        name = _name.__get__(base)
        if name not in _NAMES:  # most types: their module need not be asked for
            continue
        place = _REDUCERS.get((_module.__get__(base), name))
        if place is not None:
            module = importlib.import_module(f"lifecycle_magic.wire.{place[0]}")
            found: Reducer = getattr(module, place[1])
            return found
    return None


def _of_exception(kind: type[BaseException]) -> Reducer:
    """Return how an exception is reduced: as a raised one is, without running its constructor.

    Pickle itself would call the constructor with ``args``, which may not be what it takes.
    """
    from lifecycle_magic.wire import exceptions

    return _by_itself if exceptions.defines_reduce(kind) else exceptions.reduce
