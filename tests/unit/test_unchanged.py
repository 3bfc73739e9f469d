"""The use of a cell's definitions is no change, although Python and libraries modify classes."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.every_python

DEFINED = """
import functools, dataclasses, enum, abc, typing, collections, pydantic, attrs, contextlib, weakref
import fastapi, httpx
import lifecycle_magic as lm
@dataclasses.dataclass
class Cfg:
    a: int = 1
    b: 'list[int]' = dataclasses.field(default_factory=list)
    c: typing.ClassVar[int] = 4
@dataclasses.dataclass(slots=True, frozen=True)
class Sl:
    a: int = 1
class Plain:
    x = 1
    def go(self): return self.x
    @functools.cached_property
    def cp(self): return 3
    @functools.lru_cache
    def lru(self, x): return x
    @functools.singledispatchmethod
    def sd(self, x): return 1
    @sd.register
    def _(self, x: int): return 2
    @functools.singledispatchmethod
    @classmethod
    def sdc(cls, x): return 1
class Slots:
    __slots__ = ("a", "__dict__", "__weakref__")
class Ab(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class Impl(Ab):
    def f(self): return 1
class Color(enum.Enum):
    R = 1
    G = 2
class Fl(enum.Flag):
    A = 1
    B = 2
class Proto(typing.Protocol):
    def go(self) -> int: ...
@typing.runtime_checkable
class RProto(typing.Protocol):
    def go(self) -> int: ...
class NT(typing.NamedTuple):
    a: int = 1
class TD(typing.TypedDict):
    a: int
T = typing.TypeVar("T")
class Gen(typing.Generic[T]):
    v: T
    def __init__(self, v): self.v = v
class Py(pydantic.BaseModel):
    n: int = 1
    kid: "Py | None" = None
    @pydantic.field_validator("n")
    @classmethod
    def pos(cls, v): return v
@attrs.define
class At:
    a: int = 1
@pydantic.dataclasses.dataclass
class Pd:
    a: int = 1
class Meta(type):
    def __call__(cls, *a): return super().__call__(*a)
class WM(metaclass=Meta): pass
@functools.lru_cache
def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)
@functools.singledispatch
def show(x): return "any"
@show.register
def _(x: int): return "int"
@contextlib.contextmanager
def ctx(): yield 1
@functools.total_ordering
class Ord:
    def __init__(self, n=0): self.n = n
    def __lt__(self, o): return self.n < o.n
    def __eq__(self, o): return self.n == o.n
class Base:
    pass
def plain(a: int, b: "str" = "x") -> "Cfg": return a
WEAK = weakref.WeakValueDictionary()
CACHE = {}
ADAPTER = pydantic.TypeAdapter(list[Py])
def settings():
    return 1
api = fastapi.FastAPI()
@api.get("/items/{name}")
def item(name: str, n: int = fastapi.Depends(settings)) -> Py:
    return Py(n=n)
class M:
    p: int = lm.parameter(default=1)
    @lm.build()
    @lm.enter()
    def b(self):
        return [
            Cfg, Sl, Plain, Slots, Ab, Impl, Color, Fl, Proto, RProto, NT, TD, Gen, Py, At, Pd, WM,
            fib, show, ctx, Ord, Base, plain, WEAK,
            ADAPTER, api
        ]
    @lm.method()
    def go(self): return fib(3)
"""

USE = """
import asyncio, attrs, copy, dataclasses, inspect, pickle, pydantic, typing, weakref

def tried(function, value):
    try:
        function(value)
    except Exception:  # not everything can be done with everything
        pass

ON_INSTANCES = [
    copy.copy, copy.deepcopy, pickle.dumps, repr, hash, vars, inspect.getmembers, weakref.ref,
    dataclasses.asdict, dataclasses.replace, typing.get_type_hints, attrs.asdict,
    lambda x: isinstance(x, RProto), lambda x: x.cp, lambda x: x.lru(1), lambda x: x.sd(1),
    lambda x: x.sd(""), lambda x: x.sdc(1), lambda x: x.go(), lambda x: x.model_dump(),
    lambda x: x.model_copy(), lambda x: x < x, lambda x: WEAK.__setitem__("a", x),
]
ON_CLASSES = [
    typing.get_type_hints, inspect.signature, inspect.getmembers, inspect.getdoc,
    lambda c: type("Sub", (c,), {}), lambda c: issubclass(c, Ab), lambda c: issubclass(c, RProto),
    lambda c: c.model_json_schema(), lambda c: c.model_rebuild(force=True), lambda c: c | None,
    lambda c: pydantic.TypeAdapter(c).validate_python({"a": 2}), lambda c: c.__annotations__,
]
MADE = [Cfg(), Sl(), Plain(), Slots(), Impl(), NT(), Gen(1), Py(), At(), Pd(), WM(), Ord(), M()]
for made in MADE:
    for function in ON_INSTANCES:
        tried(function, made)
    for function in ON_CLASSES:
        tried(function, type(made))
Gen[int], show(1), show(""), show(True), list(Color), Fl(3), Fl.A | Fl.B, fib(9)
tried(Color, 99)
typing.get_type_hints(TD), inspect.signature(plain), typing.get_type_hints(plain)
with ctx():
    pass
ADAPTER.validate_python([{"n": 2}])

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://a") as client:
        assert (await client.get("/items/a")).json() == {"n": 1, "kid": None}

asyncio.run(ask())
"""

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from lifecycle_magic.spec.reading import read_class

def read():
    found = read_class(M)
    found.read_now()
    return found

def differing(old, new):
    return sorted(k for k in {{**old, **new}} if old.get(k) != new.get(k))

exec(compile({defined!r}, "cell", "exec"), globals())
first = read()
exec(compile({use!r}, "use", "exec"), globals())
used = read()
exec(compile({defined!r}, "cell", "exec"), globals())
again = read()
for other in (used, again):
    print(differing(first.state_parts, other.state_parts), first.state_key == other.state_key)
    print(differing(first.build_prints["b"].parts, other.build_prints["b"].parts))
print(first.unreadable)
"""


def test_what_is_used_is_unchanged() -> None:
    pytest.importorskip("attrs")
    pytest.importorskip("pydantic")
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    root = __file__.rpartition("/tests/")[0]
    text = PROGRAM.format(root=root, defined=DEFINED, use=USE)
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "[] True\n[]\n[] True\n[]\n()\n"
