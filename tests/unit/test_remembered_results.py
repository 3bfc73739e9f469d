"""Results that code remembers are those of plain Python after any edit.

Each program has a memory, a function that fills it, and a way from the function to something that
an edit changes. Their combinations run plain, where the cells run again, and in a container.
"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from lifecycle_magic.guest.user_code import UserCode
from lifecycle_magic.services import packing
from lifecycle_magic.wire.messages import SwapConflict

pytestmark = pytest.mark.every_python

MEMOIZE = """
def memoize(function):
    results = {results}
    @functools.wraps(function)
    def remembered(*args):
        {look}
        return {get}
    return remembered
"""


def memoize(results: str, look: str, get: str) -> str:
    return MEMOIZE.format(results=results, look=look, get=get)


DICT = memoize("{{}}", "if args not in results: results[args] = function(*args)", "results[args]")
MEMORIES = {
    "lru_cache": "@functools.lru_cache\ndef price(x): return {body}",
    "cache": "@functools.cache\ndef price(x): return {body}",
    "lru_cache in a table": (
        "@functools.lru_cache\ndef _price(x): return {body}\nTABLE = {{'price': [_price]}}\n"
        "def price(x): return TABLE['price'][0](x)"
    ),
    "lru_cache on a method": (
        "class Shop:\n    @functools.lru_cache\n    def price(self, x): return {body}\n"
        "shop = Shop()\ndef price(x): return shop.price(x)"
    ),
    "lru_cache on a static method": (
        "class Shop:\n    @staticmethod\n    @functools.lru_cache\n    def price(x):\n"
        "        return {body}\ndef price(x): return Shop.price(x)"
    ),
    "lru_cache made at the first call": (
        "def _price(x): return {body}\nMADE = []\n"
        "def price(x):\n    if not MADE: MADE.append(functools.lru_cache(_price))\n"
        "    return MADE[0](x)"
    ),
    "cached property": (
        "class Shop:\n    @functools.cached_property\n    def table(self):\n        x = 10\n"
        "        return {body}\nshop = Shop()\ndef price(x): return shop.table"
    ),
    "cached property of a derived class": (
        "class Base:\n    @functools.cached_property\n    def table(self):\n        x = 10\n"
        "        return {body}\nclass Shop(Base): pass\nshop = Shop()\n"
        "def price(x): return shop.table"
    ),
    "dict in a closure": DICT + "@memoize\ndef price(x): return {body}",
    "list in a closure": memoize(
        "[]", "if not results: results.append(function(*args))", "results[0]"
    )
    + "@memoize\ndef price(x): return {body}",
    "None in a closure": memoize(
        "None", "nonlocal results; results = results or function(*args)", "results"
    )
    + "@memoize\ndef price(x): return {body}",
    "dict in a class that decorates": (
        "class Memoize:\n    def __init__(self, function):\n        self.function = function\n"
        "        self.results = {{}}\n    def __call__(self, x):\n"
        "        if x not in self.results: self.results[x] = self.function(x)\n"
        "        return self.results[x]\n@Memoize\ndef price(x): return {body}"
    ),
    "dict in a default": (
        "def price(x, memo={{}}):\n    if x not in memo: memo[x] = {body}\n    return memo[x]"
    ),
    "dict in an attribute": (
        "def price(x):\n    if x not in price.memo: price.memo[x] = {body}\n"
        "    return price.memo[x]\nprice.memo = {{}}"
    ),
    "global that the first call fills": (
        "TABLE = None\ndef price(x):\n    global TABLE\n    if TABLE is None: TABLE = {body}\n"
        "    return TABLE"
    ),
}  # fmt: skip

# How the function reads what changes: declarations above it, and the expression in it.
WAYS = {
    "constant": ("RATE = {v}", "x * RATE"),
    "constant in a container": ("RATES = {{'a': [{v}]}}", "x * RATES['a'][0]"),
    "function": ("def rate(): return {v}", "x * rate()"),
    "function of a function": (
        "RATE = {v}\ndef inner(): return RATE\ndef rate(): return inner()",
        "x * rate()",
    ),
    "default": ("def rate(v={v}): return v", "x * rate()"),
    "keyword default": ("def rate(*, v={v}): return v", "x * rate()"),
    "attribute of a function": ("def rate(): pass\nrate.v = {v}", "x * rate.v"),
    "closure": (
        "def made(v):\n    def rate(): return v\n    return rate\nrate = made({v})",
        "x * rate()",
    ),
    "lambda in a container": ("RATES = [lambda: {v}]", "x * RATES[0]()"),
    "partial": (
        "def rate(v): return v * {v}\nrated = functools.partial(rate, 2)",
        "x * rated()",
    ),
    "bound method": (
        "class Rate:\n    def get(self): return {v}\nget = Rate().get",
        "x * get()",
    ),
    "class attribute": ("class Rate:\n    V = {v}", "x * Rate.V"),
    "attribute of a base": ("class Base:\n    V = {v}\nclass Rate(Base): pass", "x * Rate.V"),
    "method": ("class Rate:\n    def get(self): return {v}", "x * Rate().get()"),
    "inherited method": (
        "class Base:\n    def get(self): return self.own()\n    def own(self): return 0\n"
        "class Rate(Base):\n    def own(self): return {v}",
        "x * Rate().get()",
    ),
    "static method": (
        "class Rate:\n    @staticmethod\n    def get(): return {v}",
        "x * Rate.get()",
    ),
    "class method": (
        "class Rate:\n    V = {v}\n    @classmethod\n    def get(cls): return cls.V",
        "x * Rate.get()",
    ),
    "property": (
        "class Rate:\n    @property\n    def v(self): return {v}\nthe_rate = Rate()",
        "x * the_rate.v",
    ),
    "operator": (
        "class Rate:\n    def __rmul__(self, x): return x * {v}\nthe_rate = Rate()",
        "x * the_rate",
    ),
    "constructor": (
        "class Rate:\n    def __init__(self): self.v = {v}",
        "x * Rate().v",
    ),
    "attribute of an object": (
        "class Rate:\n    def __init__(self, v): self.v = v\nthe_rate = Rate({v})",
        "x * the_rate.v",
    ),
    "getattr": ("class Rate:\n    V = {v}", "x * getattr(Rate, 'V')"),
    "type of an object": (
        "class Rate:\n    V = {v}\nthe_rate = Rate()",
        "x * type(the_rate).V",
    ),
    "dataclass": (
        "@dataclasses.dataclass\nclass Rate:\n    v: int = {v}\n",
        "x * Rate().v",
    ),
    "key function of a library": (
        "def rate(x): return x * {v}",
        "functools.reduce(lambda a, b: rate(b), [1, x])",
    ),
    "name that was a builtin": ("{builtin}", "x * round(1.4)"),
    "comprehension": ("RATE = {v}", "sum(x * RATE for _ in range(1))"),
    "the class of the cell": ("", "x * M.RATE"),
}

CELL = """
import dataclasses, functools
{above}
{memory}
class M:
    RATE = {v}
    def go(self): return price(10), {edit}
