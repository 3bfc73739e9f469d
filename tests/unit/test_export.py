"""Scripts that are exported from cells give what the cells gave, and need no notebook."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.notebook_cells import cells_of
from lifecycle_magic.fingerprint.statements import Cell
from lifecycle_magic.session import session
from lifecycle_magic.ui.cli.main import main
from lifecycle_magic.ui.export import command
from lifecycle_magic.ui.export.decorator import decorator
from lifecycle_magic.ui.export.script import script
from lifecycle_magic.ui.notebook import options_line

IMPORT = "import lifecycle_magic as lm"
GO = """\
%%lifecycle_cls
class Model:
    @lm.method()
    def go(self, x=1):
        return """


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """End the session that a script opens."""
    yield
    session.close("the test is over")


def read(texts: list[str]) -> list[Cell]:
    """The cells with these texts, as a saved notebook has them."""
    return cells_of(texts)


def export(*texts: str, names: tuple[str, ...] = (), namespace: Any = None) -> str:
    return script(read([IMPORT, *texts]), names, "shop", namespace).text


def run(text: str) -> types.ModuleType:
    """Import a script."""
    module = types.ModuleType("exported_script")
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, "<exported>", "exec", dont_inherit=True), vars(module))
    finally:
        del sys.modules[module.__name__]
    return module


PROGRAMS = {
    "a function of another cell, and what it reads": (
        ["FACTOR = 3", "def triple(x):\n    return x * FACTOR", GO + "triple(x)"],
        3,
    ),
    "what is defined after the function that reads it": (
        ["def f(x):\n    return g(x)", "def g(x):\n    return -x", GO + "f(x)"],
        -1,
    ),
    "the newest of several definitions": (
        ["def f(x):\n    return 1", GO + "f(x)", "def f(x):\n    return 2"],
        2,
    ),
    "a value made from the former value of a name": (
        ["a = 1", "b = a + 10", "a = 2", GO + "(a, b)"],
        (2, 11),
    ),
    "a name that grows over cells": (
        ["n = 1", "n += 1", "n = n * 5", "n += 1", GO + "n"],
        11,
    ),
    "a dict that cells fill": (
        ["t = {}", "t['a'] = 1", "for i in range(2):\n    t[i] = i", GO + "t"],
        {"a": 1, 0: 0, 1: 1},
    ),
    "a list that a method fills": (["rows = []", "rows.append(4)", GO + "rows"], [4]),
    "a list that functions change": (
        [
            "import random, heapq",
            "rows = [3, 1]",
            "def grow(r, *, by):\n    r.extend([by])\n    return len(r)",
            "n = grow(rows, by=2)",
            "heapq.heapify(rows); top = heapq.heappop(rows)",
            "print(rows, len(rows))",
            "left = [Model().go.remote(rows) for _ in ()]",
            GO + "(rows, top)",
        ],
        ([2, 3], 1),
    ),
    "a model that is fitted in an assignment": (
        [
            "class Fit:\n    def fit(self, x):\n        self.mean = sum(x) / len(x)",
            "data = [1, 2, 3]",
            "model = Fit()",
            "fitted = model.fit(data)",
            GO + "model.mean",
        ],
        2.0,
    ),
    "an attribute of a class and of a function": (
        [
            "class Config: ...",
            "def f():\n    return f.count, Config.size",
            "f.count = 1\nConfig.size = 2",
            GO + "f()",
        ],
        (1, 2),
    ),
    "a change before the newest definition": (
        ["rows = []", "rows.append(4)", "rows = [1]", GO + "rows"],
        [1],
    ),
    "what a function was when it was called": (
        ["k = 1", "def f():\n    return k", "made = f()", "k = 2", GO + "(made, f())"],
        (1, 2),
    ),
    "imports of every form": (
        [
            "import os.path, json as j",
            "from math import floor as down, pi",
            "from collections import *",
            GO + "(os.path.join('a', 'b'), j.dumps(x), down(pi), Counter('aa')['a'])",
        ],
        ("a/b", "1", 3, 2),
    ),
    "an import in a try": (
        [
            "try:\n    import no_such_module as fast\nexcept ImportError:\n    fast = None",
            GO + "fast",
        ],
        None,
    ),
    "a name that only sometimes gets another value": (
        ["mode = 'a'", "if len(mode) > 5:\n    mode = 'b'", GO + "mode"],
        "a",
    ),
    "a base class, a decorator and a default of other cells": (
        [
            "class Base:\n    def hi(self):\n        return 'hi'",
            "def loud(f):\n    def g(*a):\n        return f(*a).upper()\n    return g",
            "WORD = ' you'",
            "%%lifecycle_cls\nclass Model(Base):\n    @lm.method()\n    @loud\n"
            "    def go(self, word=WORD):\n        return self.hi() + word",
        ],
        "HI YOU",
    ),
    "a comprehension, a lambda and an annotation": (
        [
            "N = 3",
            "squares = [i * N for i in range(N)]",
            "from dataclasses import dataclass",
            "@dataclass\nclass Point:\n    x: int = N",
            "least = lambda p: min(squares) + p.x",
            GO + "(squares, least(Point()))",
        ],
        ([0, 3, 6], 3),
    ),
    "several statements in a line": (["a = 1; b = a + 1", GO + "b"], 2),
    "a cell that could not run": (["def broken(:", "a = 1", GO + "a"], 1),
    "a cell under %%time": (["%%time\na = 5", "%%time\n" + GO + "a"], 5),
    "cells of other languages": (["%%bash\na=1", "a = 2", "%%html\n<b>", GO + "a"], 2),
    "lines that only IPython runs": (["%pip list", "!ls", "a = 2\n%time a", "a?", GO + "a"], 2),
    "an app of the notebook's own": (
        [
            "app = lm.App('mine')",
            "@app.cls(cpu=1)\nclass Model:\n    @lm.method()\n    def go(self):\n        return 7",
            "app.stop()",
        ],
        7,
    ),
    "a class that names itself and another": (
        [
            "%%lifecycle_cls\nclass Other:\n    @lm.method()\n"
            "    def name(self):\n        return 'o'",
            GO + "(Model.__name__, Other().name.local())",
        ],
        ("Model", "o"),
    ),
    "a base with hooks alone": (
        [
            "%%lifecycle_cls\nclass Base:\n    @lm.enter()\n    def load(self):\n"
            "        self.n = 4\nclass Model(Base):\n    @lm.method()\n    def go(self):\n"
            "        return self.n",
        ],
        4,
    ),
    "postponed annotations": (
        ["from __future__ import annotations", "def f(x: Missing):\n    return x", GO + "f(x)"],
        1,
    ),
    "a path that imports depend on": (
        ["import sys", "sys.path.append('/nowhere')", "import colorsys", GO + "colorsys.__name__"],
        "colorsys",
    ),
    "functions that a decorator registers": (
        [
            "TABLE = {}",
            "def handles(name):\n    def add(f):\n        TABLE[name] = f\n        return f\n"
            "    return add",
            "@handles('up')\ndef upper(x):\n    return x.upper()",
            GO + "TABLE['up']('a')",
        ],
        "A",
    ),
    "implementations of a generic function": (
        [
            "import functools",
            "@functools.singledispatch\ndef show(x):\n    return 'object'",
            "@show.register\ndef _(x: int):\n    return 'int'",
            "@show.register(list)\ndef _(x):\n    return 'list'",
            GO + "(show(1), show([]), show('a'))",
        ],
        ("int", "list", "object"),
    ),
    "subclasses that a base registers": (
        [
            "class Plugin:\n    known = []\n    def __init_subclass__(cls):\n"
            "        Plugin.known.append(cls.__name__)",
            "class One(Plugin): ...",
            "class Two(One): ...",
            GO + "Plugin.known",
        ],
        ["One", "Two"],
    ),
    "subclasses that a base finds": (
        [
            "class Plugin: ...",
            "class One(Plugin): ...",
            GO + "[one.__name__ for one in Plugin.__subclasses__()]",
        ],
        ["One"],
    ),
    "what a function has set up": (
        [
            "def set_up():\n    global ready\n    ready = True\n    fill(3)",
            "def fill(n):\n    rows.extend(range(n))",
            "rows = []",
            "set_up()",
            GO + "(ready, rows)",
        ],
        (True, [0, 1, 2]),
    ),
    "a global that a method makes": (
        [
            "%%lifecycle_cls\nclass Model:\n    @lm.enter()\n    def load(self):\n"
            "        global made, json\n        import json\n        made = json.loads('5')\n"
            "    @lm.method()\n    def go(self):\n        return made",
        ],
        5,
    ),
    "names in strings": (
        ["RATE = 3", "def helper():\n    return RATE", GO + "eval('helper() + RATE')"],
        6,
    ),
    "attributes that the cell assigns below its class": (
        [
            "%%lifecycle_cls --cpu 1\nclass Model:\n    ROWS = {}\n    @lm.method()\n"
            "    def go(self):\n        return Model.ROWS\nModel.ROWS = {1: 2}",
        ],
        {1: 2},
    ),
    "an abstract class and the one that completes it": (
        [
            "import abc",
            "%%lifecycle_cls\nclass Base(abc.ABC):\n    @abc.abstractmethod\n"
            "    def make(self): ...\n    @lm.method()\n    def go(self):\n"
            "        return self.make()\nclass Model(Base):\n    def make(self):\n"
            "        return 8",
        ],
        8,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script_gives_what_its_notebook_gives(name: str) -> None:
    texts, expected = PROGRAMS[name]
    module = run(export(*texts, names=("Model",)))
    assert module.Model().go.local() == expected


def test_filters_of_warnings_are_there_because_they_hold_for_all_code() -> None:
    line = "warnings.filterwarnings('ignore', message='old')"
    assert line in export("import warnings", line, GO + "1")


def test_only_what_the_class_needs_is_there_and_comments_come_along() -> None:
    text = export(
        "import os, json",
        "import math",
        "# How many.\nLIMIT = 3  # at most",
        "unused = [LIMIT]",
        "math.sqrt(LIMIT); f'{LIMIT}'.strip()",
        "print(LIMIT)",
        GO + "math.floor(LIMIT)",
        "Model().go.remote()",
    )
    assert text == (
        "import lifecycle_magic as lm\nimport math\n\n"
        'app = lm.App("shop")\n# How many.\nLIMIT = 3  # at most\n\n\n'
        "@app.cls()\nclass Model:\n    @lm.method()\n    def go(self, x=1):\n"
        "        return math.floor(LIMIT)\n"
    )


def test_a_cell_that_ran_twice_is_there_once() -> None:
    helper = "import math\ndef f(x):\n    return math.floor(x)"
    text = export(helper, GO + "f(x)", helper, GO + "f(x) + 1")
    assert text.count("def f(") == text.count("import math") == text.count("class Model") == 1
    assert run(text).Model().go.local() == 2


def test_without_names_every_running_class_is_there() -> None:
    other = "%%lifecycle_cls --cpu 1\nclass Other:\n    @lm.method()\n    def go(self): ..."
    text = export(
        "%%lifecycle_cls\nclass Base:\n    @lm.enter()\n    def a(self): ...", GO + "1", other
    )
    assert "class Model" in text
    assert "@app.cls(cpu=1)\nclass Other" in text
    assert "class Base" not in text


LINES = [
    "",
    "--pip numpy 'pandas>=2' --pip six --apt git --run 'echo \"a b\"' --uv-pip attrs",
    "--image debian:12 --run 'x y'",
    "--python 3.12 --env A=1 'B=it''s \"so\"' --cpu 1.5 --memory 512 --gpu any",
    "--volume data:/data ./here:/there --secret PATH HOME --block-network",
    "--min-containers 1 --max-containers 3 --timeout 5 --exit-grace 2 --retries 2 --engine process",
]


@pytest.mark.parametrize("line", LINES)
def test_the_decorator_has_the_options_of_the_line(line: str, tmp_path: Path) -> None:
    import lifecycle_magic as lm

    (tmp_path / "here").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        given: dict[str, Any] = {}

        class App:
            @staticmethod
            def cls(**options: Any) -> Any:
                given.update(options)
                return lambda cls: cls

        source = decorator(line + " --lazy --app other", "lm", "app")
        exec(f"{source}\nclass A: ...", {"lm": lm, "app": App})
        made = options_line.Options.make("the test", **given)
        wanted = options_line.parse(line).options
    for name in options_line.declared():
        assert repr(getattr(made, name)) == repr(getattr(wanted, name)), name


REFUSED = {
    "a name of no cell": ([GO + "missing(x)"], "Model reads missing, and no cell"),
    "a shell command's output": (
        ["files = !ls", GO + "files"],
        "files = get_ipython().getoutput('ls') uses get_ipython",
    ),
    "an output of a cell": ([GO + "_"], "Model uses _, which exists in IPython only"),
    "no class": (["x = 1"], "no cell declares a class"),
    "a plain class": (["class Model: ..."], "Model runs in no container"),
    "two names of apps": (
        [
            "%%lifecycle_cls --app a\nclass A:\n    @lm.method()\n    def go(self): ...",
            "%%lifecycle_cls --app b\nclass Model:\n    @lm.method()\n    def go(self):\n        A",
        ],
        "different --app names: a, b",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_in_a_script_is_named(name: str) -> None:
    texts, told = REFUSED[name]
    with pytest.raises(InvalidError) as caught:
        export(*texts, names=() if name == "no class" else ("Model",))
    assert told in str(caught.value)


def test_a_constant_that_has_another_value_now_is_named() -> None:
    texts = ["LIMIT = 3", GO + "LIMIT"]
    export(*texts, namespace={"LIMIT": 3})
    with pytest.raises(InvalidError, match="LIMIT is 4 now, and the cell that defines it says 3"):
        export(*texts, namespace={"LIMIT": 4})
    # What a statement of the script changes is no constant.
    changed = export("NAMES = [1]\nNAMES.append(2)", GO + "NAMES", namespace={"NAMES": [1, 2]})
    assert "NAMES.append(2)" in changed


def test_an_exported_file_is_replaced_and_another_one_is_not(tmp_path: Path) -> None:
    cells, target = read([IMPORT, GO + "x"]), tmp_path / "app.py"
    for _ in range(2):
        assert "Model" in command.write(cells, ["Model"], target)
    target.write_text("print('mine')\n")
    with pytest.raises(InvalidError, match="is there already"):
        command.write(cells, ["Model"], target)
    assert target.read_text() == "print('mine')\n"
    with pytest.raises(InvalidError, match="no name of a script"):
        command.write(cells, ["Model"], tmp_path / "app")


def test_a_saved_notebook_is_exported_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook, target = tmp_path / "n.ipynb", tmp_path / "app.py"
    texts = ["%load_ext lifecycle_magic\n" + IMPORT, GO + "x + 1"]
    cells = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in texts]
    notebook.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# a"}, *cells]}))
    assert main(["export", str(notebook), "Model", str(target)]) == 0
    assert "app.py: Model" in capsys.readouterr().out
    assert run(target.read_text()).Model().go.local() == 2
    notebook.write_text("{}")
    assert main(["export", str(notebook), str(target)]) == 1
    assert "is no notebook that can be read" in capsys.readouterr().err


def test_a_script_for_modal_imports_it_and_awaits_aio(tmp_path: Path) -> None:
    cells = read(
        [
            IMPORT,
            """\
