"""The names that are packed with a class, and the errors for values that can't be packed."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

import pytest

from lifecycle_magic.exception import SerializationError
from lifecycle_magic.services import packing
from lifecycle_magic.wire import name_table

pytestmark = pytest.mark.every_python

NAMES = """
import sys, threading, sqlite3
db_lock = threading.Lock()
conn = sqlite3.connect(":memory:")
conn.close()
gen = (x for x in range(3))
deep = None
for i in range(100_000):  # Python 3.14 allows more than 5,000
    deep = [deep]
class Holder:
    def __init__(self): self.f = sys.__stdin__
table = {"a": [1, Holder()]}
def helper(): return db_lock
def reads(): return table
def locked(lock):
    def wrap(f):
        def inner(*a):
            with lock:
                return f(*a)
        return inner
    return wrap
"""


def unpacked(text: str) -> dict[str, Any]:
    """A class ``M`` of a notebook as a container has it: its namespace."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "cell", "exec"), space)
    spaces = {"__main__": {"__name__": "__main__"}}
    name_table.read(packing.pack(space["M"]).data, spaces)
    return spaces["__main__"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("def go(self): return helper()", "M.go → helper → db_lock is a _thread.lock"),
        ("def go(self): return reads()", r"M.go → reads → table\['a'\]\[1\].f is a _io"),
        ("x = conn", "M.x is a sqlite3.Connection"),
        ("def go(self): return gen", "M.go → gen is a generator"),
        ("@locked(threading.Lock())\n    def go(self): return 1", "M.go → lock is a _thread.lock"),
        ("@property\n    def p(self): return db_lock", "M.p → db_lock is a _thread.lock"),
        ("def go(self): return deep", "M.go → deep is nested too deeply"),
    ],
)
def test_what_can_not_travel_is_named_with_the_path_to_it(body: str, path: str) -> None:
    with pytest.raises(SerializationError, match=path):
        unpacked(f"{NAMES}\nclass M:\n    {body}\n")


def test_builtins_that_ipython_replaces_are_pythons_own_again() -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    display = pytest.importorskip("IPython.display").display
    space: dict[str, Any] = {
        "__name__": "__main__",
        "open": interactive._modified_open,
        "display": display,
        "exit": interactive.ExitAutocall(),
    }
    exec("class M:\n    def go(self): return open, display, exit(1)", space)
    data = packing.pack(space["M"]).data
    assert b"IPython" not in data
    spaces = {"__main__": {"__name__": "__main__"}}
    name_table.read(data, spaces)
    assert {"open", "exit"}.isdisjoint(spaces["__main__"])
    assert spaces["__main__"]["display"].__module__ == "lifecycle_magic.guest.notebook_names"


TYPES = """
import abc, collections, dataclasses, enum, functools, typing
@functools.lru_cache(maxsize=3)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
@functools.singledispatch
def show(x): return "any"
@show.register
def _(x: int): return "int"
UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P")
class Planet(enum.Enum):
    EARTH = (1.0, 2.0)
    HOME = (1.0, 2.0)
    def __init__(self, mass, radius): self.mass = mass
class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE
@dataclasses.dataclass(slots=True)
class Row:
    x: int
    y: list = dataclasses.field(default_factory=list)
class Registered:
    kinds = []
    def __init_subclass__(cls, /, kind, **rest): Registered.kinds.append((kind, cls))
class Sub(Registered, kind="k"): pass
class Meta(type):
    made = []
    def __new__(meta, name, bases, body):
        meta.made.append(name)
        return super().__new__(meta, name, bases, body)
class Made(metaclass=Meta): pass
def counter():
    n = 0
    def add():
        nonlocal n
        n += 1
    def seen(): return n
    return add, seen
add, seen = counter()
class M:
    @functools.cached_property
    def cached(self): return 7
    def go(self):
        add()
        return [
            fib(10), fib.cache_parameters(), show(3), show(""), UserId(3), repr(P),
            Planet.HOME is Planet.EARTH, Planet.EARTH.mass, Access.BOTH == Access(3),
            Row(1) == dataclasses.replace(Row(2), x=1), hasattr(Row(1), "__dict__"),
            dataclasses.fields(Row)[0].default is dataclasses.MISSING,
            [(kind, cls is Sub) for kind, cls in Registered.kinds], Meta.made, type(Made) is Meta,
            seen(), self.cached,
        ]
"""


