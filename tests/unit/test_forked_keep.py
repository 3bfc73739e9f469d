"""A container without a kernel: what it does meanwhile, who may ask it what, and its adoption.

The kernel's end is played by `Container.leave`, which ends all connections as an exit does. The
supervisor and the worker are real.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.container import adoption, kept
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.control import KeepTerms
from lifecycle_magic.exception import EngineError, InputCancelled
from lifecycle_magic.guest import keeping
from lifecycle_magic.handles.methods import Method
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.wire import hello
from lifecycle_magic.wire.messages import Adopt, Adopted

TOKEN = "the token of this container"
PATIENCE = 20.0


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    one = ForkEngine()
    yield one
    one.close()


class Counter:
    @lm.enter()
    def load(self) -> None:
        self.n = 0
        self.closed = 0

    @lm.method()
    def count(self) -> tuple[int, int]:
        self.n += 1
        return self.n, os.getpid()

    @lm.method()
    def numbers(self) -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            self.closed += 1

    @lm.method()
    def has_closed(self) -> int:
        return self.closed

    @lm.method()
    def wait(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.005)
        self.n += 100


def terms(seconds: float = 60.0, **more: Any) -> KeepTerms:
    return KeepTerms(**{"token": TOKEN, "seconds": seconds, "idle": None, "running": None, **more})


def leave(forked: Forked, given: KeepTerms | None = None) -> Container:
    """End the connections to the one container of a class, as the kernel's exit does."""
    [container] = forked.alive()
    container.keep(given or terms())
    wait_for(lambda: (container.plan.launch.run_dir / keeping.SOCKET).exists())
    container.leave()
    return container


def record(container: Container, token: str = TOKEN) -> KeepRecord:
    texts = ("cls", "key", "notebook", "engine", "state", "image", "python", "session")
    return KeepRecord(
        **dict.fromkeys(texts, ""),
        protocol=0,
        token=token,
        keep=60.0,
        grace=10.0,
        memory=None,
        gpu=None,
        owner=Owner(1, "", ""),
        run_dir=container.plan.launch.run_dir,
    )


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


class Next:
    """The pool of the next kernel, with the adopted container."""

    def __init__(self, forked: Forked, before: Container) -> None:
        assert before.id is not None
        self.id, self._forked = before.id, forked
        plan = dataclasses.replace(before.plan, adopted=True)
        events = forked.events.append
        self.container = Container(
            plan, before.engine, forked.event_loop, events, lambda one: self.pool.record_exit(one)
        )
        self.container.wake = lambda: self._wake(before)
        self.facts: Adopted = adoption.adopt(self.container, Adopt(None, "next", False))
        forked.made.append(self.container)

        def refuse(_: object) -> Container:
            raise AssertionError("a second container is started")

        self.pool = Pool("Next", refuse, forked.event_loop, limits=forked.pool.limits)
        assert self.container.become_warm()
        forked.more_pools.append(self.pool)
        self.pool.take_in(self.container)

    def _wake(self, before: Container) -> str:
        kept.request_adoption(record(before), PATIENCE, threading.Event())
        return self.id

    def __getattr__(self, name: str) -> Method:
        method = self._forked.spec.methods[name]
        return Method(name, lambda: method, name, lambda: self.pool, object, object)


@pytest.mark.parametrize("times", [1, 3])
def test_the_instance_goes_on_with_its_state(engine: ForkEngine, times: int) -> None:
    with Forked(engine, Counter) as counter:
        first, pid = counter.count.remote()
        assert first == 1
        container = leave(counter)
        for number in range(times):
            after = Next(counter, container)
            assert after.count.remote() == (number + 2, pid)
            container = after.container
            if number < times - 1:
                container.leave()  # before it has said anything of ``keep``


def test_a_generator_that_nobody_reads_any_more_ends(engine: ForkEngine) -> None:
    with Forked(engine, Counter) as counter:
        items = counter.numbers.remote_gen()
        assert next(items) == 0
        container = leave(counter)
        items.close()
        after = Next(counter, container)
        assert after.has_closed.remote() == 1


