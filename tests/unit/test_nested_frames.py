"""Inputs that are pickled by one process and numbered by another one."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.nested import pack_input, with_number
from lifecycle_magic.wire.pickling import loads


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, "text", None, 2.5), {}),
        (([1, {"a": 2}],), {"b": (3,)}),
        ((bytes(1 << 17), "x" * (1 << 17)), {}),
        (("y" * (1 << 20),), {"z": list(range(50_000))}),
        ((bytes(1 << 20), bytearray(1 << 19)), {}),
        ((lambda x: x + 1,), {}),  # by value
    ],
)
@pytest.mark.parametrize("number", [1, 255, 65_536, (1 << 31) - 2])
def test_an_input_gets_its_number_without_being_read(
    args: tuple[Any, ...], kwargs: dict[str, Any], number: int
) -> None:
    data, buffers = pack_input("method", args, kwargs)
    given = [bytes(one.raw()) if hasattr(one, "raw") else one for one in buffers]
    call, method, got, got_kwargs = loads(with_number(memoryview(data), number), buffers=given)
    assert (call, method) == (number, "method")
    if args and callable(args[0]):
        assert got[0](1) == 2
    else:
        assert (got, got_kwargs) == (args, kwargs)


SHORT = b"\x80\x05\x95(J\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    "data", [b"", b"no pickle", SHORT, pickle.dumps((1, "m", (), {}), 5), bytes(40)]
)
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="can't be read"):
        with_number(memoryview(data), 1)
