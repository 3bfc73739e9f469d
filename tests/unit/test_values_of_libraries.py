"""Values of libraries arrive as plain pickle would make them, and their memory is not copied.

Each property draws values of one library, sends them over the wire and compares them with
``pickle``: values, types, dtypes, flags, and what shares memory with what. The properties of large
libraries are in ``tests/libraries``.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import missing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from trips import Trip, few_examples, plain

from lifecycle_magic.wire.pickling import dumps, loads

ROOT = Path(__file__).parents[2]
LIBRARIES = ROOT / ".venv/test-libraries/site-packages"


@pytest.mark.slow
@pytest.mark.timeout(600)  # imports torch and JAX; on a loaded machine that takes a minute
def test_values_of_large_libraries_arrive() -> None:
    """Another process: pandas makes other strings where it finds Arrow, also in later tests."""
    if not LIBRARIES.exists():
        missing("no torch, Arrow, polars and JAX are installed: run scripts/test-packages.sh")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/libraries"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(LIBRARIES), "TEST_LIBRARIES": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


# --- bytes and numpy ------------------------------------------------------------------------------


@few_examples
@given(
    st.binary(max_size=100),
    st.sampled_from([1, 300]),
    st.sampled_from("Bbcd?"),
    st.booleans(),
    st.integers(-3, 3).filter(bool),
)
def test_a_memoryview_arrives_as_one(
    content: bytes, times: int, form: str, readonly: bool, step: int
) -> None:
    size = len(content * times) // 8 * 8
    memory = bytearray((content * times)[:size])
    view = memoryview(memory).cast(form)[::step]
    back = Trip({"x": view.toreadonly() if readonly else view}).value["x"]
    assert type(back) is memoryview
    assert (back.format, back.shape, back.readonly) == (form, view.shape, readonly)
    assert back.tobytes() == view.tobytes()


def test_a_large_memoryview_of_two_dimensions_is_not_copied() -> None:
    view = memoryview(bytearray(range(256)) * 64).cast("i", (64, 64))
    trip = Trip([view])
    assert trip.moved == view.nbytes
    assert trip.value[0].shape == (64, 64)
    assert trip.value[0] == view


class Labelled(np.ndarray):
    """A subclass whose attribute numpy's pickle drops."""

    label: Any

    def __array_finalize__(self, obj: Any) -> None:
        self.label = getattr(obj, "label", "new")


class Stateful(np.ndarray):
    """A subclass that pickles an attribute of its own."""

    def __reduce__(self) -> Any:
        make, args, state = super().__reduce__()  # type: ignore[misc]
        return make, args, (*state, self.label)

    def __setstate__(self, state: Any) -> None:
        *state, self.label = state
        super().__setstate__(tuple(state))


DTYPES = st.one_of(
    hn.scalar_dtypes(),
    hn.array_dtypes(hn.scalar_dtypes(), max_size=3),
    hn.unicode_string_dtypes(max_len=5),
    hn.byte_string_dtypes(max_len=5),
)
LAYOUTS: dict[str, Any] = {
    "as it is": lambda a: a,
    "Fortran": lambda a: np.asfortranarray(a) if a.ndim else a,
    "transposed": lambda a: a.T,
    "gaps": lambda a: a[::2] if a.ndim else a,
    "backwards": lambda a: a[::-1] if a.ndim else a,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "read-only": lambda a: _read_only(a),
    "Labelled": lambda a: a.view(Labelled),
    "Labelled, read-only": lambda a: _read_only(a).view(Labelled),
    "matrix": lambda a: a.reshape(-1, 1).view(np.matrix),
    "recarray": lambda a: a.view(np.recarray),
    "masked": lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
}


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


