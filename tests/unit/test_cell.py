from __future__ import annotations

from typing import Any

import pytest

from lifecycle_magic import cell
from lifecycle_magic.arguments import parse
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.remote import Cls

CLASS = """
import lifecycle_magic as lm

class Model:
    @lm.method()
    def predict(self, x):
        return x
"""


def run(text: str, namespace: dict[str, Any], line: str = "--lazy") -> None:
    def no_card(spec: object, service: object):
        raise AssertionError("nothing is to be deployed")

    cell.run(lambda: exec(text, namespace), namespace, parse(line), no_card)


def space(**names: Any) -> dict[str, Any]:
    return {"__name__": "__main__", **names}


def found(text: str, **before: Any) -> dict[str, list[str]]:
    namespace = space(**before)
    former = dict(namespace)
    exec(text, namespace)
    return {cls.__name__: names for cls, names in cell.found_in(former, namespace).items()}


def test_a_class_with_decorators_is_found_with_all_its_names():
    assert found(CLASS + "Alias = Model") == {"Model": ["Model", "Alias"]}


def test_a_plain_class_and_an_imported_one_are_not_found():
    assert found("class Plain: pass\nfrom fractions import Fraction") == {}


def test_what_was_there_before_is_not_found():
    namespace = space()
    exec(CLASS, namespace)
    assert found("x = 1", Model=namespace["Model"]) == {}


def test_a_base_without_methods_stays_a_plain_class():
    text = CLASS + (
        "class Base:\n    @lm.enter()\n    def load(self): ...\n"
        "class Derived(Base):\n    @lm.method()\n    def f(self): ...\n"
        "class More(Model):\n    @lm.method()\n    def g(self): ...\n"
    )
    assert set(found(text)) == {"Model", "Derived", "More"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class Plain:\n    def f(self): ...", "class Plain has no lifecycle decorator"),
        ("x = 1", "the cell defines no class"),
        ("from fractions import Fraction", "the cell defines no class"),
        (
            CLASS.replace("class Model", "app = lm.App()\n@app.cls()\nclass Model"),
            "Model has @app.cls already",
        ),
    ],
)
def test_a_cell_without_a_lifecycle_class_is_told_what_is_missing(text: str, told: str):
    with pytest.raises(InvalidError, match="%%lifecycle_cls") as raised:
        run(text, space())
    assert told in str(raised.value)


@pytest.mark.parametrize("there", [True, False])
def test_a_cell_that_raises_leaves_the_name_as_it_was(there: bool):
    handle = Cls.__new__(Cls)
    namespace = space(**({"Model": handle} if there else {}))
    with pytest.raises(ZeroDivisionError):
        run(CLASS + "1 / 0", namespace)
    assert namespace.get("Model") is (handle if there else None)
    assert ("Model" in namespace) is there


def test_a_mistake_in_one_class_leaves_all_names_as_they_were():
    text = CLASS + "class Other:\n    @lm.method()\n    def __enter__(self): ...\n"
    namespace = space(Model=None)
    with pytest.raises(InvalidError):
        run(text, namespace)
    assert namespace["Model"] is None
    assert "Other" not in namespace
