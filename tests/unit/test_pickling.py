"""Values on the wire: by the C pickler where possible, by value where necessary."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
import reprlib
import subprocess
import sys
import warnings
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

from lifecycle_magic.wire import native_types
from lifecycle_magic.wire.pickling import OUT_OF_BAND_BYTES, dumps, dumps_by_value, loads

pytestmark = pytest.mark.every_python


def there_and_back(value: Any) -> Any:
    data, buffers = dumps(value)
    return loads(data, buffers=[bytearray(buffer.raw()) for buffer in buffers])


@pytest.mark.parametrize(
    "value", [None, 1, "text", [1, {"a": (2, 3)}], b"x" * 10_000, {"__main__": 1}]
)
def test_plain_values_come_back(value: Any) -> None:
    assert there_and_back(value) == value


def test_large_arrays_travel_outside_the_pickle() -> None:
    array = np.arange(OUT_OF_BAND_BYTES, dtype=np.uint8)
    data, buffers = dumps([array, array[:10].copy()])
    assert [buffer.raw().nbytes for buffer in buffers] == [OUT_OF_BAND_BYTES]
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


def test_the_result_of_a_shell_line_travels_as_a_list() -> None:
    """Containers have no IPython."""
    from IPython.utils.text import LSString, SList

    lines = SList(["b", "a"])
    for value in (lines, [1, {"lines": lines}], ((), {"text": LSString("x")})):
        data, _ = dumps(value)
        assert b"IPython" not in data
        assert loads(data) == value
    assert type(there_and_back(lines)) is list


class KeyOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("key only")
        self.code = code


class Prefixed(ValueError):
    def __init__(self, text: str) -> None:
        super().__init__(f"prefix: {text}")


class Nothing(OSError):
    def __init__(self) -> None:
        super().__init__(2, "fixed")


class ByItself(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")
        self.both = one, two

    def __reduce__(self) -> Any:
        return ByItself, self.both


@dataclasses.dataclass
class Holder:
    error: BaseException


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda error: error,
        lambda error: [error],
        lambda error: {"a": ({error: 1},)},
        lambda error: Holder(error),
        lambda error: (7, "method", (error,), {}),
        lambda error: (7, "method", ([error],), {"key": error}),
        lambda error: (error, "four", (), {}),
        lambda error: np.array([error, None], dtype=object),
        lambda error: [1.5] * 10_000 + [error],
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        KeyOnly(code=3),
        Prefixed("a"),
        Nothing(),
        ByItself(1, 2),
        KeyError("k"),
        OSError(2, "x", "f"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_inside_a_value_arrives_as_it_was(error: Any, wrapped: Any) -> None:
    """No constructor runs: it need not take the exception's ``args``."""
    back = _exceptions_in(there_and_back(wrapped(error)))
    assert back
    for one in back:
        assert type(one) is type(error)
        assert (str(one), one.args, vars(one)) == (str(error), error.args, vars(error))
    assert len({id(one) for one in back}) == 1


def _exceptions_in(value: Any) -> list[BaseException]:
    if isinstance(value, BaseException):
        return [value]
    if isinstance(value, Holder):
        return [value.error]
    if isinstance(value, dict):
        return [found for pair in value.items() for one in pair for found in _exceptions_in(one)]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [found for one in value for found in _exceptions_in(one)]
    return []


def test_types_that_no_module_names_are_the_same_types() -> None:
    kinds = [
        *map(type, ({}.keys(), {}.values(), {}.items(), iter([]), iter({}), iter(int, 1))),
        *map(type, (None, ..., NotImplemented, vars(int), [].__len__, len, sys, dumps)),
        type(number for number in range(3)),
        type(OrderedDict().keys()),
    ]
    assert there_and_back(kinds) == kinds
    assert there_and_back({"kinds": [(kind, 1) for kind in kinds]}) == {
        "kinds": [(kind, 1) for kind in kinds]
    }


def test_a_type_that_can_not_be_found_again_is_refused() -> None:
    with pytest.raises(TypeError, match=r"this Python has no type builtins\.nowhere"):
        native_types.find("builtins", "nowhere")


VALUE: ContextVar[int] = ContextVar("VALUE", default=1)


def test_a_context_variable_is_the_same_one_where_it_has_been() -> None:
    mine: ContextVar[Any] = ContextVar("mine", default=5)
    assert there_and_back([mine, {"a": mine}]) == [mine, {"a": mine}]
    assert there_and_back(VALUE) is VALUE
    other: ContextVar[Any] = ContextVar("mine")
    assert there_and_back(other) is other


def test_a_context_variable_arrives_with_its_default_and_value() -> None:
    program = (
        "import contextvars, pickle, sys\n"
        "one, two = pickle.load(sys.stdin.buffer)\n"
        "empty = contextvars.Context()\n"
        "print(one.name, one.get(), empty.run(one.get), two.name, two.get('none'))\n"
    )
    one: ContextVar[Any] = ContextVar("one", default=5)
    two: ContextVar[Any] = ContextVar("two")
    one.set([7])
    root = __file__.rpartition("/tests/")[0]
    told = subprocess.run(
        [sys.executable, "-c", program],
        input=dumps_by_value((one, two)),
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode().split("\n")[0] == "one [7] 5 two none"


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


def test_instances_among_the_attributes_of_their_class_are_rebuilt_by_its_methods() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from lifecycle_magic.wire.pickling import dumps\n"
        "class Color:\n"
        "    table = {}\n"
        "    def __new__(cls, name):\n"
        "        cls.table.setdefault(name, object.__new__(cls)).name = name\n"
        "        return cls.table[name]\n"
        "    seen = set()\n"
        "    def __getnewargs__(self): return (self.name,)\n"
        "    def __hash__(self): return len(self.name)\n"
        "    def __eq__(self, other): return self.name == other.name\n"
        "Color.seen.add(Color('red'))\n"
        "sys.stdout.buffer.write(dumps(Color)[0])\n"
    )
    root = __file__.rpartition("/tests/")[0]
    told = subprocess.run([sys.executable, "-c", program, root], capture_output=True, check=True)
    color = loads(told.stdout)
    assert color.table["red"] is color("red")
    assert color("red") in color.seen
    names = [name for name in vars(color) if name in ("table", "__new__", "seen", "__eq__")]
    assert names == ["table", "__new__", "seen", "__eq__"]  # as in the class statement


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


class _Warns:
    def __reduce__(self) -> tuple[type, tuple[()]]:
        warnings.warn("it is going away", FutureWarning, stacklevel=2)
        return _Warns, ()


def test_filters_that_make_warnings_errors_keep_no_value_from_travelling() -> None:
    before = list(warnings.filters)
    assert isinstance(loads(dumps([_Warns()])[0])[0], _Warns)  # pytest makes errors of warnings
    assert list(warnings.filters) == before


def test_a_warning_that_a_value_raises_itself_is_raised() -> None:
    class Raises:
        def __reduce__(self) -> Any:
            raise FutureWarning("no")

    with pytest.raises(FutureWarning, match="no"):
        dumps(Raises())


@pytest.mark.parametrize("method", [random.seed, random.random, reprlib.repr, np.random.seed])
def test_a_method_that_its_module_names_arrives_as_the_module_s_own(method: Any) -> None:
    assert loads(dumps_by_value(method)) == method


@pytest.mark.parametrize("method", [random.Random(1).seed, random.Random(1).random, [1].append])
def test_a_method_of_any_other_object_arrives_with_a_copy_of_it(method: Any) -> None:
    back = loads(dumps_by_value(method))
    assert back.__name__ == method.__name__
    assert back.__self__ is not method.__self__
