"""A class as it is read: hooks in their order, methods, constructor arguments and digests."""

from __future__ import annotations

import abc
import dataclasses
import enum
import inspect
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.decorators.marks import BatchMarks, ConcurrentMarks, has_marks
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class, read_function

pytestmark = pytest.mark.every_python


class Base:
    @lm.enter()
    def connect(self) -> None: ...

    @lm.enter()
    def load(self) -> None: ...

    @lm.exit()
    def close(self) -> None: ...

    @lm.method()
    def ping(self) -> str:
        return "pong"


class Model(Base):
    @lm.exit()
    def save(self) -> None: ...

    @lm.build()
    @lm.enter()
    def download(self) -> None: ...

    def connect(self) -> None: ...

    @lm.method()
    async def predict(self, x: int, *, y: int = 1) -> int:
        return x + y


# -- hooks, methods and their order -----------------------------------------------------------


def test_hooks_run_base_class_first_and_then_as_written() -> None:
    spec = read_class(Model)
    assert spec.enter == ("connect", "load", "download")
    assert spec.exit == ("close", "save")
    assert spec.build == ("download",)
    assert list(spec.methods) == ["ping", "predict"]


def test_a_hook_set_to_none_is_removed() -> None:
    class Quiet(Model):
        load = None  # type: ignore[assignment]

    assert read_class(Quiet).enter == ("connect", "download")


def test_an_override_with_other_marks_has_those() -> None:
    class Other(Base):
        @lm.method()
        def load(self) -> None: ...

    spec = read_class(Other)
    assert spec.enter == ("connect",)
    assert list(spec.methods) == ["load", "ping"]


def test_two_bases_keep_python_s_own_order() -> None:
    class Left:
        @lm.enter()
        def left(self) -> None: ...

    class Right:
        @lm.enter()
        def right(self) -> None: ...

    class Both(Left, Right):
        @lm.enter()
        def both(self) -> None: ...

    assert read_class(Both).enter == (
        "right",
        "left",
        "both",
    )  # Python's order, turned


def test_reading_a_class_leaves_it_as_it_was() -> None:
    before = dict(vars(Model))
    read_class(Model)
    assert dict(vars(Model)) == before


def test_a_spec_lists_the_kind_and_limits_of_each_method() -> None:
    @lm.concurrent(max_inputs=5)
    class Kinds:
        @lm.method()
        def plain(self, x: int) -> int:
            return x

        @lm.method()
        async def waits(self) -> None: ...

        @lm.method()
        def yields(self) -> Iterator[int]:
            yield 1

        @lm.method()
        async def yields_async(self) -> AsyncIterator[int]:
            yield 1

        @lm.method(is_generator=True)
        def returns_one(self) -> Iterator[int]:
            return iter([1])

        @lm.batched(max_batch_size=2, wait_ms=5)
        @lm.concurrent(max_inputs=9)
        def many(self, xs: list[int]) -> list[int]:
            return xs

    methods = read_class(Kinds).methods
    told = {name: (m.is_async, m.is_generator) for name, m in methods.items()}
    assert told == {
        "plain": (False, False),
        "waits": (True, False),
        "yields": (False, True),
        "yields_async": (True, True),
        "returns_one": (False, True),
        "many": (False, False),
    }
    assert methods["plain"].concurrent == ConcurrentMarks(5)
    assert methods["many"].concurrent == ConcurrentMarks(9)
    assert methods["many"].batched == BatchMarks(2, 5)
    assert str(methods["plain"].signature.replace(return_annotation=inspect.Signature.empty)) in (
        "(x: 'int')",
        "(x: int)",
    )


def test_a_function_is_a_class_with_one_static_method() -> None:
    def square(x: int) -> int:
        return x * x

    spec = read_function(square)
    assert (spec.name, list(spec.methods), spec.enter) == ("square", ["call"], ())
    assert spec.cls().call(3) == 9
    assert list(spec.methods["call"].signature.parameters) == ["x"]
    assert spec.is_function


