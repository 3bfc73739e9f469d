"""Fingerprints: which edits of a cell change them, as a table."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import docker.api.container
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle_magic.fingerprint import fingerprint

pytestmark = pytest.mark.every_python

CELL = '''
import math
import lifecycle_magic as lm

LIMIT = 10
OTHER = {"a": 1, "b": {1, 2, 3}}
UNUSED = 1

def inner(x, scale=2):
    """Scale."""
    return x * scale + LIMIT

def helper(x):
    return inner(x) + math.floor(x)

def unused(x):
    return x

class Point:
    origin = 0
    def norm(self):
        return self.origin + 1

class Model:
    size: int = 3
    rate = 0.5

    def load(self):
        """Load it."""
        self.table = [helper(i) for i in range(self.size)]
        if not self.table:
            raise ValueError("empty")
        self.point = Point()
        self._prepare(OTHER)

    def _prepare(self, other):
        self.other = {k: v for k, v in other.items() if k}

    def predict(self, x):
        try:
            return self.table[x] * self.rate
        except IndexError:
            return None
'''


def run(source: str, **space: Any) -> dict[str, Any]:
    module: dict[str, Any] = {"__name__": "__main__", **space}
    exec(compile(source, "<cell>", "exec", dont_inherit=True), module)
    return module


def load_print(source: str) -> fingerprint.Fingerprint:
    return fingerprint.of_members(run(source)["Model"], ["load"])


def edit(old: str, new: str) -> str:
    assert old in CELL, old
    return CELL.replace(old, new)


SAME = {
    "a comment": edit("LIMIT = 10", "# the most there can be\nLIMIT = 10  # ten"),
    "blank lines": edit("class Model:", "\n\n\nclass Model:"),
    "lines broken in an expression": edit(
        "[helper(i) for i in range(self.size)]",
        "[\n            helper(i)\n            for i\n            in range(\n"
        "                self.size\n            )\n        ]",
    ),
    "two locals that one line no longer reads together": edit(
        "x * scale", "(\n        x\n        * scale\n    )"
    ),
    "a docstring of the hook": edit("Load it.", "Load the table."),
    "no docstring of the hook": edit('        """Load it."""\n', ""),
    "a docstring where there was none": edit("def helper(x):", 'def helper(x):\n    "Help."'),
    "a docstring of a helper": edit("Scale.", "Scale x."),
    "a docstring of the class": edit("class Point:", 'class Point:\n    "A point."'),
    "another method": edit("* self.rate", "+ self.rate"),
    "a new method": CELL + "\n    def more(self):\n        return 1\n",
    "a class variable that only another method reads": edit("rate = 0.5", "rate = 0.6"),
    "a global that nothing reads": edit("UNUSED = 1", "UNUSED = 2"),
    "a function that nothing calls": edit("def unused(x):\n    return x", "def unused(x): ..."),
    "the order of the cells": edit("LIMIT = 10\n", "") + "\nLIMIT = 10\n",
    "the order of a set": edit("{1, 2, 3}", "{3, 2, 1}"),
    "a constant written otherwise": edit("LIMIT = 10", "LIMIT = 5 + 5"),
    "annotations of a helper": edit("def helper(x):", "def helper(x: float) -> float:"),
    "quotes": edit('"empty"', "'empty'"),
    "parentheses": edit("return inner(x) + math.floor(x)", "return (inner(x) + (math.floor(x)))"),
}

CHANGED = {
    "the hook's code": edit("range(self.size)", "range(self.size + 1)"),
    "a text in the hook": edit('"empty"', '"nothing"'),
    "a condition": edit("if not self.table", "if self.table"),
    "a helper's code": edit("+ math.floor(x)", "- math.floor(x)"),
    "a function of an installed module": edit("math.floor", "math.ceil"),
    "a helper's helper": edit("x * scale + LIMIT", "x * scale - LIMIT"),
    "a default of a helper's helper": edit("scale=2", "scale=3"),
    "a constant that a helper's helper reads": edit("LIMIT = 10", "LIMIT = 11"),
    "the type of a constant": edit("LIMIT = 10", "LIMIT = 10.0"),
    "a value inside a constant": edit('"b": {1, 2, 3}', '"b": {1, 2, 4}'),
    "a class variable it reads": edit("size: int = 3", "size: int = 4"),
    "an annotation of the class": edit("size: int = 3", "size: float = 3"),
    "a method it calls": edit("if k}", "if v}"),
    "a class it makes": edit("origin = 0", "origin = 1"),
    "a method of a class it makes": edit("self.origin + 1", "self.origin + 2"),
    "a base class of a class it makes": edit("class Point:", "class Point(dict):"),
    "a base class": edit("class Model:", "class Model(Point):"),
    "a helper that is gone": edit("def inner(x, scale=2)", "def inner2(x, scale=2)"),
    "a name that now shadows a builtin": edit("UNUSED = 1", "range = list"),
    "async": edit("def load(self)", "async def load(self)"),
    "a constant in a nested function": edit("if k}", "if k != 1}"),
    "another exception": edit("ValueError", "TypeError"),
}


@pytest.mark.parametrize("what", SAME)
def test_an_edit_that_changes_nothing_keeps_the_digest(what: str) -> None:
    before, after = load_print(CELL), load_print(SAME[what])
    assert after.parts == before.parts
    assert after.digest == before.digest


@pytest.mark.parametrize("what", CHANGED)
def test_an_edit_that_matters_changes_the_digest(what: str) -> None:
    assert load_print(CHANGED[what]).digest != load_print(CELL).digest


def test_what_a_try_guards_counts_though_the_instructions_are_the_same() -> None:
    one = "def f():\n    try:\n        a()\n        b()\n    except E:\n        pass\n"
    two = "def f():\n    try:\n        a()\n    except E:\n        pass\n    else:\n        b()\n"
    assert print_of(one).digest != print_of(two).digest


def print_of(source: str, **space: Any) -> fingerprint.Fingerprint:
    return fingerprint.of_function(run(textwrap.dedent(source), **space)["f"])


def test_parts_say_what_changed() -> None:
    before, after = (
        load_print(CELL).parts,
        load_print(CHANGED["a default of a helper's helper"]).parts,
    )
    assert {name for name in before if before[name] != after[name]} == {"inner() (function)"}
    before, after = load_print(CELL).parts, load_print(edit("LIMIT = 10", "LIMIT = 11")).parts
    assert {name for name in before if before[name] != after[name]} == {"LIMIT (constant)"}


def test_an_attribute_name_is_not_taken_for_a_global() -> None:
    source = "LIMIT = {}\ndef f(x):\n    return x.LIMIT\n"
    assert print_of(source.format(1)).digest == print_of(source.format(2)).digest


def test_closed_over_values_count() -> None:
    source = "def make(n):\n    def f():\n        return n\n    return f\nf = make({})\n"
    assert print_of(source.format(1)).digest != print_of(source.format(2)).digest
    assert print_of(source.format(1)).digest == print_of(source.format(1)).digest


def test_functions_that_call_each_other_have_a_digest() -> None:
    source = """
    def f(n):
        return g(n - 1)
    def g(n):
        return f(n) if n else {}
    """
    assert print_of(source.replace("{}", "1")).digest != print_of(source.replace("{}", "2")).digest


def test_a_wrapped_function_counts_by_what_is_wrapped() -> None:
    source = """
    import functools
    @functools.lru_cache
    def g(x):
        return x + {}
    def loud(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return fn(*args)
        return wrapper
    @loud
    def h(x):
        return x * {}
    def f(x):
        return g(x), h(x), functools.partial(g, {})
    """
    digests = {print_of(source.replace("{}", "1", at).replace("{}", "2")).digest for at in range(4)}
    assert len(digests) == 4


def test_a_wrapper_from_an_installed_module_does_not_hide_the_function() -> None:
    source = """
    import contextlib
    @contextlib.contextmanager
    def f():
        yield {}
    """
    assert print_of(source.replace("{}", "1")).digest != print_of(source.replace("{}", "2")).digest


def test_a_library_s_decorated_function_counts_by_name() -> None:
    decorated = docker.api.container.ContainerApiMixin.start
    assert decorated.__closure__ is not None  # of the wrapper, which holds the function
    told = print_of("def f():\n    return load()\n", load=decorated)
    assert set(told.parts) == {"f() (function)"}


def test_parts_show_digests_and_never_a_value() -> None:
    parts = print_of("PASSWORD = 'hunter2'\ndef f():\n    return PASSWORD\n").parts
    assert {len(part) for part in parts.values()} == {64}
    assert b"hunter2".hex() not in "".join(parts.values())


def test_enums_and_dataclasses_count_by_content() -> None:
    source = """
    import dataclasses, enum
    class Colour(enum.Enum):
        RED = 1
        BLUE = {0}
    @dataclasses.dataclass
    class Item:
        n: int = {1}
        many: list = dataclasses.field(default_factory=lambda: [{2}])
    ITEM = Item({3})
    def f():
        return Colour.RED, ITEM
    """

    def digest_of(*numbers: int) -> str:
        filled = source
        for index, number in enumerate(numbers):
            filled = filled.replace(f"{{{index}}}", str(number))
        return print_of(filled).digest

    digests = [digest_of(2, 3, 4, 5), *(digest_of(*n) for n in CHANGES_OF_FOUR)]
    assert len(set(digests)) == 5
    assert digest_of(2, 3, 4, 5) == digests[0]


CHANGES_OF_FOUR = [(9, 3, 4, 5), (2, 9, 4, 5), (2, 3, 9, 5), (2, 3, 4, 9)]


FIELDS = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Optional, TypedDict

{kind}
class Inner{base}:
    n: int = {default}
    def get(self): return {body}

{kind}
class Outer{base}:
    one: {annotation} = None

def f(): return Outer()
"""


@pytest.mark.parametrize("annotation", ["Inner", "Optional[Inner]", "list[Inner]", "'list[Inner]'"])
@pytest.mark.parametrize(
    ("kind", "base"), [("@dataclass", ""), ("", "(BaseModel)"), ("", "(NamedTuple)")]
)
@pytest.mark.parametrize("is_deferred", [True, False])
def test_the_types_of_fields_count(
    kind: str, base: str, annotation: str, is_deferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pydantic = pytest.importorskip("pydantic")

    def print_with(default: int, body: str) -> str:
        text = FIELDS.format(
            kind=kind, base=base, annotation=annotation, default=default, body=body
        )
        if not is_deferred:
            text = text.replace("from __future__ import annotations", "")
        notebook = ModuleType("__main__")
        notebook.BaseModel = pydantic.BaseModel  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "__main__", notebook)
        exec(compile(text, "<cell>", "exec", dont_inherit=True), vars(notebook))
        return fingerprint.of_function(vars(notebook)["f"]).digest

    assert print_with(1, "1") == print_with(1, "1")
    assert print_with(1, "1") != print_with(2, "1")
    assert print_with(1, "1") != print_with(1, "2")


def test_a_word_in_a_literal_is_no_type() -> None:
    text = FIELDS.format(
        kind="@dataclass", base="", annotation="Literal['other']", default=1, body="1"
    )
    one = print_of("other = 1\n" + text.replace("from __future__ import annotations", ""))
    two = print_of("other = 2\n" + text.replace("from __future__ import annotations", ""))
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "make",
    [
        "import threading\nTHING = threading.Lock()",
        "import socket\nTHING = socket.socket()\nTHING.close()",
        "THING = (i for i in [1])",
        "import threading\nTHING = {'inside': [threading.RLock()]}",
    ],
)
def test_what_has_no_content_is_named(make: str) -> None:
    told = print_of(f"{make}\ndef f():\n    return THING\n")
    assert told.unreadable == ("THING",)


