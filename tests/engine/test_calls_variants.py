"""``with_options``, ``is_local``, and what is said when a method is called the wrong way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine.work import Site, Work
from handle_state import spec_of

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError, MethodTimeout

pytestmark = pytest.mark.process


# --- with_options --------------------------------------------------------------------------------


def test_a_variant_has_containers_of_its_own(site: Site) -> None:
    model = site.cls()
    variant = model.with_options(timeout=120)
    path = site.folder.path
    assert variant(path).who.remote() != model(path).who.remote()
    assert variant(path).who.remote() == variant(path).who.remote()


def test_the_same_options_give_the_same_variant(site: Site) -> None:
    model = site.cls()
    path = site.folder.path
    first = model.with_options(timeout=120)(path).who.remote()
    assert model.with_options(timeout=120)(path).who.remote() == first


def test_a_variant_keeps_the_options_that_it_does_not_change(site: Site) -> None:
    model = site.cls(timeout=0.2)
    with pytest.raises(MethodTimeout, match=r"timeout=0\.2"):
        model.with_options(max_containers=2)(site.folder.path).hold.remote("a")


def test_options_of_a_variant_take_effect(site: Site) -> None:
    work = site.cls().with_options(max_containers=2)(site.folder.path)
    calls = [work.hold.spawn(name) for name in "ab"]
    site.folder.wait("began-a")
    site.folder.wait("began-b")
    site.go("a", "b")
    assert lm.gather(*calls) == ["a", "b"]


def test_a_wrong_option_is_refused_where_it_is_written(site: Site) -> None:
    with pytest.raises(InvalidError, match="no option timout: did you mean timeout"):
        site.cls().with_options(timout=3)


def test_a_variant_follows_its_class_when_the_cell_is_run_again(site: Site) -> None:
    def cell(answer: str) -> Any:
        class Model(Work):
            @lm.method()
            def answer(self) -> str:
                return answer

        return site.cls(Model)

    path = site.folder.path
    assert cell("old").with_options(timeout=120)(path).answer.remote() == "old"
    assert cell("new").with_options(timeout=120)(path).answer.remote() == "new"


def test_stopping_the_app_stops_its_variants(site: Site) -> None:
    site.cls().with_options(timeout=120)(site.folder.path).echo.remote(1)
    site.app.stop()
    assert site.folder.count("exit") == 1


# --- is_local ------------------------------------------------------------------------------------


class Where:
    @lm.method()
    def local(self) -> bool:
        return lm.is_local()


def test_code_can_tell_where_it_runs(site: Site) -> None:
    where = site.app.cls(Where)()
    assert lm.is_local()
    assert spec_of(where).cls().local()
    assert not where.__getattr__("local").remote()


# --- the wrong way -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda w: w.count.remote(3),
            r"yields.*\.remote\(\).*iterate over Work\(\)\.count\.remote_gen",
        ),
        (lambda w: w.count.spawn(3), r"iterate over Work\(\)\.count\.remote_gen"),
        (lambda w: w.count.map([3]), r"iterate over Work\(\)\.count\.remote_gen"),
        (lambda w: w.count.starmap([(3,)]), r"iterate over Work\(\)\.count\.remote_gen"),
        (lambda w: w.count.for_each([3]), r"iterate over Work\(\)\.count\.remote_gen"),
        (lambda w: w.count.map.aio([3]), r"Work\(\)\.count\.remote_gen\.aio"),
        (lambda w: w.echo.remote_gen(3), r"does not yield.*call Work\(\)\.echo\.remote\("),
        (lambda w: w.echo.remote_gen.aio(3), r"call Work\(\)\.echo\.remote\.aio\("),
        (lambda w: w.echo(3), r"write Work\(\)\.echo\.remote\(\.\.\.\) or Work\(\)\.echo\.local"),
        (lambda w: w.load(), r"Work\.load is a hook: the container runs it"),
    ],
)
def test_a_method_called_the_wrong_way_says_which_is_right(call: Any, says: str) -> None:
    work = lm.App("wrong", engine="process").cls(Work)("/nowhere")
    with pytest.raises(InvalidError, match=says):
        call(work)  # at once, not only when somebody iterates


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.echo.remote(3),
        lambda model: model.echo.spawn(3),
        lambda model: model.echo.map([3]),
        lambda model: model.echo(3),
    ],
)
def test_a_method_without_an_instance_says_so(call: Any) -> None:
    model = lm.App("wrong", engine="process").cls(Work)
    with pytest.raises(InvalidError, match=r"needs an instance\. Fix: write Work\(\)\.echo"):
        call(model)


def test_a_method_that_does_not_exist_names_those_that_do() -> None:
    work = lm.App("wrong", engine="process").cls(Where)()
    with pytest.raises(AttributeError, match="Where has no method locale; it has local"):
        work.locale.remote()


def test_a_function_says_where_it_can_run() -> None:
    app = lm.App("wrong", engine="process")

    @app.function()
    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(InvalidError, match=r"double\.remote\(\.\.\.\) or double\.local"):
        double(3)
    assert double.local(3) == 6


def test_a_function_can_be_called_in_every_way(site: Site) -> None:
    @site.app.function()
    def double(x: int) -> int:
        return 2 * x

    @site.app.function()
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    assert double.remote(2) == 4
    assert list(double.map([1, 2])) == [2, 4]
    assert list(double.starmap([(1,), (2,)])) == [2, 4]
    assert double.spawn(3).get() == 6
    assert double.for_each([1]) is None
    assert list(count.remote_gen(2)) == [0, 1]
