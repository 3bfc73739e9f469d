"""New code in live objects: the effect of an edit of a cell on the running instances."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_magic.guest.user_code import UserCode
from lifecycle_magic.services import packing
from lifecycle_magic.wire.messages import OF_CLASS, OF_MEMORY, SwapConflict

pytestmark = pytest.mark.every_python


class Cell:
    """A notebook whose cells are run here, and a container with the class ``M`` of one of them."""

    def __init__(self, text: str) -> None:
        self.space: dict[str, Any] = {"__name__": "__main__"}
        self.run(text)
        self.live: dict[str, Any] = {"__name__": "__main__"}
        self.code = UserCode()
        self.code.spaces["__main__"] = self.live
        self.code.load(self.pack())
        self.m = self.code.cls()
        if hasattr(self.m, "enter"):
            self.m.enter()

    def run(self, text: str) -> None:
        exec(compile(text, f"cell-{abs(hash(text))}", "exec"), self.space)

    def pack(self) -> bytes:
        return packing.pack(self.space["M"]).data

    def edit(self, text: str) -> None:
        """Run a cell again, and put its code under the live instance."""
        self.run(text)
        self.code.swap(self.pack())

    def refuses(self, text: str, *names: str) -> None:
        """The edit has to be refused by these names, and must change nothing."""
        before = self.observed()
        self.run(text)
        with pytest.raises(SwapConflict) as refused:
            self.code.swap(self.pack())
        assert refused.value.args == names
        assert self.observed() == before

    def observed(self) -> Any:
        return self.m.go(), sorted(self.live), sorted(vars(type(self.m)))


def cell(methods: str, above: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in methods.strip().splitlines())
    return f"{above}\nclass M:\n{lines}\n"


GO = "def go(self): return 1"


def test_methods_marked_for_calls_are_edited_like_others() -> None:
    marked = "import lifecycle_magic as lm\n"
    one = Cell(cell("@lm.method()\n" + GO, above=marked))
    one.edit(cell("@lm.method()\ndef go(self): return 2", above=marked))
    assert one.m.go() == 2


def test_a_method_is_edited_and_self_stays() -> None:
    one = Cell(cell("def enter(self): self.x = 1\ndef go(self): return self.x"))
    one.m.x = 5
    one.edit(cell("def enter(self): self.x = 1\ndef go(self): return self.x + 1"))
    assert one.m.go() == 6
    one.edit(cell("def enter(self): self.x = 1\ndef go(self): return self.x"))
    assert one.m.go() == 5


def test_a_global_that_enter_made_stays() -> None:
    above = "def load():\n    global model\n    model = 42"
    one = Cell(cell("def enter(self): load()\ndef go(self): return model", above))
    one.edit(cell("def enter(self): load()\ndef go(self): return [model]", above))
    assert one.m.go() == [42]


def test_all_functions_share_one_namespace() -> None:
    one = Cell(
        cell(
            "def go(self): count(); return seen(), N",
            "N = 0\ndef count():\n    global N\n    N += 1\ndef seen(): return N",
        )
    )
    assert one.m.go() == (1, 1)
    assert one.m.go() == (2, 2)
    assert one.live["N"] == 2


@pytest.mark.parametrize(
    ("change", "edit", "value"),
    [
        ("pass", "K = 2", 2),  # only declared anew
        ("K = 5", "K = 1", 5),  # only changed there
        ("K = 2", "K = 2", 2),  # to the same
    ],
)
def test_a_global_is_decided_by_itself(change: str, edit: str, value: int) -> None:
    methods = "def go(self): return K\ndef other(self): return {}"
    one = Cell(cell(methods.format(1), "K = 1"))
    exec(change, one.live)
    one.edit(cell(methods.format(2), edit))
    assert one.m.go() == value
    assert one.m.other() == 2


def test_a_global_that_changed_on_both_sides_is_refused() -> None:
    one = Cell(cell("def go(self): return CACHE, K", "CACHE = {}\nK = 1"))
    one.live["CACHE"]["a"] = 1
    one.refuses(cell("def go(self): return CACHE, K, 1", "CACHE = {'b': 2}\nK = 2"), "CACHE")


def test_class_attributes_are_decided_one_by_one() -> None:
    one = Cell(cell("a = 1\nb = 2\nc = 3\ndef go(self): return M.a, M.b, M.c"))
    type(one.m).a = 10
    type(one.m).new = 7
    one.edit(cell("a = 1\nb = 20\nd = 4\ndef go(self): return M.a, M.b, M.d, M.new"))
    assert one.m.go() == (10, 20, 4, 7)
    assert not hasattr(one.m, "c")


def test_class_attribute_that_changed_on_both_sides() -> None:
    one = Cell(cell("seen = []\ndef go(self): return self.seen"))
    one.m.seen.append(1)
    one.refuses(cell("seen = [0]\ndef go(self): return self.seen"), "M.seen")


def test_bound_methods_that_enter_stored_run_the_new_code() -> None:
    text = "def enter(self): self.h = {{'a': self.a}}\ndef a(self): return {}\n"
    text += "def go(self): return self.h['a']()"
    one = Cell(cell(text.format(1)))
    one.edit(cell(text.format(2)))
    assert one.m.go() == 2


def test_instances_of_helper_classes_stay_instances() -> None:
    above = "class Tok:\n    size = 3\n    def cut(self): return {}"
    methods = "def enter(self): self.t = Tok()\n"
    methods += "def go(self): return self.t.cut(), isinstance(self.t, Tok), {}"
    one = Cell(cell(methods.format(1), above.format(1)))
    one.edit(cell(methods.format(2), above.format(1)))
    assert one.m.go() == (1, True, 2)
    one.edit(cell(methods.format(2), above.format(2)))
    assert one.m.go() == (2, True, 2)


def test_functions_held_elsewhere_run_the_new_code() -> None:
    methods = "def enter(self): self.f = helper\ndef go(self): return self.f()"
    one = Cell(cell(methods, "def helper(): return 1"))
    one.edit(cell(methods, "def helper(): return 2"))
    assert one.m.go() == 2


def test_a_mutable_default_stays() -> None:
    text = "def f(x, cache={{}}):\n    cache[x] = x\n    return len(cache) + {}"
    methods = "def go(self): return f(1)\ndef more(self): return f(2)"
    one = Cell(cell(methods, text.format(0)))
    assert (one.m.go(), one.m.more()) == (1, 2)
    one.edit(cell(methods, text.format(100)))
    assert one.m.go() == 102


def test_function_attributes_stay() -> None:
    text = "def f():\n    f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls, {}"
    one = Cell(cell("def go(self): return f()", text.format(0)))
    one.m.go()
    one.edit(cell("def go(self): return f()", text.format(5)))
    assert one.m.go() == (2, 5)


COUNTER = """
def counter():
    n = 0
    def add():
        nonlocal n
        n += {}
        return n
    def seen(): return n
    return add, seen