# The fill value of masked arrays, 1e20, is too large for two bytes.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@few_examples
@given(st.data(), st.sampled_from(sorted(LAYOUTS)), st.sampled_from([1, 1200]))
def test_an_array_arrives_as_numpy_pickles_it(data: Any, layout: str, times: int) -> None:
    shape = data.draw(hn.array_shapes(min_dims=0, max_dims=3, max_side=4))
    array = data.draw(hn.arrays(data.draw(DTYPES), shape))
    if array.ndim and times > 1:
        array = np.concatenate([array] * times)
    array = LAYOUTS[layout](array)
    for value in (array, {"x": [array]}):
        back, expected = Trip(value).value, plain(value)
        if value is not array:
            back, expected = back["x"][0], expected["x"][0]
        assert_same_array(back, expected)


def assert_same_array(back: Any, expected: Any) -> None:
    assert type(back) is type(expected)
    assert (back.dtype, back.shape) == (expected.dtype, expected.shape)
    assert content(back) == content(expected)
    for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE", "ALIGNED"):
        assert back.flags[flag] == expected.flags[flag], flag
    if back.size:
        assert back.strides == expected.strides
    if isinstance(back, np.ma.MaskedArray):
        assert_same_array(np.ma.getmaskarray(back), np.ma.getmaskarray(expected))
        assert repr(back._fill_value) == repr(expected._fill_value)
    assert getattr(back, "label", None) == getattr(expected, "label", None)


def content(array: Any) -> bytes:
    """Return the bytes of an array of any subclass."""
    return np.ndarray.view(array, np.ndarray).tobytes("A")


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(10_000, "M8[ns]"),
        lambda: np.zeros((100, 100))[::2],
        lambda: np.zeros((10, 20, 30)).transpose(1, 2, 0),
        lambda: np.zeros(10_000).view(Labelled),
        lambda: np.zeros(1_000, [("a", "f8"), ("b", "M8[s]")]),
        lambda: np.zeros(1_000, [("a", "f8")]).view(np.recarray),
        lambda: np.ma.zeros(10_000),
    ],
)
def test_memory_of_an_array_travels_outside_the_pickle(make: Any) -> None:
    trip = Trip(make())
    assert trip.moved >= make().nbytes
    assert len(trip.data) < 1000


def test_a_subclass_of_an_array_with_a_state_of_its_own_keeps_it() -> None:
    array = np.arange(10_000.0).view(Stateful)
    array.label = "mine"
    back = Trip(array).value
    assert (type(back), back.label) == (Stateful, "mine")
    assert np.array_equal(back, array)


def test_an_array_that_two_names_refer_to_stays_one() -> None:
    array = np.zeros(10_000, "M8[s]")
    back = Trip([array, array]).value
    assert back[0] is back[1]


@few_examples
@given(
    st.lists(
        st.one_of(st.text(max_size=3), st.text("ab\0\ud800é", max_size=3)), min_size=1, max_size=50
    ),
    st.sampled_from([(), (None,), (float("nan"), None), (1,), (b"x",)]),
    st.sampled_from(["1d", "2d", "F"]),
    st.booleans(),
)
def test_an_array_of_strings_arrives_whole(
    texts: list[str], others: tuple[Any, ...], layout: str, distinct: bool
) -> None:
    items: list[Any] = [f"{n if distinct else n % 7} {texts[n % len(texts)]}" for n in range(2000)]
    items[: len(others)] = others
    array = np.array(items, object)
    if layout != "1d":
        array = array.reshape(20, 100, order="F" if layout == "F" else "C")
    back, expected = Trip(array).value, plain(array)
    assert (back.shape, back.strides) == (expected.shape, expected.strides)
    assert back.flags.writeable
    assert pickle.dumps(list(map(repr, back.flat))) == pickle.dumps(list(map(repr, expected.flat)))
    assert list(map(type, back.flat)) == list(map(type, expected.flat))