def test_a_running_call_finishes_before_the_adoption(engine: ForkEngine, tmp_path: Path) -> None:
    with Forked(engine, Counter) as counter:
        counter.count.remote()
        call = counter.wait.spawn(str(tmp_path / "go"))
        wait_for(lambda: any(one.running for one in counter.alive()))
        container = leave(counter)
        with pytest.raises(InputCancelled):
            call.get(PATIENCE)
        wait_for(lambda: (found := kept.status(record(container))) and found.running == 1)
        threading.Timer(0.05, (tmp_path / "go").touch).start()
        assert Next(counter, container).count.remote()[0] == 102


def test_a_wait_for_a_running_call_can_be_given_up(engine: ForkEngine, tmp_path: Path) -> None:
    with Forked(engine, Counter) as counter:
        call = counter.wait.spawn(str(tmp_path / "go"))
        wait_for(lambda: any(one.running for one in counter.alive()))
        container = leave(counter)
        with pytest.raises(InputCancelled):
            call.get(PATIENCE)
        given_up = threading.Event()
        given_up.set()
        with pytest.raises(EngineError, match="still runs a call of the kernel before"):
            kept.request_adoption(record(container), PATIENCE, given_up)
        (tmp_path / "go").touch()
        assert kept.stop(record(container), "the test is over")


class Ahead:
    @lm.enter()
    def load(self) -> None:
        self.seen: list[int] = []

    @lm.method()
    def see(self, number: int) -> None:
        self.seen.append(number)
        time.sleep(0.02)

    @lm.method()
    def all(self) -> list[int]:
        return self.seen


def test_inputs_that_were_sent_ahead_do_not_begin(engine: ForkEngine) -> None:
    with Forked(engine, Ahead) as ahead:
        mapped = threading.Thread(target=lambda: _ignore(lambda: list(ahead.see.map(range(500)))))
        mapped.start()
        wait_for(lambda: ahead.alive() and ahead.alive()[0].calls > 2)
        container = leave(ahead)
        ahead.pool.close("the kernel is gone")
        after = Next(ahead, container)
        seen = after.all.remote()
        assert seen == list(range(len(seen)))
        assert len(seen) < 250
        assert after.all.remote() == seen, "nothing goes on by itself"
        mapped.join(PATIENCE)


def _ignore(run: Callable[[], object]) -> None:
    try:
        run()
    except Exception:
        return


@lm.concurrent(max_inputs=4)
class Together:
    @lm.enter()
    async def load(self) -> None:
        self.ticks = 0
        self.task = asyncio.create_task(self.tick())

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.ticks += 1

    @lm.method()
    async def ticked(self) -> int:
        return self.ticks

    @lm.method()
    async def stream(self) -> AsyncIterator[int]:
        for number in range(1000):
            yield number

    @lm.method()
    def pid(self) -> int:
        return os.getpid()


def test_all_lanes_of_a_concurrent_class_go_on(engine: ForkEngine) -> None:
    with Forked(engine, Together) as together:
        pid = together.pid.remote()
        half = together.stream.remote_gen()
        assert next(half) == 0
        before = together.ticked.remote()
        container = leave(together)
        half.close()
        wait_for(lambda: (found := kept.status(record(container))) and found.running == 0)
        time.sleep(0.05)  # its task runs meanwhile, as in any process
        after = Next(together, container)
        assert list(after.pid.map([()] * 0)) == []
        assert [call.get() for call in [after.pid.spawn() for _ in range(20)]] == [pid] * 20
        assert after.ticked.remote() > before + 2


def test_the_wait_ends_with_exit_and_says_why(engine: ForkEngine) -> None:
    with Forked(engine, Counter) as counter:
        counter.count.remote()
        container = leave(counter, terms(0.2))
        report = wait_for(lambda: Report.from_run_folder(container.plan.launch.run_dir))
        assert report.in_order
        assert report.why == "no kernel came back within keep=0.2 s"


