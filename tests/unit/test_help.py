"""Handles in editors and completion: names, signatures, docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.spec.option_types import OptionTypes
from lifecycle_magic.spec.options import declared

app = lm.App("help")


@app.cls()
class Model:
    """A model."""

    size: int = lm.parameter(default=3)

    @lm.method()
    def predict(self, n: int, *, text: str = "a") -> list[int]:
        """Predict things."""
        return [n] * self.size


@app.function()
def square(n: int) -> int:
    """Return the square."""
    return n * n


@pytest.mark.parametrize("way", ["remote", "remote_gen", "spawn"])
def test_a_way_to_call_shows_the_users_own_signature_and_docstring(way: str) -> None:
    method = getattr(Model().predict, way)
    assert str(inspect.signature(method)) == "(n: 'int', *, text: 'str' = 'a') -> 'list[int]'"
    summary, _, own = inspect.getdoc(method).partition("\n\n")
    assert own == "Predict things."
    assert summary.endswith(".")
    function = getattr(square, way)
    assert str(inspect.signature(function)) == "(n: 'int') -> 'int'"
    assert inspect.getdoc(function).endswith("\n\nReturn the square.")


@pytest.mark.parametrize("way", ["remote", "remote_gen", "spawn"])
def test_the_form_for_coroutines_shows_them_too(way: str) -> None:
    aio = getattr(Model().predict, way).aio
    assert str(inspect.signature(aio)) == "(n: 'int', *, text: 'str' = 'a') -> 'list[int]'"
    assert inspect.getdoc(aio).endswith(".\n\nPredict things.")
    assert inspect.iscoroutinefunction(aio) == (way != "remote_gen")


def test_a_local_call_shows_them_too() -> None:
    local = Model().predict.local
    assert local(2) == [2, 2, 2]
    assert str(inspect.signature(local)) == "(n: 'int', *, text: 'str' = 'a') -> 'list[int]'"
    assert inspect.getdoc(local).startswith("Run the method in this process")
    assert inspect.getdoc(local).endswith("Predict things.")


def test_a_method_shows_its_own_docstring() -> None:
    assert inspect.getdoc(Model().predict) == "Predict things."
    assert list(inspect.signature(Model().predict).parameters) == ["n", "text"]
    assert inspect.getdoc(Model) == "A model."
    assert str(inspect.signature(Model)) == "(*, size=3)"


@pytest.mark.parametrize("way", ["map", "starmap", "for_each"])
def test_a_map_shows_what_it_takes(way: str) -> None:
    for method in (getattr(Model().predict, way), getattr(square, way)):
        assert {"kwargs", "progress"} < set(inspect.signature(method).parameters)
        assert inspect.getdoc(method)


def test_completion_offers_the_methods_and_arguments_of_an_instance() -> None:
    assert dir(Model()) == ["predict", "size"]


def test_completion_offers_the_steps_of_an_image_and_nothing_else() -> None:
    offered = dir(lm.Image.debian_slim())
    assert {"pip_install", "env", "run_function", "add_local_dir"} < set(offered)
    assert not [name for name in offered if name.startswith("_")]
    assert all(callable(getattr(lm.Image, name)) for name in offered)


@pytest.mark.parametrize("function", [lm.App, app.cls, app.function, Model.with_options])
def test_every_option_is_shown_with_its_type_and_a_line(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    text = inspect.getdoc(function.__init__ if function is lm.App else function)
    for name, one in declared().items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].annotation
        assert f"{name}: {one.help}" in text


def test_the_types_of_options_are_those_that_are_declared() -> None:
    assert list(OptionTypes.__annotations__) == list(declared())