"""


# These meet every way, the others every third one.
OFTEN = ("lru_cache", "cached property", "dict in a closure")


def ways(memory: str) -> list[str]:
    number = list(MEMORIES).index(memory)
    return [way for place, way in enumerate(WAYS) if memory in OFTEN or (place + number) % 3 == 0]


def notebook(memory: str, way: str, value: int, edit: int = 0) -> str:
    above, body = WAYS[way]
    builtin = "" if value == 2 else "def round(x): return 3"
    return CELL.format(
        above=textwrap.dedent(above).format(v=value, builtin=builtin),
        memory=MEMORIES[memory].format(body=body),
        v=value if way == "the class of the cell" else 0,
        edit=edit,
    )


class Container:
    """A container, and the notebook beside it."""

    def __init__(self, text: str) -> None:
        self.start(text)

    def start(self, text: str) -> None:
        self.code = UserCode()
        self.code.spaces["__main__"] = {"__name__": "__main__"}
        self.code.load(self._pack(text))
        self.m = self.code.cls()

    def edit(self, text: str) -> tuple[str, ...]:
        """Run the cell again. Return the reasons for a new container, if there has to be one."""
        try:
            self.code.swap(self._pack(text))
        except SwapConflict as conflict:
            self.start(text)
            return conflict.args
        return ()

    def _pack(self, text: str) -> bytes:
        return packing.pack(plain(text)["M"]).data


def plain(text: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, f"cell-{abs(hash(text))}", "exec"), space)
    return space


def result(text: str) -> Any:
    return plain(text)["M"]().go()


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_is_remembered_follows_every_edit(memory: str) -> None:
    wrong = []
    for way in ways(memory):
        before, after = notebook(memory, way, 2), notebook(memory, way, 3)
        container = Container(before)
        assert container.m.go() == result(before), way
        container.edit(after)
        if container.m.go() != result(after):
            wrong.append(f"{way}: {container.m.go()[0]} instead of {result(after)[0]}")
    assert not wrong


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_is_remembered_stays_under_other_edits(memory: str) -> None:
    refused = []
    for way in ways(memory)[::2]:
        container = Container(notebook(memory, way, 2))
        container.m.go()
        after = notebook(memory, way, 2, edit=1)
        reasons = container.edit(after)
        assert container.m.go() == result(after), way
        if reasons:
            refused.append(f"{way}: {reasons}")
    assert not refused
