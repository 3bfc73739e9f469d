"""Attributes and documentation of handles, without an engine: no call is made here."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from handle_state import spec_of

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.session import session

RAN: list[str] = []


class Shared:
    """A base without methods."""

    @classmethod
    def kind(cls) -> str:
        return "shared"


class Model(Shared):
    """A model."""

    LIMIT = 5
    SIZES = ("small", "big")

    def __init__(self, size: str = "small", *, depth: int = 1) -> None:
        RAN.append("init")
        self.size = size
        self.depth = depth
        self.twice = depth * 2
        self.changed = size

    @lm.enter()
    def load(self) -> None:
        RAN.append("enter")
        self.loaded = self.size.upper()

    @lm.method()
    def predict(self, x: int) -> int:
        self.changed = "in the container"
        return x

    @property
    def shape(self) -> str:
        RAN.append("property")
        return self.size

    @functools.cached_property
    def cached(self) -> str:
        RAN.append("cached_property")
        return self.size

    def helper(self, x: int) -> int:
        RAN.append("helper")
        return x + 1

    @staticmethod
    def double(x: int) -> int:
        return x * 2

    @classmethod
    def big(cls) -> Model:
        return cls("big")

    @classmethod
    def kind(cls) -> str:
        return f"{super().kind()} model"


@pytest.fixture
def handle() -> Iterator[Any]:
    """The handle of `Model` in an app of the test's own."""
    RAN.clear()
    yield lm.App("handles").cls(Model)
    assert session.opened() is None


def declared(text: str, **names: Any) -> dict[str, Any]:
    """Return the namespace of a script, compiled again at each call, as when a cell runs again."""
    space = {"__name__": "__main__", "lm": lm, **names}
    exec(text, space)
    return space


# --- attributes of an instance -------------------------------------------------------------------


def test_arguments_are_read_without_making_anything(handle: Any):
    assert handle(size="big").size == "big"
    assert handle("big", depth=3).depth == 3
    assert handle().size == "small"
    assert RAN == []


def test_parameters_are_read_without_making_anything():
    space = declared(
        "class Sized:\n"
        "    size: str = lm.parameter(default='small')\n"
        "    rate: float = lm.parameter(default=1)\n"
        "    hidden: int = lm.parameter(default=7, init=False)\n"
        "    @lm.method()\n"
        "    def get(self): return self.size\n"
    )
    sized = lm.App().cls(space["Sized"])
    assert (sized(size="big").size, sized().size, sized().hidden) == ("big", "small", 7)
    assert type(sized(rate=2).rate) is float


def test_fields_of_a_dataclass_are_read_without_making_anything():
    @lm.App().cls()
    @dataclasses.dataclass
    class Data:
        x: int
        y: int = 2
        items: list[int] = dataclasses.field(default_factory=list)
        late: int = 0

        def __post_init__(self) -> None:
            self.late = self.x + 1

        @lm.method()
        def get(self) -> int:
            return self.x

    assert (Data(1).x, Data(1).y, Data(x=4, y=5).y) == (1, 2, 5)
    for name in ("items", "late"):
        with pytest.raises(AttributeError, match=rf"Data\(\)\.{name}.*@method"):
            getattr(Data(1), name)


@pytest.mark.parametrize("name", ["loaded", "twice", "changed"])
def test_what_only_the_container_knows_is_refused_with_the_fix(handle: Any, name: str):
    with pytest.raises(InvalidError, match=rf"{name} is set while the instance runs.*@method"):
        getattr(handle(), name)
    assert not hasattr(handle(), name)
    assert getattr(handle(), name, 7) == 7
    assert RAN == []


@pytest.mark.parametrize("name", ["shape", "cached"])
def test_a_property_is_refused_with_the_fix_and_runs_nothing(handle: Any, name: str):
    with pytest.raises(InvalidError, match=rf"(?s){name} is a property.*get_{name}") as caught:
        getattr(handle(), name)
    assert isinstance(caught.value, AttributeError)
    assert RAN == []