@few_examples
@given(
    st.lists(
        st.tuples(st.sampled_from("?bHiqfdFDgG"), hn.array_shapes(min_dims=0, max_side=6)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([1, 300]),
)
def test_lists_and_dicts_of_many_arrays_arrive(shapes: list[Any], times: int) -> None:
    arrays = [
        np.asarray((np.arange(np.prod(shape)).reshape(shape) % 100).astype(kind))
        for kind, shape in shapes
    ]
    for array in arrays[::3]:
        array.flags.writeable = False
    value = {
        "list": [array.copy() if array.flags.writeable else array for array in arrays * times],
        "by name": {str(n): array for n, array in enumerate(arrays)},
        "again": arrays,
    }
    back, expected = Trip(value).value, plain(value)
    for one, other in zip(back["list"], expected["list"], strict=True):
        assert_same_array(one, other)
    for n, array in enumerate(arrays):
        assert back["by name"][str(n)] is back["again"][n]
        assert (back["list"][n] is back["again"][n]) == (value["list"][n] is array)


# --- scipy and pillow -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@few_examples
@given(
    st.sampled_from(["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]),
    st.sampled_from(["array", "matrix"]),
    st.sampled_from(["float64", "float32", "complex128", "int16", "bool"]),
    st.sampled_from([(3, 4), (120, 60)]),
    st.sampled_from([0.0, 0.3]),
)
def test_sparse_matrices_of_scipy_arrive_as_they_are_pickled(
    form: str, kind: str, dtype: str, shape: tuple[int, int], density: float
) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    array = sparse.random(*shape, density, format="csr", random_state=1) * 100
    value = getattr(sparse, f"{form}_{kind}")(array.astype(dtype))
    back, expected = Trip([value]).value[0], plain(value)
    assert type(back) is type(expected) is type(value)
    assert (back.dtype, back.shape, back.nnz) == (expected.dtype, expected.shape, expected.nnz)
    assert back.toarray().tobytes() == expected.toarray().tobytes()
    for name in ("data", "indices", "indptr", "offsets", "row", "col"):
        found = getattr(expected, name, None)
        if isinstance(found, np.ndarray) and found.dtype != object:
            assert_same_array(getattr(back, name), found)
    assert ((back + back) != (expected + expected)).nnz == 0


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_memory_of_sparse_matrices_travels_outside_the_pickle(form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    value = sparse.random(300, 300, 0.3, format=form, random_state=1)
    assert Trip(value).moved >= value.data.nbytes


@few_examples
@given(st.sampled_from(["1", "L", "P", "RGB", "RGBA", "F", "I", "CMYK"]), st.sampled_from([3, 90]))
def test_images_arrive_as_pillow_pickles_them(mode: str, size: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.effect_mandelbrot((size, size), (-2, -2, 2, 2), 20).convert(mode)
    image.info["by"] = "me"
    back, expected = Trip(image).value, plain(image)
    assert (type(back), back.mode, back.size) == (type(expected), mode, (size, size))
    assert back.tobytes() == expected.tobytes()
    assert (back.info, back.getpalette()) == (expected.info, expected.getpalette())
    back.putpixel((0, 0), back.getpixel((1, 1)))


# --- the table itself -----------------------------------------------------------------------------


def test_pickling_imports_no_library() -> None:
    code = """if True:
        import sys
        from lifecycle_magic.wire.pickling import dumps
        dumps([memoryview(b"x" * 10_000), ValueError("x")])
        libraries = {"numpy", "torch", "pandas", "polars", "pyarrow", "jax", "PIL", "scipy"}
        print(libraries & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class Registered:
    pass


def test_what_is_registered_with_copyreg_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import copyreg

    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda value: (str, ("registered",)))
    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda value: (str, ("array",)))
    assert Trip([Registered(), np.zeros(5000)[::2]]).value == ["registered", "array"]


def test_a_large_string_is_not_searched_for_names() -> None:
    value = [b"__main__" * 100_000, "x" * 70_000, {"y": b"y" * 300_000}]
    data, _ = dumps(value)
    assert data == pickle.dumps(value, 5)
    assert loads(data) == value