add, seen = counter()
"""


def test_closure_cells_stay_and_stay_shared() -> None:
    methods = "def go(self): return add(), seen()"
    one = Cell(cell(methods, COUNTER.format(1)))
    assert one.m.go() == (1, 1)
    one.edit(cell(methods, COUNTER.format(10)))
    assert one.m.go() == (11, 11)


def test_a_decorated_method_is_edited_inside_of_its_wrapper() -> None:
    above = """
import functools
def counted(f):
    calls = 0
    @functools.wraps(f)
    def wrapper(*a):
        nonlocal calls
        calls += 1
        return f(*a), calls
    return wrapper
"""
    one = Cell(cell("@counted\ndef go(self): return 1", above))
    one.m.go()
    one.edit(cell("@counted\ndef go(self): return 2", above))
    assert one.m.go() == (2, 2)


MEMORY = """
def memoize(f):
    results = {{}}
    def remembered(x):
        if x not in results:
            results[x] = f(x)
        return results[x]
    return remembered
@memoize
def f(x): return x + {}
"""


def test_a_decorators_memory_of_results_of_the_old_code_is_refused() -> None:
    method = "def go(self): return f(1)"
    one = Cell(cell(method, MEMORY.format(1)))
    assert one.m.go() == 2
    one.refuses(cell(method, MEMORY.format(2)), "f → results" + OF_MEMORY)


def test_a_decorators_empty_memory_takes_new_code() -> None:
    one = Cell(cell("def go(self): return 0\ndef call(self): return f(1)", MEMORY.format(1)))
    one.edit(cell("def go(self): return 0\ndef call(self): return f(1)", MEMORY.format(2)))
    assert one.m.call() == 3


CACHED = "import functools\n@functools.lru_cache(maxsize=5)\ndef f(x): return x + {}"


def test_an_empty_cache_takes_new_code() -> None:
    one = Cell(cell("def go(self): return 0\ndef call(self): return f(1)", CACHED.format(1)))
    one.edit(cell("def go(self): return 0\ndef call(self): return f(1)", CACHED.format(2)))
    assert one.m.call() == 3


def test_a_cache_with_results_of_the_old_code_is_refused() -> None:
    one = Cell(cell("def go(self): return f(1)", CACHED.format(1)))
    one.m.go()
    one.refuses(cell("def go(self): return f(1)", CACHED.format(2)), "f" + OF_MEMORY)


def test_a_cache_stays_if_its_function_does() -> None:
    one = Cell(cell("def go(self): return f(1)", CACHED.format(1)))
    one.m.go()
    one.edit(cell("def go(self): return f(1) + 1", CACHED.format(1)))
    assert one.m.go() == 3
    assert one.live["f"].cache_info().hits == 1


def test_caches_of_libraries_do_not_count() -> None:
    above = """
