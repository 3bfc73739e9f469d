"""Blocking calls by name, each of which has a connection to itself while it runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engine.other_process import OtherApp, OtherProcess
from engine.work import wait_for

from lifecycle_magic.exception import ContainerDied, InputCancelled, InvalidError, MethodTimeout
from lifecycle_magic.peers.serial import MAX_CONNECTIONS
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.wire.frames import Kind

CODE = """
import os, signal, threading
import lifecycle_magic as lm
from engine.work import Folder

app = lm.App(NAME)
FOLDER = PLACE
VOLUMES = {FOLDER: lm.Volume.from_path(FOLDER)}

@app.cls(volumes=VOLUMES, max_containers=1, timeout=50)
@lm.concurrent(max_inputs=40)
class Wide:
    @lm.method()
    def hold(self, name):
        notes = Folder(FOLDER)
        notes.note(f"began-{name}")
        notes.wait(f"go-{name}")
        return threading.get_ident()

    @lm.batched(max_batch_size=4, wait_ms=1)
    def doubled(self, x):
        return [2 * one for one in x]

@app.cls(volumes=VOLUMES, max_containers=1, timeout=50)
class Narrow:
    @lm.method()
    def echo(self, x):
        return x

    @lm.method()
    def hold(self, name):
        notes = Folder(FOLDER)
        try:
            notes.note(f"began-{name}")
            notes.wait(f"go-{name}")
        except KeyboardInterrupt:
            notes.note(f"interrupted-{name}")
            raise
        return name

    @lm.method()
    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    @lm.method()
    def say(self, count):
        for number in range(count):
            print("line", number)
        return count

@app.cls(timeout=0.2)
class Hasty:
    @lm.method()
    def hang(self):
        threading.Event().wait()

@app.cls(volumes=VOLUMES, retries=2)
class Stubborn:
    @lm.method()
    def third(self):
        notes = Folder(FOLDER)
        notes.note("tried")
        if notes.count("tried") < 3:
            raise LookupError("too early")
        return notes.count("tried")

from lifecycle_magic.session import session
session.current()
"""


class Far(OtherApp):
    """The process that serves `CODE`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CODE)

    def make(self, name: str) -> Any:
        return self.cls(name)()

    @property
    def connections(self) -> int:
        """The number of serial connections of this process."""
        peer = sessions.of_id(self.session)
        assert peer is not None
        return len(peer._serial._all)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
        with Far(tmp_path_factory.mktemp("serial") / "far") as one:
            yield one


def test_calls_one_after_the_other_use_one_connection(far: Far) -> None:
    model = far.make("Narrow")
    assert [model.echo.remote(x) for x in (1, "text", [2], bytes(1 << 20))] == [
        1,
        "text",
        [2],
        bytes(1 << 20),
    ]
    with pytest.raises(InvalidError, match="has no method missing"):
        model.missing.remote(1)
    assert model.say.remote(3) == 3
    assert far.connections == 1


def test_output_comes_before_the_answer_and_in_order(far: Far, capsys: Any) -> None:
    model = far.make("Narrow")
    capsys.readouterr()
    assert model.say.remote(50) == 50
    assert capsys.readouterr().out == "".join(f"line {number}\n" for number in range(50))


def test_threads_that_block_have_connections_up_to_a_bound(far: Far) -> None:
    model = far.make("Wide")
    count = MAX_CONNECTIONS + 4
    with ThreadPoolExecutor(count) as threads:
        running = [threads.submit(model.hold.remote, str(n)) for n in range(count)]
        for n in range(count):
            far.notes.wait(f"began-{n}")
        assert far.connections == MAX_CONNECTIONS
        for n in range(count):
            far.notes.note(f"go-{n}")
        assert len({one.result() for one in running}) == count  # each on a thread of its own
    assert model.doubled.remote(4) == 8


