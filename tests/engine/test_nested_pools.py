"""Calls from inside containers are inputs of their pools like any others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import BASE_IMAGE
from engine.work import Site

import lifecycle_magic as lm


def classes() -> tuple[Any, Any, Any]:
    """Make the classes, of code of their own, as a notebook's cell does."""

    class Callee:
        def __init__(self) -> None:
            self.tries = 0

        @lm.method()
        def add(self, x: int) -> int:
            return x + 1

        @lm.method()
        def second_time(self) -> int:
            self.tries += 1
            if self.tries == 1:
                raise LookupError("the first time")
            return self.tries

    class Batches:
        @lm.batched(max_batch_size=4, wait_ms=60_000)
        def sizes(self, xs: list[int]) -> list[int]:
            return [len(xs)] * len(xs)

    class Caller:
        def __init__(self, callee: Any) -> None:
            self.callee = callee

        @lm.method()
        def add(self, x: int) -> int:
            return self.callee.add.remote(x)

        @lm.method()
        def second_time(self) -> int:
            return self.callee.second_time.remote()

        @lm.method()
        def sizes(self, count: int) -> list[int]:
            return list(self.callee.sizes.map(range(count)))

        @lm.method()
        def user_and_add(self, x: int) -> tuple[int, int]:
            return os.getuid(), self.callee.add.remote(x)

    return Callee, Batches, Caller


def test_a_class_without_a_network_calls_others(site_on_each: Site) -> None:
    Callee, _, Caller = classes()
    callee = site_on_each.app.cls(Callee)()
    caller = site_on_each.app.cls(Caller, block_network=True)(callee)
    assert caller.add.remote(1) == 2


def test_retries_repeat_the_inner_call_only(site_on_each: Site) -> None:
    Callee, _, Caller = classes()
    callee = site_on_each.app.cls(Callee, retries=1)()
    assert site_on_each.app.cls(Caller)(callee).second_time.remote() == 2


def test_inputs_from_inside_fill_batches(site_on_each: Site) -> None:
    _, Batches, Caller = classes()
    batches = site_on_each.app.cls(Batches)()
    assert site_on_each.app.cls(Caller)(batches).sizes.remote(4) == [4, 4, 4, 4]


def test_a_build_hook_calls_another_class(site_on_each: Site) -> None:
    Callee, _, _ = classes()
    callee = site_on_each.app.cls(Callee)()

    class Built:
        @lm.build(force=True)
        def bake(self) -> None:
            with open(os.path.expanduser("~/.baked"), "w") as file:
                file.write(str(callee.add.remote(1)))

        @lm.method()
        def baked(self) -> str:
            with open(os.path.expanduser("~/.baked")) as file:
                return file.read()

    assert site_on_each.app.cls(Built)().baked.remote() == "2"


@pytest.mark.docker
def test_a_worker_that_is_the_images_user_calls_others(
    need_docker: object, site: Site, tmp_path: Path
) -> None:
    Callee, _, Caller = classes()
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BASE_IMAGE}\nRUN useradd --create-home --uid 1234 app\nUSER app\n"
    )
    app = lm.App("users", engine="docker")
    image = lm.Image.from_dockerfile(tmp_path / "Dockerfile")
    callee = app.cls(Callee)()
    assert app.cls(Caller, image=image)(callee).user_and_add.remote(1) == (1234, 2)
