"""Plain calls: ``.remote``, its ``.aio``, ``.local``, live prints, and a connection that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.plain import declare

import lifecycle_magic as lm
from lifecycle_magic.engines.choose import choose
from lifecycle_magic.exception import InputCancelled, WireError
from lifecycle_magic.session import session


@pytest.fixture
def plain(engine_name: str, tmp_path: Path) -> Iterator[Any]:
    if not os.access(tmp_path, os.W_OK):
        pytest.fail("the test's own folder can't be written")
    with lm.App("plain").run() as app:
        yield declare(app, tmp_path)
    session.close("the test is over")


class Listening(io.StringIO):
    """Standard output that acts on each line while it comes."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        super().__init__()
        self._heard = heard

    def write(self, text: str) -> int:
        for line in text.split():
            self._heard(line)
        return super().write(text)


def test_a_print_arrives_while_the_method_still_runs(plain: Any, tmp_path: Path) -> None:
    with contextlib.redirect_stdout(Listening(lambda word: (tmp_path / word).touch())) as out:
        assert plain().say_and_wait.remote("hello") == "hello"  # returns only when it was heard
    assert out.getvalue() == "hello\n"


def test_aio_awaits_sync_and_async_methods(plain: Any) -> None:
    async def main() -> list[int]:
        one = plain()
        return [
            await one.add.remote.aio(1, other=2),
            await one.add_later.remote.aio(3),
            await one.add_later.remote(4),
        ]

    assert asyncio.run(main()) == [3, 4, 5]
    assert plain().add_later.remote(5) == 6


def test_cancelling_the_task_interrupts_the_method_and_spares_the_container(
    plain: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        one = plain()
        await one.add.remote.aio(1)
        task = asyncio.ensure_future(one.wait.remote.aio())
        while not (tmp_path / "waiting").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    [before] = session.current().containers()
    assert plain().add.remote(2) == 3
    assert session.current().containers() == [before]


def test_a_call_that_was_spawned_can_be_cancelled(plain: Any, tmp_path: Path) -> None:
    call = plain().wait.spawn()
    noticed = threading.Event()
    while not (tmp_path / "waiting").exists():
        noticed.wait(0.01)
    call.cancel()
    with pytest.raises(InputCancelled):
        call.get()
    assert plain().add.remote(2) == 3


def test_a_connection_that_breaks_ends_the_call_and_not_the_kernel(plain: Any) -> None:
    with pytest.raises(WireError, match="no frame"):
        plain().babble.remote()
    assert plain().add.remote(2) == 3, "in a new container"


def test_local_enters_once_and_never_exits(plain: Any, tmp_path: Path) -> None:
    one = plain()
    assert one.add.local(1) == 2
    assert one.how_often.local() == 2, "both enter hooks, each once"
    assert asyncio.run(one.add_later.local(1)) == 2
    assert one.how_often.local() == 2
    assert session.current().containers() == [], "nothing was started"
    assert not (tmp_path / "ended").exists()


def test_local_of_an_async_method_enters_on_the_loop_that_runs(plain: Any) -> None:
    async def main() -> tuple[int, int]:
        one = plain()
        return await one.add_later.local(1), one.how_often.local()

    assert asyncio.run(main()) == (2, 2)


def test_auto_falls_back_to_processes_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    engine, told = choose("auto")
    assert engine.name == "process"
    assert "no Docker engine answers" in told
    assert "doctor" in told
    assert len(told) < 100


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(lm.exception.InvalidError, match="write auto, docker, process, swarm, ssh"):
        choose("podman")