app = lm.App("shop")
@app.function(cpu=1)
async def inner(x): return x""",
            """\
%%lifecycle_cls --pip numpy --memory 512
class Model:
    @lm.enter()
    def load(self): ...
    @lm.method()
    async def go(self, x):
        é = "é"; return [é, await inner.remote(x), await inner.remote(
            x), inner.remote]""",
        ]
    )
    said = command.write(cells, ["Model"], tmp_path / "shop.py", modal=True)
    assert said.endswith("For modal run, serve and deploy")
    text = (tmp_path / "shop.py").read_text()
    assert "import modal as lm" in text
    assert "lifecycle_magic" not in text.partition("\n")[2]
    assert text.count("await inner.remote.aio(") == 2
    assert "inner.remote]" in text
    compile(text, "shop.py", "exec", dont_inherit=True)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--exit-grace 5", "exit_grace="),
        ("--volume ./data:/data", "Volume.from_path"),
    ],
)
def test_what_modal_does_not_have_is_refused_by_name(tmp_path: Path, line: str, what: str) -> None:
    cells = read([IMPORT, f"%%lifecycle_cls {line}" + GO.partition("%%lifecycle_cls")[2] + "x"])
    with pytest.raises(InvalidError, match=f"Modal has no {what}"):
        command.write(cells, [], tmp_path / "shop.py", modal=True)
    assert not (tmp_path / "shop.py").exists()
