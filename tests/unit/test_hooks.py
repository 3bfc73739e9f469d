"""The decorators: what they set on a function, and the mistakes that they refuse."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.decorators import travel
from lifecycle_magic.decorators.marks import (
    BatchMarks,
    BuildMarks,
    ConcurrentMarks,
    MethodMarks,
    marks_of,
)
from lifecycle_magic.exception import InvalidError

pytestmark = pytest.mark.every_python


def test_a_decorator_hands_back_the_very_function() -> None:
    def load(self: Any) -> int:
        return 1

    assert lm.enter()(load) is load
    assert load(None) == 1


@pytest.mark.parametrize("decorator", [lm.enter, lm.exit, lm.build, lm.method])
def test_parentheses_make_no_difference(decorator: Any) -> None:
    def one(self: Any) -> None: ...
    def two(self: Any) -> None: ...

    assert marks_of(decorator(one)) == marks_of(decorator()(two)) is not None


def test_marks_of_several_decorators_add_up() -> None:
    class Model:
        @lm.build(force=True, timeout=60)
        @lm.enter()
        def load(self) -> None: ...

        @lm.method(is_generator=True)
        @lm.concurrent(max_inputs=4, target_inputs=2)
        def stream(self) -> None: ...

        @lm.batched(max_batch_size=8, wait_ms=0)
        def many(self, xs: list[int]) -> list[int]:
            return xs

    load, stream, many = marks_of(Model.load), marks_of(Model.stream), marks_of(Model.many)
    assert load is not None
    assert stream is not None
    assert many is not None
    assert load.enter
    assert load.build == BuildMarks(force=True, timeout=60)
    assert load.names() == ("@build", "@enter")
    assert stream.method == MethodMarks(is_generator=True)
    assert stream.concurrent == ConcurrentMarks(4, 2)
    assert many.batched == BatchMarks(8, 0)
    assert many.is_method
    assert not many.is_hook


def test_concurrent_decorates_a_class_too() -> None:
    @lm.concurrent(max_inputs=3)
    class Model: ...

    marks = marks_of(Model)
    assert marks is not None
    assert marks.concurrent == ConcurrentMarks(3)


def test_marks_survive_pickling_and_wrapping() -> None:
    def load(self: Any) -> None: ...

    lm.enter(load)

    @functools.wraps(load)
    def wrapper(self: Any) -> None: ...

    assert pickle.loads(pickle.dumps(marks_of(load))) == marks_of(wrapper)


def test_hooks_with_defaults_or_star_arguments_are_fine() -> None:
    class Model:
        @lm.enter
        def load(self, depth: int = 1) -> None: ...

        @lm.exit
        def close(*args: object) -> None: ...

        @lm.enter
        async def connect(self) -> None: ...

    assert all(marks_of(vars(Model)[name]) for name in ("load", "close", "connect"))


# Each mistake, and what the message must name: where it is, and the mend.
MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a lambda": ("load = lm.enter()(lambda self: None)", ("@enter", "lambda", "def load(self)")),
    "a bare lambda": ("load = lm.exit(lambda self: None)", ("@exit", "lambda", "def")),
    "a staticmethod": (
        "@lm.method()\n    @staticmethod\n    def f(x): ...",
        ("Model.f", "@staticmethod", "self"),
    ),
    "a classmethod": (
        "@lm.enter()\n    @classmethod\n    def f(cls): ...",
        ("Model.f", "@classmethod", "self"),
    ),
    "a property": ("@lm.method()\n    @property\n    def f(self): ...", ("Model.f", "@property")),
    "a nested class": ("@lm.enter()\n    class Inner: ...", ("@enter", "Inner", "def")),
    "a partial": ("f = lm.method()(functools.partial(print))", ("@method", "partial", "def")),
    "a hook with arguments": (
        "@lm.enter()\n    def load(self, path): ...",
        ("Model.load", "@enter", "path", "parameter()"),
    ),
    "a hook with keyword arguments": (
        "@lm.build()\n    def get(self, *, path): ...",
        ("Model.get", "@build", "path"),
    ),
    "a hook without self": ("@lm.enter()\n    def load(): ...", ("Model.load", "def load(self)")),
    "exit with exception arguments": (
        "@lm.exit()\n    def close(self, exc_type, exc, tb): ...",
        ("Model.close", "@exit", "exc_type, exc, tb", "def close(self)"),
    ),
    "exit with optional exception arguments": (
        "@lm.exit()\n    def close(self, exc_type=None, exc=None, tb=None): ...",
        ("Model.close", "def close(self)"),
    ),
    "a generator hook": (
        "@lm.enter()\n    def load(self):\n        yield 1",
        ("Model.load", "@enter", "yield", "@exit"),
    ),
    "an async generator hook": (
        "@lm.exit()\n    async def close(self):\n        yield 1",
        ("Model.close", "@exit", "yield"),
    ),
    "an old enter": (
        "@lm.enter()\n    def __enter__(self): ...",
        ("Model.__enter__", "@enter()", "def load(self)"),
    ),
    "an old async exit": (
        "@lm.exit()\n    async def __aexit__(self, *args): ...",
        ("Model.__aexit__", "@exit()", "async def close(self)"),
    ),
    "a constructor as method": (
        "@lm.method()\n    def __init__(self): ...",
        ("Model.__init__", "@method", "name of its own"),
    ),
    "enter and method": (
        "@lm.enter()\n    @lm.method()\n    def f(self): ...",
        ("Model.f", "@enter and @method"),
    ),
    "method and exit": (
        "@lm.method()\n    @lm.exit()\n    def f(self): ...",
        ("Model.f", "@exit and @method"),
    ),
    "enter and exit": (
        "@lm.enter()\n    @lm.exit()\n    def f(self): ...",
        ("Model.f", "@enter and @exit", "two methods"),
    ),
    "a concurrent hook": (
        "@lm.concurrent(max_inputs=2)\n    @lm.enter()\n    def f(self): ...",
        ("Model.f", "@concurrent"),
    ),
    "a batched generator": (
        "@lm.batched(max_batch_size=2, wait_ms=1)\n    def f(self, xs):\n        yield xs",
        ("Model.f", "@batched", "list"),
    ),
    "batched without size": (
        "@lm.batched(wait_ms=1)\n    def f(self, xs): ...",
        ("@batched", "max_batch_size", "@batched(max_batch_size=8, wait_ms=100)"),
    ),
    "batched without parentheses": ("@lm.batched\n    def f(self, xs): ...", ("@batched",)),
    "concurrent without parentheses": (
        "@lm.concurrent\n    def f(self): ...",
        ("@concurrent(max_inputs=10)",),
    ),
    "a negative batch": (
        "@lm.batched(max_batch_size=0, wait_ms=1)\n    def f(self, xs): ...",
        ("max_batch_size=0", "1"),
    ),
    "a target above the most": (
        "@lm.concurrent(max_inputs=2, target_inputs=3)\n    def f(self): ...",
        ("target_inputs=3", "max_inputs=2"),
    ),
    "an unknown option": (
        "@lm.build(forced=True)\n    def f(self): ...",
        ("@build", "forced", "force, timeout"),
    ),
    "a step": ("@lm.enter(step=1)\n    def f(self): ...", ("@enter", "step", "snap")),
    "a timeout of zero": ("@lm.build(timeout=0)\n    def f(self): ...", ("@build", "timeout=0")),
    "a shared default": (
        "f: list = lm.parameter(default=[])",
        ("parameter(default=[])", "tuple", "@enter"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_error_at_its_line_with_the_fix(mistake: str) -> None:
    body, expected = MISTAKES[mistake]
    with pytest.raises(InvalidError) as caught:
        exec(f"class Model:\n    {body}\n", {"lm": lm, "functools": functools})
    message = str(caught.value)
    assert [text for text in expected if text not in message] == []
    assert "<locals>" not in message


def test_a_decorator_for_methods_on_a_class_names_its_place() -> None:
    with pytest.raises(InvalidError, match=r"@method belongs on a method.*Model"):

        @lm.method()
        class Model: ...


def test_is_local_returns_false_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lm.is_local()
    monkeypatch.setattr(travel, "_handles", object())
    assert not lm.is_local()


def test_the_decorators_need_the_standard_library_alone() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from lifecycle_magic import enter, is_local, parameter\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))\n"
        "print(*sorted(m for m in sys.modules if m.startswith('lifecycle_magic.')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    packages, ours = done.stdout.splitlines()
    assert packages.split() == ["lifecycle_magic"]
    names = (
        "decorators",
        "decorators.classes",
        "decorators.direct_call",
        "decorators.hooks",
        "decorators.marks",
        "decorators.parameters",
        "decorators.travel",
        "exception",
    )
    assert ours.split() == [f"lifecycle_magic.{name}" for name in names]
