"""Frames of pandas and polars, tables of Arrow and arrays of JAX arrive as their pickles do."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trips import Trip, few_examples, library, plain


@few_examples
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=20),
    st.sampled_from(["object", "str", "string[python]", "string[pyarrow]", "category"]),
    st.sampled_from([1, 200]),
)
def test_frames_arrive_as_pandas_pickles_them(
    texts: list[str | None], dtype: str, times: int
) -> None:
    pd = library("pandas")
    library("pyarrow")
    size = len(texts) * times
    frame = pd.DataFrame(
        {
            "text": pd.Series(texts * times, dtype=dtype),
            "number": np.arange(size) / 3,
            "when": pd.date_range("2020", periods=size, freq="s", tz="UTC"),
            "whole": pd.array(range(size), dtype="Int64"),
            "arrow": pd.array(range(size), dtype="int64[pyarrow]"),
        },
        index=pd.Index([f"row {n}" for n in range(size)]),
    )
    back, expected = Trip(frame).value, plain(frame)
    pd.testing.assert_frame_equal(back, expected)
    assert [str(one) for one in back.dtypes] == [str(one) for one in expected.dtypes]
    back.loc["row 0", "number"] = 7.0
    assert back["number"].iloc[0] == 7


@few_examples
@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20), st.integers(0, 5))
def test_tables_of_arrow_arrive(texts: list[str | None], start: int) -> None:
    pa = library("pyarrow")
    table = pa.table(
        {
            "text": pa.array(texts * 300, pa.string()),
            "list": pa.array([[1, 2], None, []] * (100 * len(texts)), pa.list_(pa.int32())),
            "kind": pa.array(texts * 300, pa.string()).dictionary_encode(),
        },
        metadata={"by": "me"},
    )
    for value in (table, table.slice(start), table.column("text"), *table.to_batches()[:1]):
        back = Trip([value]).value[0]
        assert type(back) is type(value)
        assert back.equals(value)
        back.validate(full=True)
        if value is table:
            assert back.schema.equals(table.schema, check_metadata=True)


@few_examples
@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20), st.sampled_from([1, 400]))
def test_frames_of_polars_arrive(texts: list[str | None], times: int) -> None:
    pl = library("polars")
    testing = importlib.import_module("polars.testing")
    frame = pl.DataFrame(
        {
            "text": pl.Series(texts * times, dtype=pl.String),
            "kind": pl.Series(texts * times, dtype=pl.String).cast(pl.Categorical),
            "number": pl.Series(range(len(texts) * times), dtype=pl.Int64),
        }
    )
    back = Trip([frame, frame["number"].set_sorted(), frame.lazy()]).value
    testing.assert_frame_equal(back[0], frame)
    testing.assert_series_equal(back[1], frame["number"])
    assert back[1].flags == plain(frame["number"].set_sorted()).flags
    testing.assert_frame_equal(back[2].collect(), frame)


@few_examples
@given(
    st.lists(
        st.sampled_from(
            ["Int8", "Int64", "UInt32", "Float32", "Float64", "Int128", "Boolean", "Date", "Time",
             "Datetime", "Duration", "zone", "gaps", "pieces", "sorted", "String", "nan"]
        ),
        min_size=1, max_size=8, unique=True,
    ),
    st.sampled_from([0, 3, 70_000]),
)  # fmt: skip
def test_plain_columns_of_polars_arrive_as_what_they_were(kinds: list[str], size: int) -> None:
    pl = library("polars")
    testing = importlib.import_module("polars.testing")
    count = pl.Series(np.arange(size) % 100)

    def column(kind: str) -> Any:
        if kind == "zone":
            return count.cast(pl.Datetime("ms", "Europe/Berlin"))
        if kind == "Datetime":
            return count.cast(pl.Datetime("ns"))
        if kind == "gaps":
            return pl.Series([1.5, None] * (size // 2) + [0.0] * (size % 2), dtype=pl.Float64)
        if kind == "pieces":
            return pl.concat([count, count], rechunk=False)[:size]
        if kind == "sorted":
            return pl.Series(np.arange(size)).set_sorted()
        if kind == "nan":
            return pl.Series(np.full(size, np.nan))
        return count.cast(getattr(pl, kind))

    frame = pl.DataFrame({kind: column(kind) for kind in kinds})
    back, *columns = Trip([frame, *frame.get_columns()]).value
    testing.assert_frame_equal(back, frame)
    assert back.schema == frame.schema
    for one, found in zip(frame.get_columns(), columns, strict=True):
        testing.assert_series_equal(found, one)
        assert found.flags == plain(one).flags
    assert back.with_columns(pl.lit(1)).shape == (size if size else 0, len(kinds) + 1)


@few_examples
@given(
    st.sampled_from(
        ["float32", "float16", "bfloat16", "int8", "int32", "uint8", "bool", "complex64",
         "float8_e4m3fn", "float8_e5m2"]
    ),
    st.sampled_from([(), (0,), (5,), (100, 100), (3, 1, 70, 40)]),
    st.booleans(),
    st.sampled_from([False, False, True]),
)  # fmt: skip
def test_arrays_of_jax_arrive_as_jax_pickles_them(
    dtype: str, shape: tuple[int, ...], transposed: bool, weak: bool
) -> None:
    jax = library("jax")
    jnp = jax.numpy
    # By numpy: JAX would compile a program for each type and shape.
    counted = (np.arange(np.prod(shape, dtype=int)) % 50).reshape(shape)
    array = counted.astype(jnp.dtype(dtype))
    value = jnp.full((7,), 2.5) if weak else jnp.asarray(array.T if transposed else array)
    trip = Trip({"x": value, "again": value})
    back, expected = trip.value["x"], plain({"x": value})["x"]
    assert trip.value["again"] is back
    assert type(back) is type(expected)
    assert (back.dtype, back.shape, back.weak_type) == (
        expected.dtype, expected.shape, expected.weak_type
    )  # fmt: skip
    assert back.sharding == expected.sharding
    assert np.asarray(back).tobytes() == np.asarray(expected).tobytes()


def test_memory_of_arrays_of_jax_travels_outside_the_pickle() -> None:
    jax = library("jax")
    for dtype in ("float32", "bfloat16", "int8", "bool", "complex64"):
        value = jax.numpy.ones((100, 100), dtype)
        assert Trip({"x": value}).moved == value.nbytes


def test_random_keys_of_jax_are_refused_as_by_jax() -> None:
    jax = library("jax")
    key = jax.random.key(1)
    try:
        expected = plain(key)
    except Exception as error:
        with pytest.raises(type(error)):
            Trip([key])
    else:
        assert Trip([key]).value[0] == expected
