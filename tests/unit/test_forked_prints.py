"""Printed lines travel together: in their order, at once, and whatever ends the worker."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Prints:
    @lm.method()
    def lines(self, count: int) -> None:
        for number in range(count):
            print(f"line {number}", file=sys.stderr if number % 7 == 0 else sys.stdout)

    @lm.method()
    def items(self, count: int) -> Iterator[int]:
        for number in range(count):
            print("a", number)
            print("b", number)
            yield number

    @lm.method()
    def die(self, how: str) -> None:
        import ctypes
        import signal

        for number in range(5):
            print(f"last {number}")
        if how == "exit":
            os._exit(3)
        elif how == "crash":
            ctypes.string_at(0)
        os.kill(os.getpid(), signal.SIGKILL)

    @lm.method()
    def wait(self, path: str) -> None:
        for number in range(3):
            print(f"before {number}")
        open(path).close()

    @lm.method()
    def fork(self, count: int) -> list[str]:
        import warnings

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number in range(count):
                print(f"a {number}")
                print(f"b {number}")
                if (pid := os.fork()) == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
        return [str(one.message) for one in caught]

    @lm.method()
    def threads(self) -> list[str]:
        for number in range(3):
            print(number)
        return [thread.name for thread in threading.enumerate()]

    @lm.method()
    def handler(self, count: int) -> int:
        """Print, while a signal handler prints as well."""
        import signal

        def shout(*_: object) -> None:
            print("from the handler")

        before = signal.signal(signal.SIGALRM, shout)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            for number in range(count):
                print(f"line {number}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return count


@lm.concurrent(max_inputs=4)
class PrintsAtOnce(Prints):
    """The same on threads."""


@pytest.fixture(scope="module")
def work(engine: ForkEngine) -> Iterator[Forked]:
    with Forked(engine, Prints) as made:
        yield made


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets what is written to either stream."""
    found: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            found.append(text)

        def flush(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.setattr(sys, "stderr", Stream())
    return found


def test_lines_of_both_streams_come_whole_and_in_order(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(monkeypatch)
    work.lines.remote(3000)
    assert "".join(found).splitlines() == [f"line {number}" for number in range(3000)]


def test_lines_come_before_the_items_that_follow_them(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(monkeypatch)
    for number in work.items.remote_gen(100):
        assert "".join(found).splitlines()[: 2 * number + 2][-2:] == [f"a {number}", f"b {number}"]


@pytest.mark.parametrize("how", ["exit", "crash", "kill"])
def test_the_last_lines_of_a_worker_that_dies_are_shown_and_reported_once(
    work: Forked, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    found = written(monkeypatch)
    with pytest.raises(ContainerDied) as caught:
        work.die.remote(how)
    lines = [f"last {number}" for number in range(5)]
    assert all(str(caught.value).count(line) == 1 for line in lines)
    assert [line for line in "".join(found).splitlines() if line.startswith("last")] == lines


def test_lines_are_seen_while_their_method_waits(
    work: Forked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    seen = threading.Event()

    class Stream:
        def write(self, text: str) -> None:
            if "before 2" in text:
                seen.set()

        def flush(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(sys, "stdout", Stream())

    def let_go() -> None:
        seen.wait()
        open(tmp_path / "fifo", "w").close()

    helper = threading.Thread(target=let_go)
    helper.start()
    work.wait.remote(str(tmp_path / "fifo"))
    helper.join()


def test_a_fork_between_lines_repeats_none_and_warns_of_nothing(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(monkeypatch)
    assert work.fork.remote(30) == []
    lines = [f"{letter} {number}" for number in range(30) for letter in "ab"]
    assert "".join(found).splitlines() == lines


def test_the_code_finds_no_thread_that_it_did_not_start(work: Forked) -> None:
    assert work.threads.remote() == ["MainThread"]


def test_a_signal_handler_may_print_between_two_lines(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(monkeypatch)
    assert work.handler.remote(2000) == 2000
    text = "".join(found)
    for number in range(2000):
        assert f"line {number}" in text


def test_calls_at_once_have_all_their_lines(
    engine: ForkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Forked(engine, PrintsAtOnce) as work:
        found = written(monkeypatch)
        calls = [work.lines.spawn(200) for _ in range(4)]
        for call in calls:
            call.get()
        lines = "".join(found).splitlines()
        monkeypatch.undo()
    assert sorted(lines) == sorted(4 * [f"line {number}" for number in range(200)])