def test_a_call_that_does_not_end_ends_the_wait(engine: ForkEngine, tmp_path: Path) -> None:
    with Forked(engine, Counter) as counter:
        call = counter.wait.spawn(str(tmp_path / "never"))
        wait_for(lambda: any(one.running for one in counter.alive()))
        container = leave(counter, terms(running=0.3))
        with pytest.raises(InputCancelled):
            call.get(PATIENCE)
        report = wait_for(lambda: Report.from_run_folder(container.plan.launch.run_dir))
        assert report.why == "the call of a kernel that has exited did not end within 0.3 s"


# --- who may ask ------------------------------------------------------------------------------


def ask(container: Container, data: bytes) -> bytes:
    """What the supervisor answers to these bytes, until it closes the connection."""
    with hello.dial(f"unix:{container.plan.launch.run_dir / keeping.SOCKET}") as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while more := sock.recv(4096):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            return b""
        return answer


REQUESTS = [
    b"",
    b"\n",
    b"{}\n",
    b"[]\n",
    b"not json\n",
    b"[" * 4000 + b"\n",
    b"x" * 100_000,
    json.dumps({"do": "stop", "token": "another"}).encode() + b"\n",
    json.dumps({"do": "adopt", "token": None}).encode() + b"\n",
    json.dumps({"do": "adopt"}).encode() + b"\n",
    json.dumps({"do": "status", "token": "\ud800"}).encode() + b"\n",
    json.dumps({"do": ["stop"], "token": TOKEN}).encode() + b"\n",
    json.dumps({"do": "status", "token": TOKEN}).encode(),  # without an end
]


def test_strangers_neither_adopt_nor_stop_a_kept_container(engine: ForkEngine) -> None:
    with Forked(engine, Counter) as counter:
        counter.count.remote()
        container = leave(counter)
        for request in REQUESTS:
            assert b'"ok": true' not in ask(container, request), request
        silent = [
            hello.dial(f"unix:{container.plan.launch.run_dir / keeping.SOCKET}")
            for _ in range(3 * keeping.MAX_REQUESTS)
        ]
        assert kept.status(record(container, "another")) is None
        found = kept.status(record(container))
        assert found is not None
        assert found.left is not None
        assert 0 < found.left <= 60
        for sock in silent:
            sock.close()
        assert Next(counter, container).count.remote()[0] == 2


def test_a_container_with_a_kernel_is_neither_adopted_nor_stopped(engine: ForkEngine) -> None:
    with Forked(engine, Counter) as counter:
        counter.count.remote()
        [container] = counter.alive()
        container.keep(terms())
        wait_for(lambda: (container.plan.launch.run_dir / keeping.SOCKET).exists())
        assert kept.status(record(container)) is None
        with pytest.raises(EngineError, match="a kernel uses it"):
            kept.request_adoption(record(container), PATIENCE, threading.Event())
        assert kept.stop(record(container), "no")
        assert counter.count.remote()[0] == 2


@pytest.mark.parametrize("step", ["nothing", "no boot.json", "no listener", "it closes", "a lie"])
def test_a_kernel_that_dies_while_it_adopts_leaves_the_container_waiting(
    engine: ForkEngine, step: str
) -> None:
    with Forked(engine, Counter) as counter:
        counter.count.remote()
        container = leave(counter)
        run_dir = container.plan.launch.run_dir
        listener = None
        if step in ("it closes", "a lie"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(run_dir / "sock"))
            listener.listen()
        if step not in ("nothing", "no boot.json"):
            boot = hello.BootFile(f"unix:{run_dir}/sock", "t", container.name, 1, 10.0)
            (boot if step != "a lie" else boot._replace(channels=7)).write(
                str(run_dir / "boot.json")
            )
        if step != "nothing":
            kept.request_adoption(record(container), PATIENCE, threading.Event())
        if step == "it closes":
            assert listener is not None
            listener.accept()[0].close()
        if listener is not None:
            listener.close()
        after = wait_for(lambda: _adopted(counter, container))
        assert after.count.remote()[0] == 2


def _adopted(forked: Forked, container: Container) -> Next | None:
    try:
        return Next(forked, container)
    except EngineError:
        return None  # the supervisor still looks for the kernel that has died
