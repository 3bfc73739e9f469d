"""Top-level names that a container makes again by their statements."""

from __future__ import annotations

import sys
import types
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.decorators import travel
from lifecycle_magic.exception import SerializationError
from lifecycle_magic.fingerprint import fingerprint, reruns
from lifecycle_magic.services import packing
from lifecycle_magic.wire import name_table

HEAD = "import lifecycle_magic as modal\n"
CACHED = "import functools\n@functools.cache\ndef here(): return modal.is_local()\n"
REGISTER = "X = {}\ndef register(f):\n    X[f.__name__] = modal.is_local()\n    return f\n"
COUNTER = "COUNT = 0\ndef up():\n    global COUNT\n    COUNT += 1\n    return COUNT\n"
M = "\nclass M:\n    def go(self): return {0}\n"


def ran(folder: Path, text: str) -> dict[str, Any]:
    """The namespace of a script that has run here."""
    script = folder / f"script{len(list(folder.iterdir()))}.py"
    script.write_text(HEAD + text)
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    exec(compile(script.read_text(), str(script), "exec", dont_inherit=True), vars(module))
    return vars(module)


def there(
    space: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    *modules: str,
    variables: Collection[str] = (),
) -> dict[str, Any]:
    """The namespace that a container has of the class ``M``; the image has the modules."""
    data = packing.pack(space["M"], variables=frozenset(variables)).data
    for name in modules:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(travel, "_handles", object())
    spaces: dict[str, dict[str, Any]] = {"__main__": {"__name__": "__main__"}}
    name_table.read(data, spaces)
    return spaces["__main__"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("if modal.is_local():\n    X = 1\nelse:\n    X = 2", 2),
        ("from lifecycle_magic import is_local\nX = 1 if is_local() else 2", 2),
        ("def where(): return modal.is_local()\nX = 1 if where() else 2", 2),
        ("class C:\n    def __init__(self): self.here = modal.is_local()\nX = C().here", False),
        ("D = 'a' if modal.is_local() else 'b'\nX = [D + 'c']\nX.append(D)", ["bc", "b"]),
        ("X = []\nfor one in (1, 2):\n    if not modal.is_local():\n        X.append(one)", [1, 2]),
        ("import os\nX = dict(a=modal.is_local())\nX['sep'] = os.sep", {"a": False, "sep": "/"}),
        ("K = 5\nif modal.is_local():\n    X = 0\nelse:\n    X = K + 1", 6),
        ("if __name__ == '__main__':\n    X = 3\nY = modal.is_local()", 3),
        ("X = modal.is_local()\nX = 4", 4),
        ("X = {}\nX[modal.is_local()] = 1\nX = 5", 5),
        ("b = 1 if modal.is_local() else 2\nX = b * 10\nb = 5", 20),
        ("b = 'h' if modal.is_local() else 'c'\na = b + 'a'\nb = a + 'b'\nX = b\nb = 1", "cab"),
        ("K = 5\nX = K + modal.is_local()\nK = 9", 5),
        ("K, Z = 5, 6\nb = K + modal.is_local()\nK, Z = 9, 7\nX = [b, Z]", [5, 7]),
        ("b = []\nX = b\nb.append(modal.is_local())\nb = [0]", [False]),
        ("class P:\n    @property\n    def x(self): return modal.is_local()\nX = P().x", False),
        (CACHED + "A = here()\nX = A, here()", (False, False)),
        (CACHED + "T = {'a': here}\nhere()\nX = T['a']()", False),
        (CACHED + "X = [one() for one in [here]][0]", False),
        ("def up():\n    global X\n    X = modal.is_local()\nX = None\nup()", False),
        (REGISTER + "@register\ndef f(): pass", {"f": False}),
        (COUNTER + "X = (0 if modal.is_local() else 1, up(), COUNT)", (1, 1, 1)),
    ],
)
def test_a_name_that_depends_on_where_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, wanted: Any
) -> None:
    space = ran(tmp_path, text + M.format("X"))
    assert there(space, monkeypatch)["X"] == wanted


def test_functions_and_classes_of_a_branch_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "K = 2\nif modal.is_local():\n    def f(): return 'here'\n"
        "else:\n    def f(): return K + tiny()\ndef tiny(): return 1\n"
        "P = 'a' if modal.is_local() else 'b'\ndef g(p=P): return p\n"
    )
    made = there(ran(tmp_path, text + M.format("f(), g()")), monkeypatch)
    assert (made["f"](), made["g"]()) == (3, "b")