def test_a_call_waits_for_a_slot_and_can_be_interrupted_there(far: Far) -> None:
    model = far.make("Narrow")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(model.hold.remote, "first")
        far.notes.wait("began-first")

        pools = "[p for s in session.current().services.values() for p in s.pools.values()]"
        waiting = f"result = sum(len(pool.waiting) for pool in {pools})"

        def interrupt() -> None:
            wait_for(lambda: far.run(waiting), "a call that waits")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            model.hold.remote("second")
        thread.join()
        wait_for(lambda: not far.run(waiting), "the end of the wait")
        far.notes.note("go-first")
        assert first.result() == "first"
    assert model.echo.remote(3) == 3
    assert not far.notes.count("began-second")


def test_a_handler_of_the_users_own_sees_the_interrupt(far: Far) -> None:
    model = far.make("Narrow")
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:

        def interrupt() -> None:
            far.notes.wait("began-own")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(InputCancelled, match="was cancelled"):
            model.hold.remote("own")
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    far.notes.wait("interrupted-own")


# An interrupt while a connection is opened leaves its socket to the garbage collection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_random_moments_lose_nothing(far: Far) -> None:
    model = far.make("Narrow")
    who = far.run("result = [one.name for one in session.current().containers()]")
    dice = random.Random(7)
    ended = 0
    for number in range(150):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 6e-4))
                got = model.echo.remote(number)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            ended += 1
        else:
            assert got == number
    assert ended
    assert model.echo.remote("after") == "after"
    now = far.run("result = [one.name for one in session.current().containers()]")
    assert set(who) <= set(now)


@pytest.fixture(autouse=True)
def alarms_are_interrupts() -> Iterator[None]:
    """SIGALRM is SIGINT, which a timer can't send itself."""
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGALRM, before)


def test_a_container_that_dies_fails_its_call_alone(far: Far) -> None:
    model = far.make("Narrow")
    for _ in range(2):
        with pytest.raises(ContainerDied, match="Narrow"):
            model.die.remote()
        assert model.echo.remote(1) == 1


def test_timeouts_and_retries_are_those_of_the_class(far: Far) -> None:
    with pytest.raises(MethodTimeout, match=r"longer than timeout=0.2 s"):
        far.make("Hasty").hang.remote()
    assert far.make("Stubborn").third.remote() == 3


def test_a_caller_that_dies_interrupts_the_call_of_each_thread(far: Far, tmp_path: Path) -> None:
    code = f"""
    import threading, lifecycle_magic as lm
    model = lm.Cls.from_name({far.name!r}, "Narrow")()
    model.echo.remote(1)
    threading.Thread(target=model.hold.remote, args=("dead",), daemon=True).start()
    """
    caller = OtherProcess(tmp_path / "caller", code)
    far.notes.wait("began-dead")
    caller.kill()
    caller.close()
    far.notes.wait("interrupted-dead")
    assert far.make("Narrow").echo.remote(1) == 1


def test_a_frame_that_no_caller_sends_ends_the_connection(far: Far) -> None:
    model = far.make("Narrow")
    assert model.echo.remote(1) == 1
    peer = sessions.of_id(far.session)
    assert peer is not None
    for kind, payload in ((Kind.NEXT, b""), (Kind.AGAIN, b"no pickle"), (Kind.ASK, b"no ask")):
        made = peer._serial._open()
        made.send(kind, payload, (), 1)
        assert made.receive() is None
        made.close()
    assert model.echo.remote(2) == 2


def test_a_connection_that_breaks_is_named_and_replaced(far: Far) -> None:
    model = far.make("Narrow")
    peer = sessions.of_id(far.session)
    assert peer is not None
    while far.connections < 3:  # idle ones break as well, and no later call may take them
        assert peer._serial._add()
    assert model.echo.remote(1) == 1
    far.run(
        """
        for one in list(session.current().served_calls.peer_calls.connections):
            if type(one).__name__ == "SerialConnection":
                one.shut_down()
        """
    )
    with pytest.raises(InputCancelled, match=rf"the connection to session {far.session} .*broke"):
        model.echo.remote(2)
    assert model.echo.remote(3) == 3
