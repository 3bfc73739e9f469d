"""Forms of Modal's programs that run: what they declare, and how their containers behave."""

from __future__ import annotations

from collections.abc import Iterator

import lifecycle_magic.functions as functions
from engine.work import Site
from lifecycle_magic.gpu import A100

import lifecycle_magic as lm


def test_enter_sets_a_parameter_that_callers_do_not_give(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        size: int = lm.parameter(default=2)
        weights: list[int] = lm.parameter(init=False)
        never: int = lm.parameter(init=False)

        @lm.enter()
        def load(self) -> None:
            self.weights = [self.size] * 2

        @lm.method()
        def get(self) -> tuple[list[int], bool]:
            return self.weights, hasattr(self, "never")

    assert Model(size=3).get.remote() == ([3, 3], False)
    assert Model(size=4).get.local() == ([4, 4], False)


def test_a_function_that_returns_a_generator_yields_its_items(site_on_each: Site) -> None:
    @site_on_each.app.function(is_generator=True)
    def count(n: int) -> Iterator[int]:
        return iter(range(n))

    @site_on_each.app.function()
    def total(n: int) -> int:
        return sum(count.remote_gen(n))

    assert list(count.remote_gen(3)) == [0, 1, 2]
    assert total.remote(4) == 6


def test_modules_of_modal_exist_in_a_container_too(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        @lm.method()
        def names(self) -> tuple[str, str]:
            from lifecycle_magic.exception import AuthError

            return functions.FunctionCall.__name__, A100(count=2) + AuthError.__name__

    assert Model().names.remote() == ("FunctionCall", "A100:2AuthError")
