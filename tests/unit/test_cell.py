"""The classes of a cell: which are deployed, as drafts, and what a failing cell leaves."""

from __future__ import annotations

import ast
import textwrap
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lifecycle_magic.decorators.marks import has_marks
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.obj import Obj
from lifecycle_magic.services.service import Service
from lifecycle_magic.session import session
from lifecycle_magic.spec.class_checks import hides_marks
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.ui.notebook import cell
from lifecycle_magic.ui.notebook.cell_classes import declaring
from lifecycle_magic.ui.notebook.options_line import parse
from lifecycle_magic.ui.notebook.run_cell import CellSyntaxError, execute

pytestmark = pytest.mark.every_python

CLASS = """
import lifecycle_magic as lm

class Model:
    @lm.method()
    def predict(self, x):
        return x
"""


def run(text: str, namespace: dict[str, Any], line: str = "--lazy", make_card: Any = None) -> None:
    def no_card(spec: object, service: object):
        raise AssertionError("nothing is to be deployed")

    shell = SimpleNamespace(user_ns=namespace, ast_transformers=[])

    def execute(declare: Callable[..., Any]) -> None:
        with declaring(shell, declare):
            tree = shell.ast_transformers[0].visit(ast.parse(text))
            exec(compile(tree, "<cell>", "exec"), namespace)

    cell.run(execute, namespace, parse(line), make_card or no_card)


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
def test_a_cell_without_a_lifecycle_class_reports_what_is_missing(text: str, told: str):
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


# --- while the cell runs -------------------------------------------------------------------------


class Lines:
    """Takes the place of a card that shows nothing."""

    def __init__(self, spec: ClassSpec, service: Service) -> None:
        self.told = [spec.name]

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def report_lazy(self) -> None:
        self.told.append("declared")


@pytest.fixture
def lazily() -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a cell whose classes are declared and not deployed; its namespace."""

    def declare(text: str, **before: Any) -> dict[str, Any]:
        namespace = space(**before)
        run(text, namespace, make_card=Lines)
        return namespace

    yield declare
    session.close("the test is over")


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "if True:\n{}",
        "for _ in range(1):\n{}",
        "while 'Model' not in globals():\n{}",
        "try:\n{}\nfinally:\n    pass",
        "with contextlib.suppress(KeyError):\n{}",
        "def make():\n{}\n    return Model\nModel = make()",
        "exec("
        + repr("import lifecycle_magic as lm\n" + CLASS)
        + ")\nModel = dict(M=Model).get('M')",
    ],
)
def test_a_class_is_a_handle_as_soon_as_its_statement_has_run(
    lazily: Callable[..., dict[str, Any]], around: str
):
    cell = textwrap.indent(CLASS, "    " if around != "{}" else "")
    text = f"import contextlib\n{around.format(cell)}\nseen = type(Model), type(Model())\n"
    space = lazily(text)
    assert space["seen"] == (Cls, Obj)
    assert isinstance(space["Model"], Cls)


def test_what_the_cell_assigns_to_the_class_counts(lazily: Callable[..., dict[str, Any]]):
    text = CLASS + (
        "early = Model()\n"
        "Model.LIMIT = 5\n"
        "setattr(Model, 'helper', lambda self: 1)\n"
        "@lm.method()\n"
        "def extra(self, y): return y\n"
        "Model.extra = extra\n"
        "del Model.predict\n"
    )
    space = lazily(text)
    assert dir(space["early"]) == ["extra"]
    assert space["Model"].LIMIT == 5
    assert space["early"].extra.local(3) == 3
    with pytest.raises(InvalidError, match=r"Model\.LIMIT = 6"):
        space["Model"].LIMIT = 6


def test_names_for_one_class_are_one_handle(lazily: Callable[..., dict[str, Any]]):
    space = lazily(CLASS + "A = B = Model\nlist_of = [Model]\n")
    assert space["A"] is space["B"] is space["Model"] is space["list_of"][0]


def test_the_last_of_two_classes_of_a_name_wins(lazily: Callable[..., dict[str, Any]]):
    space = lazily(CLASS + "first = Model()\n" + CLASS.replace("predict", "other"))
    assert dir(space["Model"]()) == ["other"]
    assert dir(space["first"]) == ["other"]


def test_a_class_that_the_cell_deletes_stays_behind_its_instances(
    lazily: Callable[..., dict[str, Any]],
):
    space = lazily(CLASS + "made = Model()\ndel Model\n")
    assert "Model" not in space
    assert space["made"].predict.local(3) == 3


FACTORY = """
import lifecycle_magic as lm
def make(n):
    class Made:
        @lm.method()
        def get(self): return n
    return Made