def test_a_value_that_holds_itself_has_a_digest_by_content() -> None:
    def ring(n: int) -> list[Any]:
        made: list[Any] = [n]
        made.append([made, made])
        return made

    assert fingerprint.of_value(ring(1)).digest == fingerprint.of_value(ring(1)).digest
    assert fingerprint.of_value(ring(1)).digest != fingerprint.of_value(ring(2)).digest


def test_equal_parts_count_the_same_whether_they_are_one_object_or_two() -> None:
    one = [1]
    assert fingerprint.of_value([one, one]).digest == fingerprint.of_value([[1], [1]]).digest


def test_a_deeply_nested_value_is_unreadable_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    assert fingerprint.of_value(deep, label="DEEP").unreadable == ("DEEP",)
    assert fingerprint.of_value([1], label="FLAT").unreadable == ()


def test_integers_count_by_value_whatever_their_size() -> None:
    large = (2**2000 - 1, 2**2000, 2**2000 + 1, 10**5000, -(10**5000))  # Python writes 4300 digits
    prints = [fingerprint.of_value(value).digest for value in large]
    assert len(set(prints)) == len(large)
    assert fingerprint.of_value(10**5000).digest == prints[3]
    assert fingerprint.of_value([10**5000]).unreadable == ()


def test_a_method_that_a_library_s_module_names_counts_by_that_name() -> None:
    modules: tuple[Any, ...] = (random, pytest.importorskip("numpy").random)
    for module in modules:
        before = fingerprint.of_value(module.shuffle).digest
        module.random()
        assert fingerprint.of_value(module.shuffle).digest == before


