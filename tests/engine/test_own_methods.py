"""Inside its own container, a method found on an instance also has ``remote`` and the rest."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError


def sized(app: lm.App) -> Any:
    """Declare a class with arguments, whose containers have names."""

    @app.cls(max_containers=2)
    class Sized:
        def __init__(self, size: int, *, unit: str = "m") -> None:
            self.size = size
            self.unit = unit

        def label(self) -> str:
            return f"{self.size} {self.unit}"

        @lm.method()
        def read(self) -> tuple[str, str]:
            return self.label(), os.environ["MODAL_TASK_ID"]

        @lm.method()
        def items(self, n: int) -> Iterator[str]:
            for number in range(n):
                yield f"{number} of {self.label()}"

        @lm.method()
        async def later(self) -> str:
            return self.label()

        @lm.method()
        def own(self) -> tuple[Any, ...]:
            here, there = self.read(), self.read.remote()
            return here[0], there[0], here[1] == there[1]

        @lm.method()
        def others(self) -> list[str]:
            return [Sized(self.size + n, unit="km").read.remote()[0] for n in range(1, 3)]

        @lm.method()
        def forms(self) -> list[Any]:
            other = Sized(9)
            return [
                list(other.items.remote_gen(2)),
                [label for label, _ in other.read.starmap([()])],
                other.read.spawn().get()[0],
                other.later.remote(),
            ]

        @lm.method()
        async def awaited(self) -> str:
            return await Sized(8, unit="cm").later.remote.aio()

        @lm.method()
        def plain(self) -> list[bool]:
            method: Any = self.read
            return [
                type(method) is types.MethodType,
                method.__func__ is Sized.read,
                method == self.read,
                type(Sized.__init__) is types.FunctionType,
                method.__func__.__qualname__.endswith("Sized.read"),
            ]

        @lm.method()
        def two_at_once(self) -> str:
            mine, other = self.read, Sized(5).read
            try:
                mine.remote()  # type: ignore[attr-defined]
            except InvalidError as error:
                refused = str(error)
            del other
            return f"{mine.remote()[0]}: {refused}"  # type: ignore[attr-defined]

        @lm.method()
        def one_after_the_other(self) -> list[str]:
            first, second = Sized(5).read.remote, Sized(6).read.remote
            return [second()[0], first()[0]]

    return Sized


def test_a_method_reaches_containers_with_the_arguments_of_its_instance(
    site_on_each: Site,
) -> None:
    one = sized(site_on_each.app)(3, unit="mm")
    assert one.own.remote() == ("3 mm", "3 mm", False)
    assert one.others.remote() == ["4 km", "5 km"]
    assert one.forms.remote() == [["0 of 9 m", "1 of 9 m"], ["9 m"], "9 m", "9 m"]
    assert one.awaited.remote() == "8 cm"


def test_methods_stay_plain_and_an_unknown_instance_is_refused(site_on_each: Site) -> None:
    one = sized(site_on_each.app)(3)
    assert one.plain.remote() == [True] * 5
    assert one.one_after_the_other.remote() == ["6 m", "5 m"]
    assert one.two_at_once.remote().startswith("3 m: Sized.read.remote(): inside its own container")


def test_inherited_methods_reach_the_class_of_their_instance(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Base:
        def __init__(self, size: int = 1) -> None:
            self.size = size

        @lm.method()
        def name(self) -> str:
            return f"{type(self).__name__} {self.size}"

        @lm.method()
        def twice(self) -> str:
            return self.name() * 2

    @site_on_each.app.cls(max_containers=2)
    class Derived(Base):
        @lm.method()
        def ask(self) -> list[str]:
            return [self.name.remote(), self.twice.remote(), Base(4).name.remote(), self.name()]

        @lm.method()
        def twice(self) -> str:
            return "derived"

        @lm.method()
        def ask_super(self) -> str:
            return str(super().twice.remote())

    derived = Derived()
    assert derived.ask.remote() == ["Derived 1", "derived", "Base 4", "Derived 1"]
    with pytest.raises(InvalidError, match=r"Derived.twice.remote\(\): inside its own container"):
        derived.ask_super.remote()


def test_an_edited_method_is_called_as_it_is_now(site_on_each: Site) -> None:
    app = site_on_each.app

    def declare() -> Any:
        class Kept:
            def __init__(self, size: int) -> None:
                self.size = size
                self.made = os.urandom(4).hex()

            @lm.method()
            def read(self) -> tuple[int, str]:
                return self.size, self.made

            @lm.method()
            def ask(self) -> list[tuple[int, str]]:
                return sorted([self.read(), self.read.remote()])

        return app.cls(Kept, max_containers=2)(3)

    kept = declare()
    (size, one), (_, other) = kept.ask.remote()

    def declare() -> Any:  # type: ignore[no-redef] # the same class, edited
        class Kept:
            def __init__(self, size: int) -> None:
                self.size = size
                self.made = os.urandom(4).hex()

            @lm.method()
            def read(self) -> tuple[int, str]:
                return -self.size, self.made

            @lm.method()
            def ask(self) -> list[tuple[int, str]]:
                return sorted([self.read(), self.read.remote()])

        return app.cls(Kept, max_containers=2)(3)

    declare()
    assert size == 3
    assert kept.ask.remote() == sorted([(-3, one), (-3, other)])


def scaled(app: lm.App) -> Any:
    """Declare a class with parameters that makes instances of itself."""

    @app.cls(max_containers=2)
    class Scaled:
        factor: int = lm.parameter()
        unit: str = lm.parameter(default="m")

        @lm.enter()
        def load(self) -> None:
            self.loaded = self.factor * 10

        @lm.method()
        def read(self) -> tuple[int, str, int]:
            return self.factor, self.unit, self.loaded

        @lm.method()
        def others(self) -> list[Any]:
            make: Any = Scaled
            other = make(factor=self.factor + 1, unit="km")
            return [(other.factor, other.unit), other.read.remote(), self.read()]

        @lm.method()
        def wrong(self, **given: Any) -> None:
            make: Any = Scaled
            make(**given)

    return Scaled


def test_a_class_with_parameters_makes_instances_of_itself(site_on_each: Site) -> None:
    model = scaled(site_on_each.app)(factor=3)
    assert model.others.remote() == [(4, "km"), (4, "km", 40), (3, "m", 30)]
    with pytest.raises(TypeError, match="missing its parameter 'factor'"):
        model.wrong.remote()
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        model.wrong.remote(factor=1, size=2)
