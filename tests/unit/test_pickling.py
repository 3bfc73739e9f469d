"""What goes over the wire: by the C pickler where that will do, by value where it must."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lifecycle_magic.wire.pickling import OUT_OF_BAND, dumps, dumps_by_value, loads


def there_and_back(value: Any) -> Any:
    data, buffers = dumps(value)
    return loads(data, buffers=[bytearray(buffer.raw()) for buffer in buffers])


@pytest.mark.parametrize(
    "value", [None, 1, "text", [1, {"a": (2, 3)}], b"x" * 10_000, {"__main__": 1}]
)
def test_plain_values_come_back(value: Any) -> None:
    assert there_and_back(value) == value


def test_large_arrays_travel_beside_the_pickle() -> None:
    array = np.arange(OUT_OF_BAND, dtype=np.uint8)
    data, buffers = dumps([array, array[:10].copy()])
    assert [buffer.raw().nbytes for buffer in buffers] == [OUT_OF_BAND]
    assert len(data) < 1000


def test_arrays_come_back_equal_and_writable() -> None:
    for array in (
        np.arange(3),
        np.arange(10_000.0).reshape(100, 100),
        np.asfortranarray(np.eye(100)),
    ):
        back = there_and_back(array)
        assert np.array_equal(back, array)
        back[0] = 5


def test_a_view_that_is_not_contiguous_comes_back() -> None:
    view = np.arange(100_000).reshape(100, 1000)[::2, ::3]
    assert np.array_equal(there_and_back(view), view)


def test_what_can_not_be_pickled_raises() -> None:
    with pytest.raises((TypeError, pickle.PicklingError)):
        dumps(number for number in range(3))


def test_what_was_defined_in_main_travels_by_value() -> None:
    """A class of ``__main__`` would be looked up in the other side's ``__main__``, where it is
    not."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from lifecycle_magic.wire.pickling import dumps\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "def double(p): return p.x * 2\n"
        "sys.stdout.buffer.write(dumps((double, Point(21)))[0])\n"
    )
    root = __file__.rpartition("/tests/")[0]
    told = subprocess.run([sys.executable, "-c", program, root], capture_output=True, check=True)
    double, point = loads(told.stdout)
    assert double(point) == 42


def test_code_that_travels_by_value_keeps_the_name_of_its_file() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def f():\n    return [i for i in ()]\n", "cell-7", "exec"), namespace)
    f = pickle.loads(dumps_by_value(namespace["f"]))
    inner = [const.co_filename for const in f.__code__.co_consts if hasattr(const, "co_filename")]
    assert {f.__code__.co_filename, *inner} == {"cell-7"}


FASTAPI = """
from __future__ import annotations
import lifecycle_magic as lm
from fastapi import FastAPI, Request

class Item: ...

app = FastAPI()

@app.get("/")
async def there(request: Request): ...

class Model:
    @lm.fastapi_endpoint()
    def predict(self, item: list[Item]): ...

    @lm.asgi_app()
    def web(self):
        def inner(request: Request) -> Item: ...
        return inner, app

    @lm.method()
    def plain(self, item: Item): ...
"""


def in_main(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), space)
    return space


def test_what_annotations_of_web_methods_name_travels() -> None:
    cls = there_and_back(in_main(FASTAPI)["Model"])
    assert "Item" in cls.predict.__globals__
    inner, _ = cls.web(None)
    assert {"Request", "Item"} <= set(inner.__globals__)
    plain = there_and_back(in_main(FASTAPI)["Model"].__dict__["plain"])
    assert "Item" not in plain.__globals__


def test_an_application_that_is_a_global_travels() -> None:
    _, app = there_and_back(in_main(FASTAPI)["Model"]).web(None)
    assert any(getattr(route, "path", "") == "/" for route in app.routes)
