"""Declarations that Modal accepts, read without a container."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.session import session
from lifecycle_magic.spec.reading import read_class, read_function


def test_a_parameter_that_enter_sets_needs_no_default_and_is_no_argument() -> None:
    @lm.App().cls()
    class Model:
        size: int = lm.parameter(default=2)
        weights: list[int] = lm.parameter(init=False)
        never: int = lm.parameter(init=False)

        @lm.enter()
        def load(self) -> None:
            self.weights = [self.size]

        @lm.method()
        def get(self) -> int:
            return 1

    assert Model(size=3).size == 3
    for name in ("weights", "never"):
        with pytest.raises(AttributeError, match=rf"{name} is set while the instance runs"):
            getattr(Model(), name)
    with pytest.raises(InvalidError, match="weights"):
        Model(weights=[1])


def test_methods_without_a_decorator_make_a_class_that_runs_in_this_process() -> None:
    @lm.App().cls()
    class Plain:
        def __init__(self, size: int = 2) -> None:
            self.size = size

        def double(self, x: int) -> int:
            return self.size * x

    model: Any = Plain(size=3)
    assert model.double.local(4) == 12
    with pytest.raises(InvalidError, match=r"add @lm.method\(\) above def double"):
        model.double.remote(4)
    with pytest.raises(InvalidError, match=r"add @lm.method\(\) above def double"):
        model.double(4)
    assert read_class(Plain.__wrapped__).methods == {}  # type: ignore[attr-defined]


def test_a_function_says_that_it_returns_a_generator() -> None:
    def count(n: int) -> Iterator[int]:
        return iter(range(n))

    assert not read_function(count).methods["call"].is_generator
    assert read_function(count, is_generator=True).methods["call"].is_generator
    # the same function once more, as when an app is declared twice
    assert read_function(count, is_generator=True).methods["call"].is_generator
    with pytest.raises(InvalidError, match=r"@app.function\(is_generator="):
        lm.App(is_generator=True)  # type: ignore[call-arg]


def test_an_app_lists_what_is_declared_in_it() -> None:
    app = lm.App("listed")

    @app.cls()
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

        @lm.fastapi_endpoint()
        def page(self) -> str:
            return "x"

    @app.function(name="other")
    def function() -> int:
        return 1

    @app.function()
    @lm.fastapi_endpoint()
    def site() -> str:
        return "x"

    assert app.registered_classes == {"Model": Model}
    assert list(app.registered_functions) == ["other", "site"]
    assert app.registered_functions["other"].local() == 1
    assert app.registered_web_endpoints == ["Model.page", "site"]


def test_the_id_of_an_app_is_its_own_in_a_session() -> None:
    session.close("the test begins")
    one, other = lm.App("one"), lm.App("other")
    assert one.app_id is None
    try:
        session.current()
        assert one.app_id == lm.App("one").app_id
        assert str(one.app_id).startswith("ap-")
        assert one.app_id != other.app_id
    finally:
        session.close("the test is over")
    assert one.app_id is None
