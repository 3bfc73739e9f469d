"""``single_use_containers=True``: a container runs one input, then exits."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from engine.work import Site, Work

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError


def test_each_call_has_a_container_of_its_own_that_exits_after_it(site_on_each: Site) -> None:
    work = site_on_each.instance(single_use_containers=True)
    assert len({work.who.remote() for _ in range(3)}) == 3
    site_on_each.folder.wait("exit", 3)
    assert site_on_each.folder.count("enter") == 3
    with pytest.raises(LookupError, match="no luck"):
        work.fail.remote("no luck")
    site_on_each.folder.wait("exit", 4)
    assert site_on_each.folder.count("enter") == 4


@pytest.mark.process
def test_every_way_to_call_takes_a_new_container(site: Site) -> None:
    work = site.instance(single_use_containers=True, max_containers=2)
    found = list(work.who.map(range(4)))
    found += [work.who.spawn().get(), work.who_async.spawn().get()]
    assert len(set(found)) == 6
    site.folder.wait("exit", 6)
    assert list(work.count.remote_gen(3)) == [0, 1, 2]
    site.folder.wait("exit", 7)
    work.echo.for_each([1, 2])
    site.folder.wait("exit", 9)
    assert site.folder.count("enter") == 9


@pytest.mark.process
def test_another_try_has_another_container(site: Site) -> None:
    work = site.instance(single_use_containers=True, retries=2)
    with pytest.raises(LookupError, match="try 1"):  # what it counts is new each time
        work.fail_first.remote(1, "a")
    assert site.folder.count("tried-a") == 3
    site.folder.wait("exit", 3)


@pytest.mark.process
def test_a_batch_is_one_input(site: Site) -> None:
    class Batches(Work):
        @lm.batched(max_batch_size=3, wait_ms=60_000)
        def ids(self, numbers: list[int]) -> list[str]:
            return [f"{self.id} {number}" for number in numbers]

    work = site.instance(Batches, single_use_containers=True)
    first = lm.gather(*(work.ids.spawn(n) for n in range(3)))
    second = lm.gather(*(work.ids.spawn(n) for n in range(3)))
    assert len({text.split()[0] for text in first + second}) == 2
    site.folder.wait("exit", 2)


@pytest.mark.process
def test_a_request_is_one_input(site: Site) -> None:
    class Pages(Work):
        @lm.asgi_app()
        def page(self) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": self.id.encode()})

            return app

    work: Any = site.instance(Pages, single_use_containers=True)
    found = set()
    for _ in range(2):
        with urllib.request.urlopen(work.page.get_web_url()) as answer:
            found.add(answer.read())
    assert len(found) == 2
    site.folder.wait("exit", 2)


@pytest.mark.process
def test_a_function_starts_afresh_each_time(site: Site) -> None:
    @site.app.function(single_use_containers=True)
    def pid() -> tuple[int, int]:
        import os
        import sys

        sys.__dict__["counted"] = sys.__dict__.get("counted", 0) + 1
        return os.getpid(), sys.__dict__["counted"]

    assert [pid.remote()[1] for _ in range(2)] == [1, 1]


@pytest.mark.process
def test_other_options_make_the_containers_last(site: Site) -> None:
    cls = site.cls(single_use_containers=True)
    work = cls.with_options(single_use_containers=False)(site.folder.path)
    assert work.who.remote() == work.who.remote()


def test_one_input_and_several_at_once_exclude_each_other() -> None:
    @lm.concurrent(max_inputs=2)
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

    with pytest.raises(InvalidError, match="single_use_containers=True and @concurrent"):
        lm.App().cls(Model, single_use_containers=True)
    with pytest.raises(InvalidError, match="single_use_containers=True and @concurrent"):
        lm.App().cls(Model).with_options(single_use_containers=True)  # type: ignore[attr-defined]