def test_hooks_and_unknown_names_are_no_attributes_and_run_nothing(handle: Any):
    with pytest.raises(InvalidError, match=r"Model\.load is a hook"):
        _ = handle().load
    assert [hasattr(handle(), name) for name in ("load", "nope", "predict")] == [False, False, True]
    assert getattr(handle(), "nope", None) is None
    with pytest.raises(AttributeError, match="Model has no method nope; it has predict"):
        _ = handle().nope
    assert RAN == []


def test_a_plain_method_is_refused_with_the_fix(handle: Any):
    helper = handle().helper
    for way in ("remote", "spawn", "map", "remote_gen", "starmap", "for_each"):
        with pytest.raises(InvalidError, match=r"helper is a plain method.*add @lm\.method\(\)"):
            getattr(helper, way)(1)
        assert not hasattr(helper, way)
    with pytest.raises(InvalidError, match=r"add @lm\.method\(\) above def helper.*\.local"):
        helper(1)
    with pytest.raises(InvalidError, match=r"Model\.helper is a plain method"):
        handle.helper.remote(1)
    assert RAN == []
    assert helper.local(1) == 2
    assert RAN == ["init", "enter", "helper"]


def test_static_and_class_methods_are_plain_python(handle: Any):
    assert (handle().double(2), handle.double(3)) == (4, 6)
    assert handle.big().size == handle().big().size == "big"
    assert (handle.kind(), handle().kind()) == ("shared model", "shared model")
    with pytest.raises(InvalidError, match="plain method"):
        handle.double.remote(1)
    assert RAN == []


def test_assigning_to_a_handle_is_refused_with_the_fix(handle: Any):
    instance = handle()
    with pytest.raises(InvalidError, match=r"Model\.LIMIT = 9.*Fix: write it in the class"):
        handle.LIMIT = 9
    with pytest.raises(InvalidError, match=r"del Model\.LIMIT"):
        del handle.LIMIT
    with pytest.raises(InvalidError, match=r"Model\(\)\.size = 'x'.*Fix: pass the value"):
        instance.size = "x"
    with pytest.raises(InvalidError, match="size"):
        del instance.size
    assert (handle.LIMIT, instance.LIMIT, instance.size) == (5, 5, "small")


def test_dir_lists_what_a_user_can_write(handle: Any):
    assert dir(handle()) == ["depth", "predict", "size"]
    assert {"predict", "LIMIT", "with_options", "double"} <= set(dir(handle))


def test_calling_an_instance_names_the_way(handle: Any):
    with pytest.raises(InvalidError, match=r"Model\(\)\.predict\.remote"):
        handle()(1)


def test_arguments_of_any_kind_are_read():
    text = (
        "class Any:\n"
        "    def __init__(self, a, /, b=2, *rest, c, **more):\n"
        "        self.a, self.b = a, b\n"
        "        self.rest = rest\n"
        "        self.c = c\n"
        "        self.more = more\n"
        "        if b:\n"
        "            self.maybe = b\n"
        "        c = 3\n"
        "    @lm.method()\n"
        "    def get(self): ...\n"
    )
    one = lm.App().cls(declared(text)["Any"])(1, 5, 6, 7, c=8, d=9)
    assert (one.a, one.b) == (1, 5)
    assert (one.rest, one.more) == ((6, 7), {"d": 9})
    assert [hasattr(one, name) for name in ("c", "maybe")] == [False, False]  # not certain


# --- as a class ----------------------------------------------------------------------------------


def test_isinstance_and_issubclass_hold_for_handles_and_plain_classes(handle: Any):
    other = lm.App("handles").cls(type("Other", (Model,), {"__module__": "__main__"}))
    assert isinstance(handle(), handle)
    assert isinstance(handle(), Shared)
    assert isinstance(handle(), Model)
    assert isinstance(Model(), handle)
    assert not isinstance(3, handle)
    assert issubclass(Model, handle)
    assert issubclass(handle, Shared)
    assert issubclass(handle, handle)
    assert isinstance(other(), handle)
    assert not isinstance(handle(), other)
    assert issubclass(other, handle)
    assert not issubclass(handle, other)
    assert not issubclass(int, handle)


