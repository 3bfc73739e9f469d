"""One way over the wire, for tests of values: what arrives, and which bytes were not copied."""

from __future__ import annotations

import ctypes
import importlib
import pickle
from typing import Any

from conftest import missing
from hypothesis import HealthCheck, settings

from lifecycle_magic.wire.pickling import dumps, loads

few_examples = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Trip:
    """One way over the wire: ``value`` is what arrives, ``moved`` are the bytes out of band."""

    def __init__(self, value: Any) -> None:
        self.data, buffers = dumps(value)
        views = [memoryview(one if isinstance(one, bytes) else one.raw()) for one in buffers]
        self.moved = sum(view.nbytes for view in views)
        self.memory = [aligned_copy(view) for view in views]
        self.value: Any = loads(self.data, buffers=self.memory)


def aligned_copy(view: memoryview) -> memoryview:
    """Return a copy at a multiple of 64, as in a segment."""
    memory = (ctypes.c_char * (view.nbytes + 64))()
    start = -ctypes.addressof(memory) % 64
    copy = memoryview(memory).cast("B")[start : start + view.nbytes]
    copy[:] = view.cast("B") if view.c_contiguous else view.tobytes()
    return copy


def plain(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, 5))


def library(name: str) -> Any:
    """Import a library that only these tests need."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed: run scripts/test-packages.sh")
