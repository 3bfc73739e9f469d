"""Names of modules that the notebook has replaced, which containers do not see."""

from __future__ import annotations

import importlib
import math
import pathlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lifecycle_magic.services.replaced_names import replaced_names

pytestmark = pytest.mark.every_python

TEXT = """\
RATE: float = 2.5
LIMIT = 3
COUNT = 0
PAIR = (1, "a")
CACHE = {}
MODE = "a"
if LIMIT:
    MODE = "b"

def price(amount):
    return amount * RATE

def count():
    global COUNT
    COUNT += 1
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "shop_of_test.py").write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shop_of_test")
    del sys.modules["shop_of_test"]


def of_notebook(text: str, **names: Any) -> dict[str, Any]:
    """The namespace of a notebook in which ``text`` has run."""
    space = {"__name__": "__main__", **names}
    exec(text, space)
    return space


def test_a_module_that_is_as_in_its_file_is_not_reported(shop: ModuleType) -> None:
    shop.count()
    shop.CACHE["a"] = 1
    assert replaced_names([], ["shop_of_test"]) == ()


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("shop.RATE = 4.0", "shop_of_test.RATE is 4.0 in the notebook, and 2.5 in shop_of_test.py"),
        ("shop.LIMIT = True", "shop_of_test.LIMIT is True in the notebook, and 3 in"),
        ("shop.PAIR = (1, 'b')", "shop_of_test.PAIR is (1, 'b') in the notebook"),
        ("shop.price = lambda amount: 0", "shop_of_test.price was replaced in the notebook"),
    ],
)
def test_a_name_that_a_cell_has_set_is_reported(shop: ModuleType, cell: str, told: str) -> None:
    of_notebook(cell, shop=shop)
    [found] = replaced_names([], ["shop_of_test"])
    assert found.startswith(told)
    assert "Fix: " in found


def test_a_function_of_a_library_is_reported_if_the_class_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = (
        "def own(x): return x\ndef go(): return [math.floor(x) for x in ()]\ndef no(): return own"
    )
    space = of_notebook(cells, math=math)
    monkeypatch.setattr(math, "floor", space["own"])
    assert replaced_names([space["no"]], []) == ()
    [found] = replaced_names([space["go"]], [])
    assert found.startswith("math.floor was replaced in the notebook")


def test_an_edited_file_that_is_not_reloaded_is_reported(shop: ModuleType) -> None:
    Path(str(shop.__file__)).write_text(TEXT.replace("LIMIT = 3", "LIMIT = 40"))
    [found] = replaced_names([], ["shop_of_test"])
    assert found.startswith("shop_of_test.LIMIT is 3 in the notebook, and 40 in")


def test_a_file_that_is_being_edited_is_no_error(shop: ModuleType) -> None:
    vars(shop)["LIMIT"] = 4
    Path(str(shop.__file__)).write_text("def unfinished(")
    assert replaced_names([], ["shop_of_test"]) == ()
    Path(str(shop.__file__)).unlink()
    assert replaced_names([], ["shop_of_test"]) == ()


def test_a_name_that_the_notebook_adds_to_a_library_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "script_of_test.py"
    file.write_text(
        "math.limit_of_test = 3\n"
        "setattr(pathlib.Path, 'list_of_test', len)\n"
        "def go(path): return math.limit_of_test, path.list_of_test()\n"
        "def fixed():\n    math.limit_of_test = 4\n    return math.limit_of_test\n"
        "def no(): return math.pi\n"
    )
    monkeypatch.setattr(math, "limit_of_test", 3, raising=False)
    monkeypatch.setattr(Path, "list_of_test", len, raising=False)
    space = {"__name__": "__main__", "__file__": str(file), "math": math, "pathlib": pathlib}
    exec(compile(file.read_text(), str(file), "exec"), space)
    assert replaced_names([space["no"], space["fixed"]], []) == ()
    [one, other] = replaced_names([space["go"]], [])
    assert one.startswith("math.limit_of_test was set in the notebook")
    assert "Path.list_of_test was set in the notebook" in other


@pytest.mark.parametrize("made", ["functools.partial(own, 1)", "Own()", "Own().own", "Mock()"])
def test_a_replacement_that_is_no_plain_function_is_reported(
    monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    cells = (
        "import functools\nfrom unittest.mock import Mock\ndef own(x): return x\n"
        "class Own:\n    def own(self): return 1\n    __call__ = own\n"
        f"made = {made}\ndef go(): return math.floor(2.5)\n"
    )
    space = of_notebook(cells, math=math)
    monkeypatch.setattr(math, "floor", space["made"])
    [found] = replaced_names([space["go"]], [])
    assert found.startswith("math.floor was replaced in the notebook")