"""


def test_a_factory_that_is_called_again_for_the_same_name_declares_again(
    lazily: Callable[..., dict[str, Any]],
):
    space = lazily(FACTORY + "M = make(1)\nmade = M()\n")
    run("M = make(2)\n", space, make_card=Lines)
    assert (space["made"].get.local(), space["M"]().get.local()) == (2, 2)


def test_a_factory_that_is_called_for_other_names_makes_other_classes(
    lazily: Callable[..., dict[str, Any]],
):
    with pytest.warns(UserWarning, match="the name Made several times"):
        space = lazily(FACTORY + "A = make(1)\nB = make(2)\n")
    with pytest.warns(UserWarning, match="the name Made several times"):
        run("C = make(3)\n", space, make_card=Lines)
    assert [space[name]().get.local() for name in "ABC"] == [1, 2, 3]


@pytest.mark.parametrize(
    "decorator",
    [
        "@tagged\n    @lm.method()",
        "@lm.method()\n    @tagged",
        "@tagged\n    @tagged\n    @lm.method()",
    ],
)
def test_wrappers_are_no_code_of_the_class(lazily: Callable[..., dict[str, Any]], decorator: str):
    tools = (
        "import dataclasses, functools\nimport lifecycle_magic as lm\n"
        "def tagged(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(*args): return 't', fn(*args)\n"
        "    return wrapper\n"
    )
    text = (
        f"@dataclasses.dataclass\nclass M:\n    x: int = 1\n    {decorator}\n    def f(self): ...\n"
    )
    space = lazily(tools + text)
    first = space["M"]
    run(text, space, make_card=Lines)
    assert first == space["M"]


def test_decorators_get_the_plain_class(lazily: Callable[..., dict[str, Any]]):
    text = (
        "import dataclasses\nimport lifecycle_magic as lm\n"
        "seen = []\n"
        "def register(cls):\n    seen.append(type(cls))\n    return cls\n"
        "@register\n@dataclasses.dataclass\n"
        "class Model:\n    x: int\n    @lm.method()\n    def get(self): return self.x\n"
    )
    space = lazily(text)
    assert space["seen"] == [type]
    assert space["Model"](3).get.local() == 3


def test_a_decorator_called_on_the_name_counts_too(lazily: Callable[..., dict[str, Any]]):
    text = (
        "import dataclasses\nimport lifecycle_magic as lm\n"
        "class Model:\n    x: int\n    @lm.method()\n    def get(self): return self.x\n"
        "Model = dataclasses.dataclass(Model)\n"
    )
    space = lazily(text)
    assert space["Model"](3).get.local() == 3
    assert space["Model"](4).x == 4


def test_a_base_without_methods_works_in_the_cell_and_stays_plain(
    lazily: Callable[..., dict[str, Any]],
):
    text = (
        "import lifecycle_magic as lm\n"
        "class Base:\n    @lm.enter()\n    def load(self): self.x = 1\n"
        "made = Base()\n"
        "class Derived(Base):\n    @lm.method()\n    def get(self): return self.x\n"
        "good = isinstance(Derived(), Base), issubclass(Derived, Base)\n"
    )
    space = lazily(text)
    assert type(space["Base"]) is type
    assert type(space["made"]) is space["Base"]
    assert space["good"] == (True, True)


def test_a_mistake_is_raised_at_the_class_statement():
    namespace = space()
    with pytest.raises(InvalidError, match=r"Model\.predict: @method below @static") as caught:
        run(CLASS.replace("    @lm", "    @staticmethod\n    @lm") + "after = 1\n", namespace)
    lines = [frame.lineno for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert CLASS.splitlines().index("class Model:") + 1 in lines
    assert "after" not in namespace


def test_a_failed_cell_leaves_an_instance_with_the_former_code(
    lazily: Callable[..., dict[str, Any]],
):
    space = lazily(CLASS)
    with pytest.raises(ZeroDivisionError):
        run(CLASS.replace("predict", "other") + "made = Model()\n1 / 0\n", space, make_card=Lines)
    assert dir(space["made"]) == ["predict"]
    assert dir(space["Model"]()) == ["predict"]


@pytest.mark.parametrize("hook", ["", "    @lm.enter()\n    def load(self): ...\n"])
def test_a_call_of_a_class_whose_method_is_not_marked_names_the_fix(hook: str):
    text = f"import lifecycle_magic as lm\nclass K:\n{hook}    def go(self): ...\nK().go.remote()\n"
    with pytest.raises(InvalidError, match=r"K\.go is a plain method\. Fix: add @lm") as caught:
        run(text, space())
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.lineno == text.count("\n")


def test_the_hidden_name_is_removed_after_the_cell(lazily: Callable[..., dict[str, Any]]):
    text = CLASS + "names = sorted(globals())\n"
    assert set(lazily(text)) == {"__name__", "__builtins__", "Model", "lm", "names"}


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.sleep(0)",
        "x = [await f() for f in ()]",
        "async for x in y: pass",
        "async with a: pass",
    ],
)
def test_await_in_the_cell_of_a_class_names_the_fix(line: str):
    shell = InteractiveShell()
    with pytest.raises(InvalidError, match="move the await to a cell without %%lifecycle_cls") as e:
        execute(shell, CLASS + line, lambda value: value)
    assert repr(line) in str(e.value)
    assert "Model" not in shell.user_ns


def test_another_syntax_error_is_shown_as_usual():
    with pytest.raises(CellSyntaxError):
        execute(InteractiveShell(), "await (", lambda value: value)


class _Unfinished:
    """An attribute of a class that fails when it is asked for anything, as pydantic's do."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"not fully defined: {name}")


def test_a_class_statement_asks_nothing_of_the_class_attributes() -> None:
    cls = type("Node", (), {"validator": _Unfinished(), "__module__": "__main__"})
    assert not hides_marks(cls)
    assert not has_marks(cls)