def test_a_class_may_derive_from_a_handle(handle: Any):
    class Derived(handle):  # type: ignore[misc]
        pass

    assert Derived.__mro__[1] is Model
    assert issubclass(Derived, handle)
    assert Derived().predict(3) == 3


def test_annotations_may_name_a_handle(handle: Any):
    text = "def plain(m: Model | None, n: None | Model, o: list[Model], p: Optional[Model]): ..."
    plain = declared(text, Model=handle, Optional=Optional)["plain"]
    hints = typing.get_type_hints(plain)
    assert isinstance(handle(), hints["m"])
    assert isinstance(None, hints["n"])
    assert not isinstance(3, hints["m"])
    assert typing.get_args(hints["o"]) == (handle,)
    assert typing.get_args(hints["p"])[0] == handle


def test_a_handle_shows_the_signature_and_the_text_of_its_class(handle: Any):
    assert (
        str(inspect.signature(handle)) == "(size: 'str' = 'small', *, depth: 'int' = 1) -> 'None'"
    )
    assert (handle.__doc__, handle.__name__, handle.__module__) == ("A model.", "Model", __name__)
    assert inspect.unwrap(handle) is Model
    assert "class Model(Shared)" in inspect.getsource(handle)
    assert repr(handle) == "<lifecycle class Model: predict>"
    assert repr(handle("a", depth=2)) == "<Model('a', depth=2) in containers>"


def test_handles_are_values(handle: Any):
    again = lm.App("handles").cls(Model)
    assert again == handle
    assert {handle: 1}[again] == 1
    assert handle != lm.App("other").cls(Model)
    for value in (handle, handle(), lm.App().function(declared("def f(): ...")["f"])):
        assert copy.copy(value) is value
        assert copy.deepcopy([value])[0] is value
    assert pickle.loads(pickle.dumps(handle)) == handle


# --- a handle follows its name -------------------------------------------------------------------

TWO = """
class Model:
    def __init__(self, size="small"): self.size = size
    @lm.method()
    def old(self): return 1
    @lm.method()
    def same(self, x): return 1
"""


def test_an_old_handle_has_the_newest_methods_signatures_and_parameters():
    old = lm.App("follow").cls(declared(TWO)["Model"])
    instance = old()
    kept = instance.old
    again = TWO.replace("old", "new").replace("self, x", "self, y=2").replace("size", "shape")
    lm.App("follow").cls(declared(again)["Model"])
    assert str(instance.same.__signature__) == "(y=2)"
    assert old(shape="big").shape == "big"
    assert instance.shape == "small"
    assert repr(instance.new) == "<method Model().new()>"
    with pytest.raises(InvalidError, match=r"Model has no method old since .* it has new, same"):
        kept.remote()
    with pytest.raises(InvalidError, match="unexpected keyword argument 'size'"):
        old(size="big")


def test_local_runs_the_newest_code_with_enter_once_for_each():
    runs: list[int] = []
    text = (
        "class Model:\n"
        "    @lm.enter()\n"
        "    async def load(self): runs.append({n})\n"
        "    @lm.method()\n"
        "    def get(self): return {n}\n"
        "    @lm.exit()\n"
        "    def close(self): runs.append('exit')\n"
    )
    instance = lm.App("local").cls(declared(text.format(n=1), runs=runs)["Model"])()
    assert (instance.get.local(), instance.get.local(), runs) == (1, 1, [1])
    lm.App("local").cls(declared(text.format(n=2), runs=runs)["Model"])
    assert (instance.get.local(), instance.get.local(), runs) == (2, 2, [1, 2])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return super(Model, self).__repr__()", r"has super\(Model, .* write super\(\)"),
        ("return type(self) is Model", r"has ... is Model: .* isinstance\(..., Model\)"),
        ("return type(self) is not Model", r"has ... is not Model"),
        ("return type(self) == Model", r"has ... == Model"),
        ("return [1 for _ in 'a' if type(self) is Model]", r"has ... is Model"),
    ],
)
def test_local_refuses_code_that_needs_a_type_where_it_finds_the_handle(body, message):
    text = f"class Model:\n    @lm.method()\n    def get(self): {body}\n"
    space = declared(text)
    space["Model"] = lm.App("local names").cls(space["Model"])
    with pytest.raises(InvalidError, match=rf"Model\.get {message}"):
        space["Model"]().get.local()