def test_marks_are_found_through_bases_and_not_where_there_are_none() -> None:
    class Plain:
        inner = Model

        def method(self) -> None: ...

    class Derived(Model): ...

    assert has_marks(Derived)
    assert not has_marks(Plain)


# -- mistakes ---------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing to run": ("x = 1", ("Model", "no hooks and no methods", "@method")),
    "an old enter without decorator": (
        "def __enter__(self): ...\n    @lm.method()\n    def f(self): ...",
        ("Model.__enter__", "@enter()", "def load(self)"),
    ),
    "an old async exit without decorator": (
        "async def __aexit__(self, *a): ...\n    @lm.method()\n    def f(self): ...",
        ("Model.__aexit__", "@exit()", "async def close(self)"),
    ),
    "concurrent without method": (
        "@lm.concurrent(max_inputs=2)\n    def f(self): ...",
        ("Model.f", "@concurrent", "@method"),
    ),
    "a method without self": ("@lm.method()\n    def f(): ...", ("Model.f", "def f(self, ...)")),
    "a method with keywords alone": ("@lm.method()\n    def f(*, self): ...", ("Model.f", "self")),
    "a method that the handle has": (
        "@lm.method()\n    def with_options(self): ...",
        ("Model.with_options", "rename"),
    ),
    "an override that is no function": (
        "@lm.method()\n    def f(self): ...\nclass Model(Model):\n    f = 3",
        ("Model.f", "@method", "int", "f = None"),
    ),
    "an override that a hook may not be": (
        "@lm.enter()\n    def f(self): ...\nclass Model(Model):\n    def f(self, path): ...",
        ("Model.f", "@enter", "path"),
    ),
    "a parameter without a type": (
        "size = lm.parameter()\n    @lm.method()\n    def f(self): ...",
        ("Model.size", "size: str = parameter(...)"),
    ),
    "a parameter with a wrong default": (
        "size: int = lm.parameter(default='x')\n    @lm.method()\n    def f(self): ...",
        ("Model.size", "int", "'x'"),
    ),
    "a parameter of no caller without a type": (
        "size = lm.parameter(init=False)\n    @lm.method()\n    def f(self): ...",
        ("Model.size", "needs a type"),
    ),
    "parameters beside a constructor": (
        "size: int = lm.parameter()\n    def __init__(self): ...\n"
        "    @lm.method()\n    def f(self): ...",
        ("Model", "__init__", "parameter()", "@enter"),
    ),
    "parameters and slots": (
        "__slots__ = ()\n    size: int = lm.parameter()\n    @lm.method()\n    def f(self): ...",
        ("Model", "__slots__"),
    ),
    "build with needed arguments": (
        "def __init__(self, size): ...\n    @lm.build()\n    def get(self): ...",
        ("Model.get", "@build", "size", "defaults"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_error_with_the_method_and_the_fix(mistake: str) -> None:
    body, expected = MISTAKES[mistake]
    space: dict[str, Any] = {"lm": lm, "__name__": "__main__"}
    exec(f"class Model:\n    {body}\n", space)
    with pytest.raises(InvalidError) as caught:
        read_class(space["Model"])
    assert [text for text in expected if text not in str(caught.value)] == []


def test_a_class_without_instances_is_refused() -> None:
    class Abstract(abc.ABC):
        @lm.method()
        def f(self) -> int:
            return 1

        @abc.abstractmethod
        def missing(self) -> None: ...

    class Colour(enum.Enum):
        RED = 1

        @lm.method()
        def f(self) -> None: ...

    with pytest.raises(InvalidError, match=r"Abstract is abstract \(missing\)"):
        read_class(Abstract)
    with pytest.raises(InvalidError, match="Colour is an Enum"):
        read_class(Colour)


def test_class_and_function_in_each_other_s_place_are_distinguished() -> None:
    def square(x: int) -> int:
        return x

    with pytest.raises(InvalidError, match=r"square is a function\. Fix: use @app\.function"):
        read_class(square)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match=r"Model is a class\. Fix: use @app\.cls"):
        read_function(Model)
    with pytest.raises(InvalidError, match=r"@app\.cls goes above a class"):
        read_class(3)  # type: ignore[arg-type]


def test_what_is_no_function_of_its_own_is_refused() -> None:
    class Holder:
        def method(self) -> None: ...

    @lm.enter()
    def hook(self: Any) -> None: ...

    with pytest.raises(InvalidError, match="lambda"):
        read_function(lambda x: x)
    with pytest.raises(InvalidError, match=r"Holder\.method is a method"):
        read_function(Holder.method)
    with pytest.raises(InvalidError, match="@enter belongs in a class"):
        read_function(hook)
    with pytest.raises(InvalidError, match="builtin_function_or_method"):
        read_function(len)


# -- arguments --------------------------------------------------------------------------------


class Sized:
    def __init__(self, size: str = "small", *rest: int, depth: float = 1.0, **more: Any) -> None:
        self.size = size

    @lm.method()
    def f(self) -> None: ...


def key(cls: type, *args: Any, **kwargs: Any) -> str:
    return read_class(cls).arguments(args, kwargs).key


def test_an_omitted_default_equals_the_same_default_given() -> None:
    assert key(Sized) == key(Sized, "small") == key(Sized, size="small", depth=1.0)
    assert key(Sized, "big", 1, 2, a=1, b=2) == key(Sized, "big", 1, 2, b=2, a=1)
    assert len({key(Sized), key(Sized, "big"), key(Sized, depth=2.0), key(Sized, a=1)}) == 4


def test_arguments_are_passed_on_as_they_were_given() -> None:
    arguments = read_class(Sized).arguments(("big",), {"depth": 2.0})
    assert (arguments.args, arguments.kwargs) == (("big",), {"depth": 2.0})
    empty = read_class(Sized).arguments((), {})
    assert (empty.args, empty.kwargs) == ((), {})


class Fields:
    name: str = lm.parameter()
    rate: float = lm.parameter(default=1.0)
    on: "bool" = lm.parameter(default=False)  # noqa: UP037
    extra: dict[str, int] | None = lm.parameter(default=None)
    hidden: int = lm.parameter(default=0, init=False)

    @lm.method()
    def f(self) -> None: ...


def test_parameters_take_the_place_of_a_constructor() -> None:
    spec = read_class(Fields)
    assert spec.constructor.uses_parameters
    assert not read_class(Model).constructor.uses_parameters
    assert key(Fields, name="x") == key(Fields, name="x", rate=1.0) == key(Fields, name="x", rate=1)
    same = key(Fields, extra={"a": 1, "b": 2}, name="x")
    assert key(Fields, name="x", extra={"a": 1, "b": 2}) == same
    # A method can see the order of a dict.
    assert key(Fields, name="x", extra={"b": 2, "a": 1}) != same
    assert spec.arguments((), {"name": "x", "rate": 2}).kwargs == {"name": "x", "rate": 2.0}


@pytest.mark.parametrize(
    ("cls", "args", "kwargs", "expected"),
    [
        (Fields, (), {}, "argument: 'name'"),
        (Fields, ("x",), {}, "takes keyword arguments"),
        (Fields, (), {"name": "x", "nmae": 1}, "nmae"),
        (Fields, (), {"name": "x", "hidden": 1}, "hidden"),
        (Fields, (), {"name": 3}, "Fields.name must be str, not 3 (int)"),
        (Fields, (), {"name": "x", "rate": "fast"}, "Fields.rate must be float"),
        (Fields, (), {"name": "x", "rate": True}, "Fields.rate must be float"),
        (Fields, (), {"name": "x", "on": 1}, "Fields.on must be bool"),
        (Model, (1,), {}, "Model takes ()"),
        (Sized, (), {"size": threading.Lock()}, "@enter"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(
    cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        read_class(cls).arguments(args, kwargs)
    assert expected in str(caught.value)
    assert cls.__name__ in str(caught.value)


# -- what an edit asks for --------------------------------------------------------------------

CELL = """
LIMIT = 10
RATE = 2
PATH = "/weights"

def prepare(n):
    return list(range(n))

def scale(x):
    return x * RATE

def fetch():
    return PATH

class Base:
    def shared(self):
        return 1

class Model(Base):
    count: int = 3
    factor = 4
    unread = 5

    def __init__(self, size=2):
        self.size = size

    @lm.build()
    def download(self):
        self.where = fetch()

    @lm.enter()
    def load(self):
        self.table = prepare(LIMIT + self.count)

    @lm.method()
    def predict(self, x):
        return self.table[scale(x)] * self.factor + self._help()

    def _help(self):
        return self.shared()

    @lm.exit()
    def close(self):
        self.table = None
"""


def read_cell(source: str, **options: Any) -> ClassSpec:
    space: dict[str, Any] = {"__name__": "__main__", "lm": lm}
    exec(compile(source, "<cell>", "exec", dont_inherit=True), space)
    return read_class(space["Model"], Options.make("Model", **options))


NEW_CONTAINER = {
    "enter": ("LIMIT + self.count", "LIMIT - self.count"),
    "a global that enter reads": ("LIMIT = 10", "LIMIT = 11"),
    "a helper of enter": ("list(range(n))", "list(range(n + 1))"),
    "the constructor": ("self.size = size", "self.size = size + 1"),
    "a default of the constructor": ("size=2", "size=3"),
    "the build hook": ("self.where = fetch()", "self.path = fetch()"),
    "a class variable that enter reads": ("count: int = 3", "count: int = 4"),
    "a class variable that nobody visibly reads": ("unread = 5", "unread = 6"),
    "an annotation": ("count: int", "count: float"),
    "a base class": ("class Model(Base):", "class Extra: ...\nclass Model(Base, Extra):"),
    "one more enter": ("    @lm.exit()", "    @lm.enter()"),
    "a method that enter comes to call": ("self.table = prepare", "self._help(); self.t = prepare"),
    "how many inputs run at once": (
        "    @lm.method()\n",
        "    @lm.method()\n    @lm.concurrent(max_inputs=2)\n",
    ),
}
ONLY_CODE = {
    "a method": ("self.table[scale(x)]", "self.table[-scale(x)]"),
    "a helper of a method": ("x * RATE", "x + RATE"),
    "a global that a method reads": ("RATE = 2", "RATE = 3"),
    "a class variable that a method reads": ("factor = 4", "factor = 5"),
    "an undecorated method": ("return self.shared()", "return self.shared() + 1"),
    "a method of a base class": ("return 1", "return 2"),
    "an exit hook": ("self.table = None", "del self.table"),
    "a new method": ("    @lm.exit()", "    @lm.method()\n    def more(self): ...\n    @lm.exit()"),
}


@pytest.mark.parametrize("what", NEW_CONTAINER)
def test_an_edit_of_what_made_the_instance_needs_a_new_container(what: str) -> None:
    old, new = NEW_CONTAINER[what]
    assert old in CELL
    assert read_cell(CELL.replace(old, new)).state_key != read_cell(CELL).state_key


@pytest.mark.parametrize("what", ONLY_CODE)
def test_an_edit_of_other_code_leaves_the_instance_alone(what: str) -> None:
    old, new = ONLY_CODE[what]
    assert old in CELL
    before, after = read_cell(CELL), read_cell(CELL.replace(old, new))
    assert after.state_key == before.state_key
    assert after.code_key != before.code_key


def test_the_same_cell_again_changes_nothing() -> None:
    before, after = read_cell(CELL), read_cell("# run again\n" + CELL)
    assert (after.state_key, after.code_key) == (before.state_key, before.code_key)


def test_options_of_the_container_count_for_the_state() -> None:
    before, after = read_cell(CELL), read_cell(CELL, memory=512)
    assert after.state_key != before.state_key
    assert after.code_key == before.code_key
    assert read_cell(CELL, max_containers=3).state_key == before.state_key


def test_a_build_layer_depends_on_its_hook_its_base_and_what_the_hook_reads() -> None:
    def layer(source: str = CELL, base: str = "sha256:1", **options: Any) -> str:
        return read_cell(source, **options).build_key("download", base)

    before = layer()
    assert layer(CELL.replace('"/weights"', '"/other"')) != before
    assert layer(CELL.replace("self.where = fetch()", "self.path = fetch()")) != before
    assert layer(base="sha256:2") != before
    assert layer(memory=512) == before
    for kept in ONLY_CODE.values():
        assert layer(CELL.replace(*kept)) == before
    assert layer(CELL.replace("LIMIT = 10", "LIMIT = 11")) == before


def test_what_cannot_be_read_is_named() -> None:
    source = "import threading\nLOCK = threading.Lock()\n" + CELL.replace("return 1", "return LOCK")
    assert read_cell(source).unreadable == ("LOCK",)
    assert read_cell(CELL).unreadable == ()


def test_a_class_that_became_a_handle_counts_as_before() -> None:
    source = textwrap.dedent(
        """
        class Other:
            @lm.method()
            def f(self): return {}
        class Model:
            @lm.method()
            def g(self): return Other().f()
        """
    )

    class Handle:
        """Travels as the handles in `lifecycle_magic.handles` do."""

        def __init__(self, cls: type) -> None:
            self._cls = cls

        def __reduce__(self) -> tuple[Any, ...]:
            from lifecycle_magic.decorators.travel import travel

            return travel, (self._cls,)

    Handle.__module__ = "lifecycle_magic.handles.cls"

    def code_key(number: int, *, handle: bool) -> str:
        space: dict[str, Any] = {"__name__": "__main__", "lm": lm}
        exec(source.replace("{}", str(number)), space)
        if handle:
            space["Other"] = Handle(space["Other"])
        return read_class(space["Model"]).code_key

    assert code_key(1, handle=True) == code_key(1, handle=False)
    assert code_key(1, handle=True) != code_key(2, handle=True)


def test_a_recursive_function_counts_the_same_before_and_after_it_has_a_handle() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def fact(n):\n    return n * fact(n - 1) if n else 1\n", space)
    function = space["fact"]
    before = read_function(function).code_key
    space["fact"] = object()
    assert read_function(function).code_key == before


def test_other_options_make_another_spec_with_keys_of_its_own() -> None:
    spec = read_class(Model)
    known = spec.state_key
    other = dataclasses.replace(spec, options=spec.options.replace("Model", memory=512))
    assert other.state_key != known
    assert other.code_key == spec.code_key
    assert spec.state_key == known


def test_a_build_hook_depends_on_the_variables_that_it_can_read() -> None:
    class Model:
        @lm.build()
        def download(self) -> None: ...

    def spec(**options: Any) -> ClassSpec:
        return read_class(Model, Options.make("Model", **options))

    def key(**options: Any) -> str:
        return spec(**options).build_key("download", "base")

    assert key(env={"MODEL": "a"}) == key(env={"MODEL": "a"})
    assert len({key(), key(env={"MODEL": "a"}), key(env={"MODEL": "b"}), key(cpu=1)}) == 3
    secret, other = (lm.Secret.from_dict({"TOKEN": value}) for value in ("x", "y"))
    assert key(secrets=[secret]) == key(secrets=[other]) != key()
    assert "MODEL (env)" in spec(env={"MODEL": "a"}).build_prints["download"].parts
