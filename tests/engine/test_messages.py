"""Errors that name the cause, the path to it and the fix, on both engines."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError, SerializationError

LOCK = "is a _thread.lock, which can't be pickled. Fix: "


def locked() -> dict[str, list[Any]]:
    return {"k": [threading.Lock()]}


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(5000):
        made = [made]
    return made


def declare(app: lm.App) -> Any:
    @app.cls()
    class Taker:
        def __init__(self, a: Any = None, *, b: Any = None) -> None:
            self.a = a

        @lm.method()
        def take(self, x: Any = None) -> str:
            return "taken"

        @lm.method()
        def returns_lock(self) -> Any:
            return locked()

        @lm.method()
        def yields_lock(self) -> Any:
            yield locked()

        @lm.method()
        def count(self) -> Any:
            yield from range(3)

        @lm.method()
        def reads(self, way: str) -> Any:
            return getattr(builtins, way)()

        @lm.method()
        def sends_lock(self, other: Any) -> Any:
            return other.take.remote(locked())

    return Taker


@pytest.fixture
def taker(site_on_each: Site) -> Any:
    with site_on_each.app.run():
        yield declare(site_on_each.app)


def test_arguments_that_can_not_travel_are_named_with_the_path(taker: Any) -> None:
    one = taker()
    calls: dict[str, Callable[[], Any]] = {
        "argument x=, a dict, can't be sent to the container: x": lambda: one.take.remote(
            x=locked()
        ),
        "argument 1, a dict, can't be sent to the container: argument 1": lambda: one.take.spawn(
            locked()
        ),
        "input 2 of the map: Taker.take: argument 1, a dict": lambda: list(
            one.take.map([1, locked()])
        ),
        "returned a dict, which can't be pickled": one.returns_lock.remote,
        "yielded a dict, which can't be pickled": lambda: list(one.yields_lock.remote_gen()),
        "argument 1, a dict, can't be sent": lambda: one.sends_lock.remote(taker()),
    }
    for said, call in calls.items():
        with pytest.raises(SerializationError) as raised:
            call()
        text = str(raised.value)
        assert said in text
        assert f"['k'][0] {LOCK}" in text or f"['k'][0] {LOCK.partition('.')[0]}" in text
    with pytest.raises(SerializationError, match=r"argument 1 is nested too deeply .*pickled\. F"):
        one.take.remote(deep())
    assert one.take.remote(1) == "taken"


def test_a_value_sent_to_a_generator_is_refused(taker: Any) -> None:
    items = taker().count.remote_gen()
    assert next(items) == 0
    with pytest.raises(InvalidError, match="can't be sent to a generator"):
        items.send(7)
    items = taker().count.remote_gen.aio()

    async def ask() -> None:
        assert await items.asend(None) == 0
        with pytest.raises(InvalidError, match="can't be sent to a generator"):
            await items.asend(7)
        await items.aclose()

    asyncio.run(ask())


@pytest.mark.parametrize(("way", "error"), [("input", EOFError), ("breakpoint", RuntimeError)])
def test_a_method_that_asks_where_no_cell_waits_says_what_to_do(
    taker: Any, way: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"no cell or terminal waits for this call\. Fix: call the"):
        taker().reads.spawn(way).get()


def test_constructor_arguments_that_can_not_travel_are_named_with_the_path(taker: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        taker(1, b=locked())
    assert "argument b=, a dict" in str(raised.value)
    assert f"b['k'][0] {LOCK}" in str(raised.value)
    with pytest.raises(InvalidError, match=r"a is nested too deeply to be pickled\. Fix: "):
        taker(deep())


def test_errors_call_a_function_by_its_name_alone(site_on_each: Site) -> None:
    @site_on_each.app.function(timeout=0.5)
    def answer(how: str) -> None:
        if how == "sleep":
            time.sleep(60)
        elif how == "exit":
            os._exit(4)
        raise StopIteration

    with pytest.raises(lm.exception.MethodTimeout, match=r"^answer took longer than"):
        answer.remote("sleep")
    with pytest.raises(lm.exception.ContainerDied, match=r"^the container of answer exited"):
        answer.remote("exit")
    with pytest.raises(lm.exception.RemoteError, match=r"^answer raised StopIteration"):
        list(answer.map(["raise"]))
    with pytest.raises(SerializationError, match=r"^answer: argument 1"):
        answer.remote(threading.Lock())
    assert repr(answer.spawn("raise")).startswith("<call of answer: ")


def test_functions_of_a_namespace_without_a_name_run_in_containers(site_on_each: Site) -> None:
    space: dict[str, Any] = {}
    exec("def triple(x): return x * 3\nclass Point:\n    def four(self): return 4", space)
    triple, point = space["triple"], space["Point"]
    same = eval("lambda x: x", {"__builtins__": {}})

    @site_on_each.app.cls()
    class Uses:
        @lm.method()
        def go(self) -> Any:
            return triple(same(point().four()))

    with site_on_each.app.run():
        assert Uses().go.remote() == 12


def test_a_module_that_lacks_its_data_file_says_how_to_bring_it(
    site_on_each: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reads_words.py").write_text(
        "from pathlib import Path\nWORDS = (Path(__file__).parent / 'words.txt').read_text()\n"
    )
    (tmp_path / "words.txt").write_text("one two")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reads_words = importlib.import_module("reads_words")

    @site_on_each.app.cls()
    class Reads:
        @lm.method()
        def go(self) -> str:
            return str(reads_words.WORDS)

    with site_on_each.app.run(), pytest.raises(Exception, match=r"words\.txt") as raised:
        Reads().go.remote()
    monkeypatch.delitem(sys.modules, "reads_words")
    said = f"{raised.value}{getattr(raised.value, '__notes__', '')}{raised.value.__cause__}"
    said += str(getattr(raised.value.__cause__, "__notes__", ""))
    assert 'image.add_local_file("words.txt", "/data/words.txt")' in said
    assert "@enter" not in said