def test_local_runs_code_that_uses_the_handle_as_a_class():
    text = (
        "class Base:\n"
        "    def hello(self): return 'base'\n"
        "class Model(Base):\n"
        "    LIMIT = 3\n"
        "    def __init__(self, size=1): self.size = size\n"
        "    @classmethod\n"
        "    def large(cls): return cls(9)\n"
        "    def hello(self): return super().hello() + '!'\n"
        "    @lm.method()\n"
        "    def get(self):\n"
        "        found = isinstance(self, Model), issubclass(Model, Base), Model.LIMIT\n"
        "        return *found, Model(5).size, Model.large().size, self.hello()\n"
    )
    space = declared(text)
    space["Model"] = lm.App("local names").cls(space["Model"])
    assert space["Model"]().get.local() == (True, True, 3, 5, 9, "base!")


def test_a_function_follows_its_name_too():
    old = lm.App("follow").function(declared("def f(): return 1")["f"])
    lm.App("follow").function(declared("def f(x): return 2")["f"])
    assert old.local(3) == 2


def test_with_options_follows_its_class():
    variant = lm.App("follow").cls(declared(TWO)["Model"]).with_options(timeout=5)
    lm.App("follow").cls(declared(TWO.replace("old", "new"))["Model"], timeout=7, cpu=2)
    assert list(spec_of(variant).methods) == ["new", "same"]
    assert (spec_of(variant).options.timeout, spec_of(variant).options.cpu) == (5, 2)


def test_one_name_in_two_modules_is_two_names():
    app = lm.App()
    first = app.cls(type("Model", (Model,), {"__module__": "one", "LIMIT": 1}))
    second = lm.App().cls(type("Model", (Model,), {"__module__": "two", "LIMIT": 2}))
    assert (first.LIMIT, second.LIMIT) == (1, 2)


# --- factories -----------------------------------------------------------------------------------

FACTORY = """
def make(n):
    @app.function(**options(n))
    def f(): return n
    return f
"""


def test_functions_of_a_factory_keep_their_own_code_and_a_warning_asks_for_a_name():
    make = declared(FACTORY, app=lm.App("factory"), options=lambda n: {})["make"]
    first = make("foo")
    with pytest.warns(UserWarning, match=r"the name f several times;.*@app\.function\(name="):
        second = make("bar")
    assert [first.local(), second.local()] == ["foo", "bar"]


def test_functions_with_a_name_each_need_no_warning():
    make = declared(FACTORY, app=lm.App("factory"), options=lambda n: {"name": f"f-{n}"})["make"]
    assert [one.local() for one in [make(n) for n in range(3)]] == [0, 1, 2]


@pytest.mark.parametrize("body", ["@lm.method()\n        def get(self): return n", "N = n"])
def test_classes_of_a_factory_keep_their_own_code(body: str):
    base = declared("class Base:\n    @lm.method()\n    def get(self): return self.N\n")["Base"]
    text = f"def make(n):\n    @app.cls()\n    class M(Base):\n        {body}\n    return M\n"
    make = declared(text, app=lm.App("factory"), Base=base)["make"]
    first = make(1)
    with pytest.warns(UserWarning, match=r"the name M several times"):
        second = make(2)
    assert (first().get.local(), second().get.local()) == (1, 2)