def test_what_people_define_in_cells_means_the_same_there() -> None:
    here: dict[str, Any] = {"__name__": "__main__"}
    exec(TYPES, here)
    there = unpacked(TYPES)
    assert there["M"]().go() == here["M"]().go()
    assert there["M"].__dict__["cached"].__class__ is functools.cached_property


MANAGERS = """
import contextlib
EVENTS = []
@contextlib.contextmanager
def noting(name, *, end="-"):
    EVENTS.append("+" + name)
    yield
    EVENTS.append(end + name)
@contextlib.asynccontextmanager
async def waiting(name):
    EVENTS.append("+" + name)
    yield
    EVENTS.append("-" + name)
class M:
    later = waiting("later")
    @noting("call", end="~")
    def go(self): EVENTS.append("go")
"""


def test_context_managers_that_have_not_begun_travel() -> None:
    space = unpacked(MANAGERS)
    model, events = space["M"](), space["EVENTS"]
    model.go()
    model.go()
    assert events == ["+call", "go", "~call"] * 2

    async def enter() -> None:
        async with model.later:
            events.append("in")

    asyncio.run(enter())
    assert events[-3:] == ["+later", "in", "-later"]


def test_a_context_manager_that_has_begun_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"M\.later\.gen is an? .*generator"):
        unpacked(MANAGERS + "\n    later = noting('now')\n    later.__enter__()\n")


def test_sizes_are_known_by_name() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("DATA = bytes(1 << 20)\nclass M:\n    def go(self): return len(DATA)", space)
    sizes = packing.pack(space["M"]).sizes
    assert sizes["DATA"] >= 1 << 20
    assert set(sizes) == {"DATA", "M"}


REBUILT = """
class Old:
    def __getstate__(self): return {"a": 1}
    def __setstate__(self, state): raise ValueError("old format")
class Proxy:
    def __init__(self): self.__dict__["other"] = 1
    def __getattr__(self, name): return getattr(self.target, name)
old, proxy = Old(), Proxy()
same = {"k": [old]}
"""


@pytest.mark.parametrize(
    ("body", "error", "note"),
    [
        ("def go(self): return old", ValueError, "old, or a part of it, can't be rebuilt"),
        ("def go(self): return same", ValueError, "same, or a part of it, can't be rebuilt"),
        ("kept = old", ValueError, "M, or a part of it, can't be rebuilt"),
        pytest.param(
            "def go(self): return proxy",
            RecursionError,
            "__getattr__ raise AttributeError for names",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 11), reason="Python 3.10 asks while it pickles the value"
            ),
        ),
    ],
)
def test_what_a_value_raises_while_it_is_rebuilt_names_the_value_and_the_fix(
    body: str, error: type[Exception], note: str
) -> None:
    with pytest.raises(error) as raised:
        unpacked(f"{REBUILT}class M:\n    {body}\n")
    [told] = vars(raised.value)["__notes__"]
    assert note in told
    assert "Fix: " in told


ANGRY = """
class Angry:
    def __getattr__(self, name): raise ValueError(name)
    def __reduce_ex__(self, protocol): raise TypeError("never")
angry = {"one": Angry()}
"""


def test_a_value_whose_attributes_raise_anything_is_named_when_it_can_not_be_pickled() -> None:
    with pytest.raises(SerializationError, match=r"M\.go → angry\['one'\] is a .*Angry"):
        unpacked(f"{ANGRY}class M:\n    def go(self): return angry\n")


EARLY = """
from typing import NamedTuple
BASE = 10
class Settings(NamedTuple):
    rate: float = 0.1
class Point:
    def __init__(self, x): self.x = x
    def __getstate__(self): return {"x": self.x - BASE}
    def __setstate__(self, state): self.x = state["x"] + BASE
class M:
    settings = Settings()
    point = Point(3)
    def go(self, settings=Settings(2.0)): return settings, self.settings, self.point.x
"""


def test_a_class_attribute_is_read_after_the_constants_that_its_code_needs() -> None:
    space = unpacked(EARLY)
    given, own, x = space["M"]().go()
    assert (given.rate, own.rate, x) == (2.0, 0.1, 3)


def test_types_evaluated_from_annotations_and_partial_methods_travel() -> None:
    text = """
import functools, typing, lifecycle_magic as lm
class Node:
    parent: typing.Optional["Node"] = None
typing.get_type_hints(Node, globals())
class M:
    def scale(self, factor, x): return factor * x
    triple = functools.partialmethod(scale, 3)
    def go(self):
        return self.triple(2), Node().parent
"""
    assert unpacked(text)["M"]().go() == (6, None)