def test_a_decorator_that_asks_decorates_in_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "def there(f): return f if modal.is_local() else (lambda: 'there ' + f())\n"
        "@there\ndef f(): return 'f'\n"
    )
    assert there(ran(tmp_path, text + M.format("f()")), monkeypatch)["f"]() == "there f"


def test_a_name_that_only_the_kernel_binds_stays_unbound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "if modal.is_local():\n    X = 1\n" + M.format("X")
    assert "X" not in there(ran(tmp_path, text), monkeypatch)


def test_statements_that_only_set_something_up_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "made_here", [], raising=False)
    text = "import sys\nif not modal.is_local():\n    sys.made_here += ['x']\n" + M.format("1")
    there(ran(tmp_path, text), monkeypatch)
    assert vars(sys)["made_here"] == ["x"]


def test_an_import_that_this_kernel_lacks_is_tried_in_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "try:\n    import only_there\nexcept ImportError:\n    only_there = None\n"
        "HAS = only_there is not None\n" + M.format("only_there, HAS")
    )
    data = there(ran(tmp_path, text), monkeypatch, "only_there")
    assert data["only_there"] is sys.modules["only_there"]
    assert data["HAS"] is True


def test_a_class_body_that_reads_such_a_name_is_refused(tmp_path: Path) -> None:
    text = (
        "D = 1 if modal.is_local() else 2\nclass M:\n    d = D\n    def go(self): return self.d\n"
    )
    with pytest.raises(SerializationError) as raised:
        packing.pack(ran(tmp_path, text)["M"])
    assert "the class body of M reads D (script0.py, line 2)" in str(raised.value)
    assert "Fix: read D in a method" in str(raised.value)


def test_a_branch_of_the_container_counts_in_the_digest(tmp_path: Path) -> None:
    text = "if modal.is_local():\n    X = 1\nelse:\n    X = {0}\n" + M.format("X").replace(
        "{", "{{"
    )
    prints = [
        fingerprint.of_members(ran(tmp_path, text.format(one))["M"], ["go"]).digest
        for one in (2, 2, 3)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_script_without_such_statements_has_no_such_names(tmp_path: Path) -> None:
    assert not reruns.find(ran(tmp_path, "X = 1" + M.format("X"))).names


@pytest.mark.parametrize("read", ["environ.get('LM_GIVEN', 'here')", "getenv('LM_GIVEN', 'here')"])
def test_a_variable_that_the_class_gives_is_read_in_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    text = f"import os\nT = os.{read}\nX = T + '!'\n" + M.format("X")
    space = ran(tmp_path, text)
    monkeypatch.setenv("LM_GIVEN", "there")
    assert there(space, monkeypatch)["X"] == "here!"
    monkeypatch.setattr(travel, "_handles", None)
    assert there(space, monkeypatch, variables=["LM_GIVEN"])["X"] == "there!"


def test_a_name_of_a_module_beside_the_script_is_the_containers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "lm_places.py").write_text(HEAD + "X = {'here': modal.is_local()}\nY = 1\n")
    monkeypatch.syspath_prepend(str(beside))
    space = ran(tmp_path, "from lm_places import X, Y\n" + M.format("X, Y"))
    assert space["X"] == {"here": True}
    data = packing.pack(space["M"]).data
    monkeypatch.delitem(sys.modules, "lm_places")
    monkeypatch.setattr(travel, "_handles", object())
    spaces: dict[str, dict[str, Any]] = {"__main__": {"__name__": "__main__"}}
    name_table.read(data, spaces)
    assert spaces["__main__"]["X"] == {"here": False}


def test_what_pickle_cannot_send_is_made_again_by_the_statements_of_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import sqlite3, threading\nLOCK = threading.Lock()\nDB = sqlite3.connect(':memory:')\n"
        "DB.execute('create table t (x)')\nfor one in range(3):\n"
        "    DB.execute('insert into t values (?)', (one,))\n"
    )
    made = there(ran(tmp_path, text + M.format("LOCK, DB")), monkeypatch)
    assert made["DB"].execute("select sum(x) from t").fetchone() == (3,)
    assert made["LOCK"].acquire(blocking=False)


def test_a_statement_that_raises_there_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "if modal.is_local():\n    X = 1\nelse:\n    X = [][1]\n" + M.format("X")
    with pytest.raises(IndexError) as raised:
        there(ran(tmp_path, text), monkeypatch)
    assert any(
        "script0.py, line 2 runs in the container too" in one for one in raised.value.__notes__
    )