import functools, typing
class Named(typing.NamedTuple):
    x: int = {}
    def __getitem__(self, key): return {}
seen = []
@functools.lru_cache
def unrelated(x): return x
"""
    methods = "def go(self): return Named()[0], typing.Optional[int] == None, {}"
    one = Cell(cell(methods.format(1), above.format(1, 1)))
    one.m.go()
    one.edit(cell(methods.format(2), above.format(1, 2)))
    assert one.m.go() == (2, False, 2)


SHOW = """
import functools
@functools.singledispatch
def show(x): return "any"
@show.register
def _(x: int): return "int{}"
"""


def test_singledispatch_takes_new_code_and_new_types() -> None:
    methods = "def go(self): return show(1), show(''), show(b'')"
    one = Cell(cell(methods, SHOW.format(1)))
    assert one.m.go() == ("int1", "any", "any")
    one.edit(cell(methods, SHOW.format(2)))
    assert one.m.go() == ("int2", "any", "any")
    one.edit(cell(methods, SHOW.format(2) + "@show.register\ndef _(x: str): return 'str'"))
    assert one.m.go() == ("int2", "str", "any")


def test_a_singledispatchmethod_that_was_used_takes_new_code() -> None:
    """Python 3.13 keeps a cache in it of the methods that each instance has looked up."""
    above = """
import functools
class Tok:
    @functools.singledispatchmethod
    def size(self, x): return "any"
    @size.register
    def _(self, x: int): return {}
