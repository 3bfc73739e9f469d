"""Tensors of torch arrive as torch pickles them, without a copy, and share what they shared."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from channel_pair import Pair
from hypothesis import given
from hypothesis import strategies as st
from trips import Trip, few_examples, library, plain

TORCH_DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool"),
    *("uint8", "int8", "int16", "int32", "int64"),
)
NEWER_DTYPES = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
VIEWS: dict[str, Any] = {
    "whole": lambda t: t,
    "slice": lambda t: t[1:],
    "gaps": lambda t: t[::2],
    "transposed": lambda t: t.T,
    "row": lambda t: t[0],
    "expanded": lambda t: t[:1].expand(5, t.shape[1]),
    "empty": lambda t: t[:0],
}


@few_examples
@given(st.data())
def test_tensors_arrive_as_torch_pickles_them(data: Any) -> None:
    torch = library("torch")
    names = data.draw(
        st.lists(st.sampled_from(TORCH_DTYPES + NEWER_DTYPES), min_size=1, max_size=3)
    )
    values = []
    for name in names:
        rows, columns = data.draw(st.sampled_from([(2, 3), (100, 70)]))
        raw = torch.arange(rows * columns).reshape(rows, columns) % 100
        whole = raw.to(getattr(torch, name))
        for view in data.draw(st.lists(st.sampled_from(sorted(VIEWS)), min_size=1, max_size=3)):
            tensor = VIEWS[view](whole)
            kind = data.draw(st.sampled_from(["tensor", "leaf", "parameter"]))
            if whole.is_floating_point() or whole.is_complex():
                if kind == "leaf":
                    tensor = tensor.detach().requires_grad_()
                elif kind == "parameter":
                    tensor = torch.nn.Parameter(tensor.detach(), requires_grad=len(values) % 2 == 0)
            values.append(tensor)
    back = Trip(values).value
    for one, value in zip(back, values, strict=True):
        # torch's own pickle of the newer dtypes raises.
        other = value if str(value.dtype).removeprefix("torch.") in NEWER_DTYPES else plain(value)
        assert type(one) is type(other)
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert (one.requires_grad, one.is_leaf) == (other.requires_grad, other.is_leaf)
        assert bits(torch, one) == bits(torch, other)
    assert sharing(back) == sharing(values)


def bits(torch: Any, tensor: Any) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def sharing(tensors: list[Any]) -> list[int]:
    """Return for each tensor the place of the first one with the same storage."""
    found = [one.untyped_storage()._cdata for one in tensors]
    return [found.index(one) for one in found]


def test_memory_of_tensors_travels_once_and_outside_the_pickle() -> None:
    torch = library("torch")
    whole = torch.arange(100_000, dtype=torch.bfloat16)
    trip = Trip({"a": whole, "b": whole[:50_000], "c": whole.reshape(100, 1000).T})
    assert trip.moved == 200_000
    assert len(trip.data) < 2000
    back = trip.value
    back["a"][7] = 0.5
    assert back["b"][7] == back["c"][7, 0] == 0.5


def test_a_tensor_that_arrives_is_a_view_of_the_memory_that_came() -> None:
    torch = library("torch")
    trip = Trip(torch.zeros(10_000))
    trip.value[0] = 1
    assert bytes(trip.memory[0][:4]) != bytes(4)


def test_a_tensor_that_comes_back_is_not_copied(request: pytest.FixtureRequest) -> None:
    torch = library("torch")
    pair = Pair()
    request.addfinalizer(pair.close)

    def change(state: Any) -> Any:
        state["a"].mul_(2)
        return state

    value = {"a": torch.ones(100_000), "b": torch.zeros(50_000, dtype=torch.bfloat16)}
    back = pair.answer(change, value)
    assert not pair.copied
    assert back["a"].sum() == 200_000
    assert value["a"].sum() == 100_000
    kept = [back["a"]]
    del back
    for n in range(3):  # what is kept does not change under its owner
        pair.answer(change, {"a": torch.full((100_000,), float(n))})
    assert kept[0].sum() == 200_000


def test_a_module_arrives_with_what_its_parameters_share() -> None:
    torch = library("torch")
    module = torch.nn.Sequential(
        torch.nn.Linear(100, 100), torch.nn.BatchNorm1d(100), torch.nn.Linear(100, 100)
    )
    module[2].weight = module[0].weight
    module[0].bias.requires_grad_(False)
    back = Trip(module.eval()).value
    assert back[2].weight is back[0].weight
    assert (back[0].bias.requires_grad, back.training) == (False, False)
    data = torch.ones(3, 100)
    assert torch.equal(back(data), module(data))
    state = Trip(module.state_dict()).value
    assert type(state) is type(module.state_dict())
    assert state._metadata == module.state_dict()._metadata
    assert state["0.weight"].data_ptr() == state["2.weight"].data_ptr()
    back.load_state_dict(state)


def test_other_layouts_of_torch_arrive() -> None:
    torch = library("torch")
    index = torch.arange(5000).repeat(2, 1)
    # An argument silences a warning of torch that fails the test.
    sparse = torch.sparse_coo_tensor(index, torch.ones(5000), check_invariants=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this layout new
        csr = sparse.to_sparse_csr()
    back = Trip([sparse, csr]).value
    assert torch.equal(back[0].to_dense().sum(0), sparse.to_dense().sum(0))
    assert back[1].layout == torch.sparse_csr
    assert torch.equal(back[1].values(), csr.values())
    conjugated = torch.ones(10_000, dtype=torch.complex64).conj()
    assert Trip(conjugated).value.is_conj()
    assert Trip(torch.empty(10, device="meta")).value.is_meta


@few_examples
@given(
    st.sampled_from(["coo", "csr", "csc", "bsr"]),
    st.sampled_from(["float32", "float64", "complex64", "int64", "bool"]),
    st.sampled_from([(2, 4), (60, 80)]),
    st.booleans(),
)
def test_sparse_tensors_arrive_as_torch_pickles_them(
    layout: str, dtype: str, shape: tuple[int, int], requires_grad: bool
) -> None:
    torch = library("torch")
    dense = (torch.arange(shape[0] * shape[1]).reshape(shape) % 3).to(getattr(torch, dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls these layouts new
        if layout == "coo":
            value = dense.to_sparse()
        elif layout == "bsr":
            value = dense.to_sparse_bsr((2, 2))
        else:
            value = getattr(dense, f"to_sparse_{layout}")()
        if requires_grad and value.dtype.is_floating_point:
            value.requires_grad_()
        back, expected = Trip([value]).value[0], plain(value)
        assert (back.layout, back.dtype, back.shape) == (
            expected.layout, expected.dtype, expected.shape
        )  # fmt: skip
        assert back.requires_grad == expected.requires_grad
        assert torch.equal(back.detach().to_dense(), expected.detach().to_dense())
        if layout == "coo":
            assert back.is_coalesced() == expected.is_coalesced()


@few_examples
@given(
    st.sampled_from(["quint8", "qint8", "qint32"]),
    st.sampled_from([(3,), (70, 90)]),
    st.booleans(),
)
def test_quantised_tensors_arrive_as_torch_pickles_them(
    dtype: str, shape: tuple[int, ...], per_channel: bool
) -> None:
    torch = library("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces their end
        kind, values = getattr(torch, dtype), torch.linspace(-1, 1, shape[0])
        whole = values.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()
        if per_channel:
            scales = torch.linspace(0.1, 0.2, shape[0], dtype=torch.float64)
            zeros = torch.zeros(shape[0], dtype=torch.int64)
            value = torch.quantize_per_channel(whole, scales, zeros, 0, kind)
        else:
            value = torch.quantize_per_tensor(whole, 0.1, 10 if dtype == "quint8" else 0, kind)
        back, expected = Trip(value).value, plain(value)
        assert (back.dtype, back.shape, back.stride()) == (
            expected.dtype, expected.shape, expected.stride()
        )  # fmt: skip
        assert back.qscheme() == expected.qscheme()
        assert torch.equal(back.int_repr(), expected.int_repr())
        if per_channel:
            assert torch.equal(back.q_per_channel_scales(), expected.q_per_channel_scales())
        else:
            assert (back.q_scale(), back.q_zero_point()) == (
                expected.q_scale(), expected.q_zero_point()
            )  # fmt: skip


def test_attributes_and_subclasses_of_tensors_arrive() -> None:
    torch = library("torch")
    value = torch.zeros(5000)
    value.note = {"by": "me"}
    assert Trip(value).value.note == {"by": "me"}
    buffer = torch.nn.Buffer(torch.zeros(5000))
    assert isinstance(Trip(buffer).value, torch.nn.Buffer)