def test_what_a_factory_makes_again_alike_is_the_same():
    make = declared(FACTORY, app=lm.App("alike"), options=lambda n: {})["make"]
    assert make("foo")._cls == make("foo")._cls


def test_what_nobody_holds_any_more_is_no_other_class():
    make = declared(FACTORY, app=lm.App("dropped"), options=lambda n: {})["make"]
    make("foo")
    assert make("bar").local() == "bar"


def test_declaring_one_class_again_is_no_factory(handle: Any):
    first = lm.App("twice").cls(Model, cpu=1)
    lm.App("twice").cls(Model, cpu=2)
    assert spec_of(first).options.cpu == 2


@pytest.mark.parametrize("name", ["", "a b", 3, "x" * 65])
def test_a_name_that_can_not_be_one_is_refused(name: Any):
    with pytest.raises(InvalidError, match=r'Fix: write name="my-name"'):
        lm.App().cls(name=name)(Model)


# --- a mark that does not show -------------------------------------------------------------------

HIDING = """
import functools
def timed(fn):
    def wrapper(*args): return fn(*args)
    return wrapper
class Timed:
    def __init__(self, fn): self.fn = fn
    def __call__(self, *args): return self.fn(*args)
class Model:
    @{above}
    @lm.method()
    def f(self): return 1
    @lm.method()
    def g(self): return 2
"""


@pytest.mark.parametrize(
    ("above", "told"),
    [
        ("staticmethod", "Model.f: @method below @staticmethod"),
        ("classmethod", "Model.f: @method below @classmethod"),
        ("property", "Fix: remove @property and call Model().f.remote()"),
        ("functools.cached_property", "below @cached_property, which is read"),
        ("timed", "Model.f: timed above @method hides it"),
        ("Timed", "Model.f: Timed above @method hides it"),
    ],
)
def test_a_decorator_that_hides_a_mark_is_named(above: str, told: str):
    with pytest.raises(InvalidError) as caught:
        lm.App().cls(declared(HIDING.format(above=above))["Model"])
    assert told in str(caught.value)
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize("order", ["@lm.method()\n    @CACHED", "@CACHED\n    @lm.method()"])
def test_a_cached_function_is_a_method_in_either_order(order: str):
    order = order.replace("CACHED", "functools.lru_cache")
    text = (
        "import functools\nclass Model:\n"
        f"    {order}\n"
        "    def f(self, x): return x\n"
        "Model = app.cls(Model)"
    )
    model = declared(text, app=lm.App())["Model"]()
    assert str(model.f.__signature__) == "(x)"
    assert model.f.local(3) == 3


def test_a_method_of_a_plain_class_names_the_fix():
    with pytest.raises(InvalidError, match=r"Model\.predict: Model is a plain class.*%%lifecycle"):
        Model().predict.remote(1)  # type: ignore[attr-defined]
    with pytest.raises(InvalidError, match="plain class"):
        Model().predict.remote.aio(1)  # type: ignore[attr-defined]


def test_a_handle_that_was_stored_in_a_file_names_the_fix_in_another_process(tmp_path: Path):
    save, load = tmp_path / "save.py", tmp_path / "load.py"
    save.write_text(
        "import sys, cloudpickle, lifecycle_magic as lm\n"
        "app = lm.App('weekly')\n"
        "@app.cls()\n"
        "class Model:\n"
        "    @lm.method()\n"
        "    def one(self): return 1\n"
        "open(sys.argv[1], 'wb').write(cloudpickle.dumps([Model, Model(), Model().one]))\n"
    )
    load.write_text(
        "import sys, pickle\n"
        "cls, model, one = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for call in (cls().one.remote, model.one.remote, one.remote):\n"
        "    try: call()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    for script in (save, load):
        done = subprocess.run(
            [sys.executable, script, tmp_path / "handle"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == 3
    for line in told:
        assert line.startswith("InvalidError this method is one of a plain class here")
        assert "Fix: declare the class here, or write lm.Cls.from_name" in line
