"""Constructor arguments in the query of an address: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.query_arguments import read_query, takes_query
from lifecycle_magic.spec.reading import read_class


class Model:
    name: str = lm.parameter()
    size: int = lm.parameter(default=1)
    rate: float = lm.parameter(default=0.5)
    fast: bool = lm.parameter(default=False)
    raw: bytes = lm.parameter(default=b"")

    @lm.fastapi_endpoint()
    def plain(self, x: int, words: list[str] | None = None) -> int:
        return x

    @lm.fastapi_endpoint()
    def open_ended(self, request: Any) -> None: ...

    @lm.asgi_app()
    def app(self) -> Any: ...


SPEC = read_class(Model, Options())


def read(query: str, method: str = "plain", **more: Any) -> dict[str, Any]:
    return read_query(SPEC, SPEC.methods[method], query, **more)


def test_values_are_read_as_the_types_that_the_class_declares() -> None:
    found = read("name=a%20b&size=3&rate=2&fast=on&x=1&words=u&words=v")
    assert found == {"name": "a b", "size": 3, "rate": 2.0, "fast": True}
    assert [type(one) for one in found.values()] == [str, int, float, bool]
    assert read("name=&x=1") == {"name": ""}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("x=1", "Model needs name in the query"),
        ("name=a&name=b", "name is given twice"),
        ("name=a&size=1.5", "size is int, not '1.5'"),
        ("name=a&fast=perhaps", "fast is bool, not 'perhaps'"),
        ("name=a&raw=b", "raw can't be given in a query: it is bytes"),
        ("name=a&colour=red", "There is no argument 'colour' here, only name, size"),
    ],
)
def test_a_query_that_fits_no_instance_is_refused(query: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        read(query)


@pytest.mark.parametrize("method", ["open_ended", "app"])
def test_an_application_that_reads_the_query_itself_gets_any_other_name(method: str) -> None:
    assert read("name=a&colour=red", method) == {"name": "a"}


def test_an_address_of_one_instance_refuses_the_arguments_of_another() -> None:
    fixed = {"name": "a", "size": 1}
    assert read("x=1&name=a", fixed=fixed) == {}
    with pytest.raises(InvalidError, match="another name"):
        read("x=1&name=b", fixed=fixed)


def test_a_class_without_parameters_takes_no_query() -> None:
    class Plain:
        def __init__(self, size: int = 1) -> None: ...

        @lm.fastapi_endpoint()
        def show(self) -> None: ...

    assert takes_query(SPEC)
    assert not takes_query(read_class(Plain, Options()))
