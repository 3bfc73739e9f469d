"""Constructor arguments by ``parameter``, and instances with them."""

from __future__ import annotations

import pickle

import pytest

import lifecycle_magic as lm
from lifecycle_magic.decorators import parameters

pytestmark = pytest.mark.every_python


class Sized:
    size: str = lm.parameter(default="small")
    depth: int = lm.parameter()
    state: int = lm.parameter(default=0, init=False)


class Named(Sized):
    name: str = lm.parameter(default="x")
    size: str = lm.parameter(default="large")


def test_parameters_are_found_base_class_first_and_overrides_keep_their_place() -> None:
    assert list(parameters.parameters_of(Named)) == ["size", "depth", "state", "name"]
    assert parameters.parameters_of(Named)["size"].default == "large"


def test_an_instance_has_what_was_given_and_defaults_for_the_rest() -> None:
    one = parameters.instantiate(Named, (), {"depth": 3})
    two = parameters.instantiate(Named, (), {"depth": 4, "size": "tiny"})
    assert (one.size, one.depth, one.state, one.name) == ("large", 3, 0, "x")
    assert (two.size, two.depth) == ("tiny", 4)
    two.state = 7
    assert (one.state, two.state) == (0, 7)


def test_a_parameter_without_a_value_is_reported() -> None:
    with pytest.raises(AttributeError, match="depth of Sized has no value"):
        _ = Sized().depth


def test_a_class_with_a_constructor_is_made_by_it() -> None:
    class Model:
        def __init__(self, size: int, *, depth: int = 2) -> None:
            self.total = size * depth

    assert parameters.instantiate(Model, (3,), {"depth": 5}).total == 15


def test_the_missing_default_is_one_object_after_pickling() -> None:
    assert pickle.loads(pickle.dumps(parameters.MISSING)) is parameters.MISSING