def test_arrays_and_frames_count_by_content() -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    array = np.arange(12.0).reshape(3, 4)
    same = np.asfortranarray(array)
    assert fingerprint.of_value(array).digest == fingerprint.of_value(same).digest
    assert fingerprint.of_value(array).digest != fingerprint.of_value(array + 1).digest
    assert fingerprint.of_value(array).digest != fingerprint.of_value(array.reshape(4, 3)).digest
    assert fingerprint.of_value(array).digest != fingerprint.of_value(array.astype("f4")).digest

    def frame(last: str) -> Any:
        return pd.DataFrame({"n": [1, 2, 3], "word": ["a", "b", last]})

    assert fingerprint.of_value(frame("c")).digest == fingerprint.of_value(frame("c")).digest
    assert fingerprint.of_value(frame("c")).digest != fingerprint.of_value(frame("d")).digest
    assert fingerprint.of_value(frame("c")).unreadable == ()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def tagged(value: Any) -> Any:
    """A value in which 1, 1.0 and True, or 0.0 and -0.0, are not equal."""
    if isinstance(value, dict):
        return {k: tagged(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return (type(value), [tagged(v) for v in value])
    return (type(value), repr(value))


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine generates slowly
@given(PLAIN, PLAIN)
def test_digests_are_equal_exactly_when_values_are(one: Any, two: Any) -> None:
    equal = fingerprint.of_value(one).digest == fingerprint.of_value(two).digest
    assert equal == (tagged(one) == tagged(two))


@given(st.dictionaries(st.text(), st.integers()), st.sets(st.text()))
def test_order_counts_in_dicts_and_not_in_sets(pairs: dict[str, int], names: set[str]) -> None:
    turned = dict(reversed(pairs.items()))
    is_same = list(pairs) == list(turned)
    assert (fingerprint.of_value(pairs).digest == fingerprint.of_value(turned).digest) is is_same
    again: set[str] = set()
    for name in sorted(names, reverse=True):
        again.add(name)
    assert fingerprint.of_value(names).digest == fingerprint.of_value(again).digest


@pytest.mark.parametrize("size", [63, 64, 65])
def test_a_long_list_counts_by_content_whichever_way_it_is_read(size: int) -> None:
    one = [f"{n}" for n in range(size)]
    two = [str(n) for n in range(size)]
    assert fingerprint.of_value(one).digest == fingerprint.of_value(two).digest
    assert fingerprint.of_value(one).digest != fingerprint.of_value([*two[:-1], "x"]).digest


# -- the class around a function --------------------------------------------------------------


def test_super_reaches_the_base_class() -> None:
    source = """
    class Base:
        def load(self):
            return {}
    class Model(Base):
        def load(self):
            return super().load()
    """
    one, two = (textwrap.dedent(source).replace("{}", n) for n in "12")
    assert load_print(one).digest != load_print(two).digest
    assert "Base.load() (method)" in load_print(one).parts


@pytest.mark.parametrize(
    "body",
    ["return Model.LIMIT", "return self.__class__.LIMIT", "return type(self).LIMIT",
     "return [self.LIMIT for _ in '1']", "return (lambda: self.LIMIT)()",
     "return getattr(self, 'LIMIT')", "me = self\n        return me.LIMIT", "return peek(self)"],
)  # fmt: skip
def test_a_class_variable_counts_however_it_is_reached(body: str) -> None:
    source = (
        "def peek(model):\n    return model.LIMIT\n"
        f"class Model:\n    LIMIT = {{}}\n    def load(self):\n        {body}\n"
    )
    assert load_print(source.format(1)).digest != load_print(source.format(2)).digest


def test_a_method_of_another_object_is_not_taken_for_ones_own() -> None:
    source = """
    class Model:
        def load(self):
            self.model = make()
            self.model.predict([1])
        def predict(self, x):
            return {}
    """
    one, two = (textwrap.dedent(source).replace("{}", n) for n in "12")
    assert load_print(one).digest == load_print(two).digest


def test_the_handle_that_takes_the_name_of_the_class_does_not_count() -> None:
    space = run("class Model:\n    LIMIT = 1\n    def load(self):\n        return Model.LIMIT\n")
    model = space["Model"]
    before = fingerprint.of_members(model, ["load"]).digest
    space["Model"] = object()
    assert fingerprint.of_members(model, ["load"]).digest == before
    del space["Model"]
    assert fingerprint.of_members(model, ["load"]).digest == before


def test_a_wrapped_method_is_followed_to_what_it_reads_of_the_class() -> None:
    source = """
    import functools
    def loud(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return fn(*args)
        return wrapper
    class Model:
        LIMIT = {}
        @loud
        def load(self):
            return self.LIMIT
    """
    one, two = (textwrap.dedent(source).replace("{}", n) for n in "12")
    assert load_print(one).digest != load_print(two).digest


@pytest.mark.parametrize("read", ["globals()[name]", "eval(name)", "exec(name)"])
def test_what_is_looked_up_by_a_string_made_at_run_time_is_named_once(read: str) -> None:
    source = f"LIMIT = 1\ndef inner(name='x'):\n    return {read}, {read}\n"
    source += "def f():\n    return inner()\n"
    name = read.partition("(")[0].partition("[")[0]
    assert print_of(source).unreadable == (f"what inner() reads with {name}()",)
    shadowed = source.replace("LIMIT = 1", f"LIMIT = 1\ndef {name}(*x):\n    return [x]")
    assert print_of(shadowed.replace("[name]", "()")).unreadable == ()


@pytest.mark.parametrize(
    "read",
    [
        "globals()['LIMIT']",
        "globals().get('LIMIT')",
        "'LIMIT' in globals()",
        "eval('LIMIT + 1')",
        "exec('print(LIMIT)')",
        "frame.query('a > @LIMIT')",
        "sys.modules[__name__].LIMIT",
        "getattr(sys.modules['__main__'], 'LIMIT')",
        "inner.__globals__['LIMIT']",
    ],
)
def test_a_name_that_a_string_spells_out_counts_as_a_name(read: str) -> None:
    source = f"import sys\nLIMIT = 1\ndef inner(frame=None):\n    return {read}\n"
    source += "def f():\n    return inner()\n"
    one, two = print_of(source), print_of(source.replace("LIMIT = 1", "LIMIT = 2"))
    assert one.digest != two.digest
    assert "LIMIT (constant)" in one.parts
    assert one.digest == print_of(source.replace("def f", "OTHER = 3\ndef f")).digest


# -- modules ----------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of modules next to the notebook."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("beside_one", "beside_two", "beside_kit"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_local_module_counts_by_the_names_read_from_it() -> None:
    def digest_of(source: str) -> str:
        module = ModuleType("beside_live")
        exec(source, vars(module))
        return print_of("def f():\n    return live.LIMIT + live.g()\n", live=module).digest

    source = "LIMIT = 1\nUNUSED = 1\ndef g():\n    return 1\n"
    assert digest_of(source) == digest_of(source.replace("UNUSED = 1", "UNUSED = 2"))
    assert digest_of(source) != digest_of(
        source.replace("\nLIMIT = 1", "").replace("LIMIT = 1", "LIMIT = 2", 1)
    )
    assert digest_of(source) != digest_of(source.replace("return 1", "return 2"))


def test_an_import_inside_a_function_counts_by_the_file(beside: Path) -> None:
    source = "def f():\n    from beside_one import g\n    return g()\n"
    (beside / "beside_one.py").write_text("import beside_two\ndef g(): return beside_two.N\n")
    (beside / "beside_two.py").write_text("N = 1\n")
    before = print_of(source)
    assert "beside_two (module)" in before.parts
    exec("import beside_one")
    assert print_of(source).digest == before.digest  # imported or not
    (beside / "beside_two.py").write_text("# one\nN = 1\n")
    assert print_of(source).digest == before.digest
    (beside / "beside_two.py").write_text("N = 2\n")
    assert print_of(source).digest != before.digest


def test_a_local_package_counts_with_the_imported_submodule(
    beside: Path,
) -> None:
    kit = beside / "beside_kit"
    kit.mkdir()
    (kit / "__init__.py").write_text("")
    (kit / "part.py").write_text("from . import other\n")
    (kit / "other.py").write_text("N = 1\n")
    (kit / "unused.py").write_text("N = 1\n")
    source = "def f():\n    from beside_kit import part\n    return part\n"
    before = print_of(source)
    assert set(before.parts) == {
        "f() (function)",
        "beside_kit (module)",
        "beside_kit.part (module)",
        "beside_kit.other (module)",
    }
    (kit / "unused.py").write_text("N = 2\n")
    assert print_of(source).digest == before.digest
    (kit / "other.py").write_text("N = 2\n")
    assert print_of(source).digest != before.digest


@pytest.mark.parametrize(
    ("one", "two", "reads", "edit"),
    [
        pytest.param(
            "from beside_two import *\ndef g(): return N\n", "N = 1\n", "beside_one.g()",
            ("N = 1", "N = 2"), id="a constant of a star import, by a function",
        ),
        pytest.param(
            "from beside_two import *\n", "N = 1\n", "beside_one.N",
            ("N = 1", "N = 2"), id="a constant of a star import",
        ),
        pytest.param(
            "from beside_two import *\n", "def g(): return 1\n", "beside_one.g()",
            ("return 1", "return 2"), id="a function of a star import",
        ),
        pytest.param(
            "TABLE = []\ndef reg(fn):\n    TABLE.append(fn)\n    return fn\n"
            "@reg\ndef plug(): return 1\n", "", "beside_one.TABLE",
            ("return 1", "return 2"), id="what a decorator puts into a table",
        ),
        pytest.param(
            "from beside_two import reg\nM = 1\n@reg\ndef plug(): return 1\n",
            "TABLE = []\ndef reg(fn):\n    TABLE.append(fn)\n    return fn\n",
            "beside_one.M, beside_two.TABLE", ("return 1", "return 2"),
            id="what a decorator puts into another module's table",
        ),
        pytest.param(
            "from functools import singledispatch\n@singledispatch\ndef g(x): return 1\n"
            "@g.register\ndef _(x: int): return 1\n", "", "beside_one.g(3)",
            ("int): return 1", "int): return 2"), id="a variant of a generic function",
        ),
        pytest.param(
            "TABLE = []\ndef add(x):\n    TABLE.append(x)\n    return x\nM = add(1)\n", "",
            "beside_one.TABLE", ("add(1)", "add(2)"), id="what a call at the top adds",
        ),
        pytest.param(
            "class Base:\n  all = []\n  def __init_subclass__(cls): cls.all.append(cls)\n"
            "class Plug(Base):\n    n = 1\n", "", "beside_one.Base.all",
            ("n = 1", "n = 2"), id="a class that its base keeps account of",
        ),
        pytest.param(
            "N = 1\nglobals().update(N=2)\n", "", "beside_one.N",
            ("N=2", "N=3"), id="a name that is set through globals()",
        ),
        pytest.param(
            "N = 1\ndef g(): return globals()['N']\n", "", "beside_one.g()",
            ("N = 1", "N = 2"), id="a name that is read through globals()",
        ),
    ],
)  # fmt: skip
def test_what_else_a_statement_of_a_module_changes_is_followed(
    beside: Path, one: str, two: str, reads: str, edit: tuple[str, str]
) -> None:
    (beside / "beside_two.py").write_text(two)
    (beside / "beside_one.py").write_text(one)
    source = f"import beside_one, beside_two\ndef f():\n    return {reads}\n"
    before = print_of(source)
    assert print_of(source).digest == before.digest
    old, new = edit
    (beside / "beside_two.py").write_text(two.replace(old, new) + "\n")
    (beside / "beside_one.py").write_text(one.replace(old, new) + "\n")
    assert print_of(source).digest != before.digest


def test_a_base_that_begins_to_keep_account_is_noticed(beside: Path) -> None:
    source = "import beside_one\ndef f():\n    return beside_one.N\n"
    base = "class Base:\n  all = []\n"
    plug = "from beside_two import Base\nN = 1\nclass Plug(Base): n = 1\n"
    (beside / "beside_two.py").write_text(base)
    (beside / "beside_one.py").write_text(plug)
    before = print_of(source).digest
    (beside / "beside_two.py").write_text(
        base + "  def __init_subclass__(cls): cls.all.append(cls)\n"
    )
    assert print_of(source).digest != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def serve(): return 1", "def serve(): return 2"),
        ("@cache\ndef heavy(): return 1", "@cache\ndef heavy(): return 2"),
        ("@timed\ndef slow(): return 1", "@timed\ndef slow(): return 2"),
        ("LATE = made(1)", "LATE = made(2)"),
        ("class Sub(Base): n = 1", "class Sub(Base): n = 2"),
    ],
)
def test_what_has_no_other_effect_counts_name_by_name(beside: Path, old: str, new: str) -> None:
    text = (
        "from functools import cache\nTABLE = [1]\nLIMIT = 3\ndef g(): return TABLE, LIMIT\n"
        "def timed(fn): return fn\ndef made(x): return x + LIMIT\nclass Base: pass\n"
        "def serve(): return 1\n@cache\ndef heavy(): return 1\n@timed\ndef slow(): return 1\n"
        "LATE = made(1)\nclass Sub(Base): n = 1\n"
    )
    source = "import beside_one\ndef f():\n    return beside_one.g(), beside_one.Base\n"
    (beside / "beside_one.py").write_text(text)
    before = print_of(source)
    (beside / "beside_one.py").write_text(text.replace(old, new) + "\n")
    assert text.count(old) == 1
    assert print_of(source).digest == before.digest