"""
    methods = "def enter(self): self.tok = Tok()\ndef go(self): return self.tok.size(1), {}"
    one = Cell(cell(methods.format(0), above.format(1)))
    assert one.m.go() == (1, 0)
    one.edit(cell(methods.format(5), above.format(2)))
    assert one.m.go() == (2, 5)


def test_properties_and_class_methods_are_edited_in_place() -> None:
    text = "@property\ndef p(self): return {0}\n@classmethod\ndef c(cls): return {0}\n"
    text += "@staticmethod\ndef s(): return {0}\ndef enter(self): self.kept = self.c, self.s\n"
    text += "def go(self): return self.p, self.c(), self.s(), [f() for f in self.kept]"
    one = Cell(cell(text.format(1)))
    one.edit(cell(text.format(2)))
    assert one.m.go() == (2, 2, 2, [2, 2])


def test_super_and_the_class_cell_stay_right() -> None:
    above = "class Base:\n    def go(self): return 'base'"
    text = "class M(Base):\n    def go(self): return super().go(), __class__ is type(self), {}"
    one = Cell(f"{above}\n{text.format(1)}")
    one.edit(f"{above}\n{text.format(2)}")
    assert one.m.go() == ("base", True, 2)


def test_another_layout_is_refused() -> None:
    one = Cell(cell("__slots__ = ('a',)\ndef go(self): return 1"))
    one.refuses(
        cell("__slots__ = ('a', 'b')\ndef go(self): return 2"), "the slots of M (b) (of a class)"
    )


def test_an_enum_with_other_members_is_refused() -> None:
    above = "import enum\nclass E(enum.Enum):\n    A = {}"
    one = Cell(cell("def go(self): return E.A.value", above.format(1)))
    one.m.kept = one.live["E"].A
    one.refuses(
        cell("def go(self): return E.A.value", above.format(2)), "the members of E (A) (of a class)"
    )


def test_a_function_that_becomes_something_else() -> None:
    one = Cell(cell("def go(self): return f()", "def f(): return 1"))
    one.edit(cell("def go(self): return f()", "class f:\n    def __repr__(self): return 'f'"))
    assert repr(one.m.go()) == "f"


def test_a_function_that_is_held_and_becomes_something_else_is_refused() -> None:
    methods = "def enter(self): self.f = f\ndef go(self): return self.f()"
    one = Cell(cell(methods, "def f(): return 1"))
    one.refuses(cell(methods, "class f: pass"), "f")


def test_what_a_new_name_shares_with_a_kept_one_is_refused() -> None:
    one = Cell(cell("def go(self): return CACHE", "CACHE = {}"))
    one.live["CACHE"]["a"] = 1
    one.refuses(cell("def go(self): return CACHE, BOTH", "CACHE = {}\nBOTH = [CACHE]"), "BOTH")


def test_new_values_refer_to_live_classes_and_functions() -> None:
    above = "class P:\n    def __init__(self, n): self.n = n\ndef one(): return 1"
    one = Cell(cell("def enter(self): self.p = P(1)\ndef go(self): return P, one()", above))
    one.edit(
        cell(
            "def enter(self): self.p = P(1)\n"
            "def go(self): return isinstance(T['p'], type(self.p)), T['f'] is one",
            above + "\nT = {'p': P(2), 'f': one}",
        )
    )
    assert one.m.go() == (True, True)


def test_nothing_changes_if_installing_fails() -> None:
    above = "class Odd:\n    def __reduce__(self): return make, ()\n"
    above += "def make():\n    if BAD: raise OSError('no')\n    return Odd()\nBAD = {}\n"
    one = Cell(cell("def go(self): return 1, make", above.format(False)))
    one.run(cell("def go(self): return 2, make, ODD", above.format(True) + "ODD = Odd()"))
    with pytest.raises(OSError, match="no"):
        one.code.swap(one.pack())
    assert one.m.go()[0] == 1


def test_a_removed_method_takes_its_marks_along() -> None:
    above = "import lifecycle_magic as lm"
    both = "@lm.method()\ndef one(self): return 1\n@lm.method()\ndef go(self): return 1"
    one = Cell(cell(both, above))
    one.m.one()
    one.edit(cell("@lm.method()\ndef go(self): return 2", above))
    assert one.m.go() == 2
    assert not hasattr(one.m, "one")


# --- any edits, any changes, against plain Python -------------------------------------------------

NAMES = ("A", "B")


def notebook(declared: dict[str, int], code: int) -> str:
    above = "\n".join(f"{name} = [{value}]" for name, value in declared.items())
    above += f"\ndef helper(x=[0]):\n    x.append({code})\n    return len(x), {code}\n"
    above += f"class Tok:\n    K = {declared['A']}\n    def cut(self): return {code}"
    methods = "def enter(self): self.t = Tok(); self.h = helper; self.n = 0\n"
    methods += f"def go(self): return A, B, self.h(), self.t.cut(), Tok.K, self.n, {code}"
    return cell(methods, above)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.sampled_from(NAMES), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("change"), st.sampled_from((*NAMES, "K", "n")), st.integers(0, 3)),
        st.tuples(st.just("call")),
    ),
    max_size=12,
)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_any_edits_and_changes_give_what_each_name_asks_for(steps: list[Any]) -> None:
    """The expectation follows from each name's declared and live value and from the edit."""
    declared, code = {"A": 0, "B": 0}, 0
    live = {"A": 0, "B": 0, "K": 0, "n": 0}
    calls = 0
    one = Cell(notebook(declared, code))
    for step in steps:
        if step[0] == "call":
            calls += 1
            assert one.m.go() == (
                [live["A"]], [live["B"]], (1 + calls, code), code, live["K"], live["n"], code
            )  # fmt: skip
        elif step[0] == "change":
            _, name, value = step
            live[name] = value
            if name == "n":
                one.m.n = value
            elif name == "K":
                one.live["Tok"].K = value
            else:
                one.live[name][0] = value
        else:
            _, name, value, new_code = step
            new = {**declared, name: value}
            pairs = [(new[n], declared[n], live[n], n) for n in NAMES]
            pairs.append((new["A"], declared["A"], live["K"], "K"))
            torn = [n for new_, old, now, n in pairs if old not in (new_, now) and now != new_]
            text = notebook(new, new_code)
            if torn:
                one.run(text)
                with pytest.raises(SwapConflict) as refused:
                    one.code.swap(one.pack())
                assert len(refused.value.args) == len(torn)
                continue
            one.edit(text)
            for new_, old, _, n in pairs:
                live[n] = new_ if new_ != old else live[n]
            declared, code = new, new_code


def test_the_message_of_a_conflict_says_what_changed_where() -> None:
    both = "a, b changed both in the notebook and in the container"
    assert str(SwapConflict("a", "b")) == both
    assert str(SwapConflict("the members of Color (RED)" + OF_CLASS)) == (
        "the members of Color (RED) changed"
    )
    text = str(SwapConflict("a", "the members of Color (RED)" + OF_CLASS, "b"))
    assert text == both + ", and the members of Color (RED) changed"


def test_values_that_hold_themselves_are_no_endless_walk() -> None:
    above = "ring = []\nring.append(ring)\ndeep = []\nfor _ in range(60):\n    deep = [deep, deep]"
    one = Cell(cell("def go(self): return ring[0] is ring, deep[0] is deep[1], 1", above))
    one.edit(cell("def go(self): return ring[0] is ring, deep[0] is deep[1], 2", above))
    assert one.m.go() == (True, True, 2)