def test_an_installed_module_counts_by_name_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import hypothesis

    before = print_of("def f():\n    return hypothesis.given\n", hypothesis=hypothesis)
    assert "hypothesis (module)" in before.parts
    monkeypatch.setattr(hypothesis, "__version__", "0.0.0")
    after = print_of("def f():\n    return hypothesis.given\n", hypothesis=hypothesis)
    assert after.digest != before.digest


# -- across processes -------------------------------------------------------------------------


def test_the_digest_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = textwrap.dedent(
        """
        import sys
        from lifecycle_magic.fingerprint import fingerprint
        from lifecycle_magic.fingerprint.own_attributes import attributes_of
        space = {"__name__": "__main__"}
        exec(sys.stdin.read(), space)
        cls = space["Model"]
        print(fingerprint.of_members(cls, attributes_of(cls)).digest)
        """
    )
    cell = CELL + textwrap.dedent(
        """
        NAMES = {"b", "a", "c", ("d", "e")}
        OPTIONS = frozenset({"x": 1, "y": 2}.items())
        class Late(Model):
            marker = object()
            def predict(self, x):
                return x in {"one", "two", "three"}, NAMES, OPTIONS, self.marker, Point
        Model = Late
        """
    )

    def digest(seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=cell, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    first = digest("1")
    assert len(first) == 64
    assert digest("2") == first


def web_method(source: str, model: str) -> str:
    """The digest of a web method whose parameter is a ``Model``."""
    text = f"""
from __future__ import annotations
import lifecycle_magic as lm
class Model:
    {model}
class Web:
{textwrap.indent(source, "    ")}
"""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell>", "exec"), space)
    return fingerprint.of_members(space["Web"], ["answer"]).digest


@pytest.mark.parametrize(
    ("source", "is_read"),
    [
        ("@lm.fastapi_endpoint()\ndef answer(self, x: list[Model]): ...", True),
        ("@lm.asgi_app()\ndef answer(self):\n    def route(x: Model): ...\n    return route", True),
        ("@lm.method()\ndef answer(self, x: Model): ...", False),
    ],
)
def test_what_a_web_method_is_annotated_with_is_read(source: str, is_read: bool) -> None:
    first, again, other = (
        web_method(source, model) for model in ("size: int", "size: int", "size: str")
    )
    assert first == again
    assert (first != other) == is_read


def test_classes_that_a_cell_makes_again_count_as_one_if_asked() -> None:
    cell = "class Tok:\n    size = {size}\n"
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(cell.format(size=1), space)
    exec("class Model:\n    def go(self, kind=Tok):\n        return Tok, kind\n", space)
    model = space["Model"]

    def parts(unites: bool) -> dict[str, str]:
        return dict(fingerprint.of_members(model, ["go"], unites=unites).parts)

    strict, united = parts(False), parts(True)
    assert strict == united
    exec(cell.format(size=1), space)
    assert parts(False) != strict
    assert parts(True) == united
    exec(cell.format(size=2), space)
    assert parts(True) != united
