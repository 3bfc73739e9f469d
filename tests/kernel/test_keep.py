"""``keep``: the next kernel of a notebook adopts the containers, whatever ended the one before.

`test_keep_paths` has each way in which a kernel can end. Here each sentence of the promise is
tried, most with processes: what differs between the engines is how a container is found.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.harness import (
    CellFailed,
    Diary,
    Kernel,
    OwnKernel,
    own_kernel,
    path_without_bwrap,
    preamble,
    running,
    wait_for,
)
from kernel.kept import count, declare, listed, model

from lifecycle_magic.host.keep_record import find_all

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def nothing_is_kept(state_dir: Path) -> Iterator[None]:
    """End what the last kernel of a test has left, once that is dead."""
    yield
    for record in find_all(state_dir):
        command = [sys.executable, "-m", "lifecycle_magic", "stop", record.container]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


@pytest.fixture
def one(tmp_path: Path, event_loop: None, state_dir: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "one") as kernel:
        yield kernel


@pytest.fixture
def other(tmp_path: Path, event_loop: None, state_dir: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "other") as kernel:
        yield kernel


def test_the_next_kernel_goes_on_with_the_instance(
    one: OwnKernel, other: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(one, engine, diary, "goes-on", model("GoesOn"))
    assert count(one, "GoesOn") == 1
    one.kill()
    if engine == "plain":  # `%load_ext` looks for the sandbox already
        other.run(f"import os; os.environ['PATH'] = {path_without_bwrap()!r}")
    told = other.run("%load_ext lifecycle_magic")
    assert re.search(r"GoesOn \(lm-.*\): kept, \d+ (min|s) left", told), told
    assert re.search(r"GoesOn .* kept, \d+ (min|s) left", listed(other)), listed(other)
    # A comment and another method body are no other state.
    declare(other, engine, diary, "goes-on", "# edited\n" + model("GoesOn", start=50))
    assert count(other, "GoesOn") == 2, "the instance is another one"
    container = other.container("GoesOn")
    other.run("app.stop()")
    assert diary.events() == ["entered", "exit"]
    assert other.describe_end("GoesOn", container)["why"] == "app.stop()"


def test_a_changed_state_starts_a_new_container_first(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "changed", model("Changed"))
    assert count(one, "Changed") == 1
    before = one.container("Changed")
    one.kill()
    declare(other, "process", diary, "changed", model("Changed", env={"A": "1"}))
    assert count(other, "Changed") == 1
    diary.wait("exit")
    assert diary.events() == ["entered", "entered", "exit"]
    before.wait_gone(state_of(other))
    end = other.describe_end("Changed", before)
    assert (end["state"], end["why"]) == ("exited", "it was replaced by new code")


def test_where_both_do_not_fit_the_old_container_exits_first(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    more = {"memory": 1 << 30}  # a pebibyte of MiB: two of them fit into no machine
    declare(one, "process", diary, "large", model("Large", **more))
    assert count(one, "Large") == 1
    one.kill()
    declare(other, "process", diary, "large", model("Large", env={"A": "1"}, **more))
    told = other.run(
        """
        from lifecycle_magic.session import session as _session
        _told = []
        _session.current().bus.subscribe(_told.append)
        print(Large().count.remote())
        print([one.text for one in _told if "runs its exit first" in getattr(one, "text", "")])
        """,
        timeout=120,
    )
    assert "both may use 2147483648 MiB of memory" in told
    assert diary.events() == ["entered", "exit", "entered"]


def test_nobody_comes_back(one: OwnKernel, other: OwnKernel, diary: Diary) -> None:
    declare(one, "process", diary, "nobody", model("Nobody", keep="0.5s"))
    assert count(one, "Nobody") == 1
    container = one.container("Nobody")
    one.kill()
    diary.wait("exit")
    container.wait_gone(state_of(other))
    end = other.describe_end("Nobody", container)
    assert (end["state"], end["why"]) == ("exited", "no kernel came back within keep=0.5 s")


def test_an_idle_container_is_scaled_down_while_it_is_kept(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "idle", model("Idle", scaledown_window=1))
    assert count(one, "Idle") == 1
    container = one.container("Idle")
    one.kill()
    diary.wait("exit")
    container.wait_gone(state_of(other))
    assert other.describe_end("Idle", container)["why"] == "it was idle for scaledown_window=1 s"


def test_a_running_call_finishes_and_its_result_is_dropped(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "busy", model("Busy"))
    one.begin("Busy().slow.remote()")
    diary.wait("slow")
    one.kill()
    assert "kept, finishing a call" in listed(other)
    declare(other, "process", diary, "busy", model("Busy"))
    cell = other.begin("print(Busy().count.remote())")
    assert diary.events() == ["entered", "slow"]
    (diary.folder / "go").touch()
    assert other.outcome(cell).strip() == "101", "the call has set the number to 100"
    assert diary.events() == ["entered", "slow", "slow done"]
    other.run("app.stop()")


def test_an_interrupted_wait_for_a_running_call_leaves_the_container_to_the_next_try(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "again", model("Again"))
    one.begin("Again().slow.remote()")
    diary.wait("slow")
    one.kill()
    declare(other, "process", diary, "again", model("Again"))
    cell = other.begin(
        """
        from lifecycle_magic.session import session as _session
        _session.current().bus.subscribe(
            lambda event: "waiting for a call" in getattr(event, "text", "") and note("waits")
        )
        Again().count.remote()
        """
    )
    diary.wait("waits")
    other.interrupt()
    with pytest.raises(CellFailed):
        other.outcome(cell)
    (diary.folder / "go").touch()
    diary.wait("slow done")
    assert count(other, "Again") == 101
    other.run("app.stop()")
    assert diary.events().count("entered") == 1


def test_two_kernels_that_come_at_once_get_it_once(
    one: OwnKernel, other: OwnKernel, diary: Diary, tmp_path: Path
) -> None:
    declare(one, "process", diary, "race", model("Race"))
    assert count(one, "Race") == 1
    one.kill()
    with own_kernel(tmp_path / "third") as third:
        for kernel in (other, third):
            declare(kernel, "process", diary, "race", model("Race"))
        cells = [
            (kernel, kernel.begin("print(Race().count.remote())")) for kernel in (other, third)
        ]
        counts = sorted(int(kernel.outcome(cell, timeout=120)) for kernel, cell in cells)
        assert counts == [1, 2]
        for kernel in (other, third):
            kernel.run("app.stop()")
    assert sorted(diary.events()) == ["entered", "entered", "exit", "exit"]


@pytest.mark.parametrize("notebook", ["same", "another"])
def test_another_notebook_gets_nothing_and_neither_while_the_kernel_lives(
    one: OwnKernel, other: OwnKernel, diary: Diary, notebook: str
) -> None:
    declare(one, "process", diary, "same", model("Own"))
    assert count(one, "Own") == 1
    if notebook == "another":
        one.kill()
    declare(other, "process", diary, notebook, model("Own"))
    assert count(other, "Own") == 1
    for kernel in (one, other):
        if running(kernel.pid):
            kernel.run("app.stop()")
    if notebook == "another":
        subprocess.run(
            [sys.executable, "-m", "lifecycle_magic", "stop", "Own"],
            check=True,
            capture_output=True,
        )
    assert sorted(diary.events()) == ["entered", "entered", "exit", "exit"]


STOPPED = {
    "%unload_ext": "%load_ext lifecycle_magic\n%unload_ext lifecycle_magic",
    "%lifecycle stop": "%load_ext lifecycle_magic\n%lifecycle stop",
    "app.stop()": "app.stop()",
    "with app.run()": "with app.run(): Ended().count.remote()",
}


def test_what_stops_a_class_stops_it_although_it_has_keep(one: OwnKernel, diary: Diary) -> None:
    for number, (name, stop) in enumerate(STOPPED.items(), 1):
        declare(one, "process", diary, "ended", model("Ended"))
        assert count(one, "Ended") == 1, name
        one.run(stop)
        assert diary.events() == ["entered", "exit"] * number, name
    declare(one, "process", diary, "ended", model("Ended"))
    assert count(one, "Ended") == 1
    one.container("Ended").stop()
    diary.wait("exit", len(STOPPED) + 1)


BY_PANEL = """
from lifecycle_magic.session import session as _session
from lifecycle_magic.ui.panel.feed import Feed
_state = {}
_feed = Feed(_session.current(), _state.update)
_wait = time.monotonic() + 60
while not _state.get("kept"):
    _feed.look()
    assert time.monotonic() < _wait, _state
    time.sleep(0.01)
[_one] = _state["kept"]
print(_one["cls"], _one["engine"], _one["notebook"], 0 < _one["ends"] - time.time() < 120)
_feed.do("1", "stop", _one["name"]).join()
while _state["kept"]:
    _feed.look()
    assert time.monotonic() < _wait, _state
    time.sleep(0.01)
_feed.close()
print([_one["text"] for _one in _state["notices"]])
"""


@pytest.mark.parametrize(
    "by", ["%lifecycle stop", "app.stop()", "lifecycle-magic stop", "docker stop", "the panel"]
)
def test_kept_containers_end_at_once_when_they_are_stopped(
    one: OwnKernel, other: OwnKernel, diary: Diary, by: str
) -> None:
    declare(one, "process", diary, "at-once", model("AtOnce"))
    assert count(one, "AtOnce") == 1
    container = one.container("AtOnce")
    one.kill()
    if by == "lifecycle-magic stop":
        done = subprocess.run(
            [sys.executable, "-m", "lifecycle_magic", "stop", "AtOnce"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"AtOnce  exited .*\n +close\(\)  ok", done.stdout), done.stdout
    elif by == "docker stop":
        container.stop()
    elif by == "the panel":
        told = other.run("import time\n" + BY_PANEL).splitlines()
        assert told == ["AtOnce process notebook /notebooks/at-once.ipynb True", "[]"]
    else:
        if by == "%lifecycle stop":  # app.stop() needs neither the extension nor a call before
            other.run("%load_ext lifecycle_magic")
        cell = model("AtOnce") if by == "app.stop()" else ""
        declare(other, "process", diary, "at-once", cell)
        other.run(by)
    diary.wait("exit")
    container.wait_gone(state_of(other))
    why = other.describe_end("AtOnce", container)["why"]
    named = {
        "docker stop": "it was stopped from outside (SIGTERM)",
        "the panel": "stopped in the panel",
    }
    assert why == named.get(by, by)
    assert diary.events() == ["entered", "exit"]


def test_a_kept_container_that_dies_is_reported_like_any_other(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "dies", model("Dies"))
    assert count(one, "Dies") == 1
    container = one.container("Dies")
    one.kill()
    container.kill()
    wait_for(lambda: not container.processes(), "the end of its processes")
    declare(other, "process", diary, "dies", model("Dies"))
    assert count(other, "Dies") == 1
    assert other.describe_end("Dies", container)["state"] == "failed"
    other.run("app.stop()")


SEVERAL = """
@app.cls(keep=120, min_containers=2, max_containers=2, **options)
@lm.concurrent(max_inputs=3)
class Several(Base):
    who: str = lm.parameter(default="me")

    @lm.method()
    async def pids(self):
        return self.who, os.getpid(), time.time_ns()

    @lm.method()
    def numbers(self):
        for number in range(3):
            yield number

    @lm.exit()
    def close(self):
        note("exit")
"""

INSTANCES = """
from lifecycle_magic.session import session as _session
print(Several().pids.remote().get()[0], Several(who="you").pids.remote().get()[0])
wait = time.monotonic() + 60
while sum(c.state.value == "idle" for c in _session.current().containers()) < 4:
    assert time.monotonic() < wait
    time.sleep(0.01)
print(sorted(c.name for c in _session.current().containers()))
"""


def test_every_pool_and_container_is_adopted(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "several", SEVERAL)
    before = one.run(INSTANCES, timeout=120)
    assert before.startswith("me you\n")
    one.run("half = Several().numbers.remote_gen(); next(half)")
    one.kill()
    declare(other, "process", diary, "several", SEVERAL)
    assert other.run(INSTANCES, timeout=120) == before
    assert diary.events() == ["entered"] * 4
    assert other.run("print(list(Several().numbers.remote_gen()))").strip() == "[0, 1, 2]"
    other.run("app.stop()")
    assert diary.events() == ["entered"] * 4 + ["exit"] * 4


OUTER = """
@app.cls(**options)
class Inner(Base):
    @lm.method()
    def add(self, x):
        return x + 1

@app.cls(keep=120, **options)
class Outer(Base):
    @lm.method()
    def twice(self, x):
        print("twice", x)
        return Inner().add.remote(Inner().add.remote(x))
"""


def test_an_adopted_container_calls_and_prints_by_way_of_the_new_kernel(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    for kernel in (one, other):
        declare(kernel, "process", diary, "nested", OUTER)
        assert kernel.run("print(Outer().twice.remote(5))", timeout=120).split() == [
            "twice",
            "5",
            "7",
        ]
        if kernel is one:
            kernel.kill()
    # Inner of both kernels, and one Outer
    assert diary.events() == ["entered"] * 3
    other.run("app.stop()")


WEB = """
import asyncio

@app.cls(keep=120, **options)
@lm.concurrent(max_inputs=4)
class Site(Base):
    @lm.method()
    def counted(self):
        self.n = getattr(self, "n", 0) + 1
        return self.n

    @lm.asgi_app()
    def pages(self):
        async def site(scope, receive, send):
            if scope["type"] != "http":
                return
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] == "/endless":
                note("endless")
                try:
                    while True:
                        await send({"type": "http.response.body", "body": b"x", "more_body": True})
                        await asyncio.sleep(0.01)
                finally:
                    note("endless is over")
            await send({"type": "http.response.body", "body": b"page"})
        return site
"""

READ = """
import urllib.request
url = Site().pages.get_web_url()
print(urllib.request.urlopen(url + "/", timeout=30).read().decode())
"""


def test_web_requests_end_with_their_clients_and_new_ones_are_answered(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "web", WEB)
    assert one.run("print(Site().counted.remote())\n" + READ, timeout=120).split() == ["1", "page"]
    one.begin("urllib.request.urlopen(url + '/endless').read()")
    diary.wait("endless")
    one.kill()
    declare(other, "process", diary, "web", WEB)
    assert other.run("print(Site().counted.remote())\n" + READ, timeout=120).split() == [
        "2",
        "page",
    ]
    assert diary.events() == ["entered", "endless", "endless is over"]
    other.run("app.stop()")


ASKS = """
@app.cls(keep=120, **options)
class Asks(Base):
    @lm.method()
    def name(self):
        note("asks")
        try:
            return input("name? ")
        except BaseException as error:
            note(type(error).__name__)
            raise
"""


def test_a_prompt_ends_with_the_kernel_that_shows_it(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "asks", ASKS)
    one.client.execute("Asks().name.remote()", allow_stdin=True)
    diary.wait("asks")
    one.kill()
    declare(other, "process", diary, "asks", ASKS)
    talk = other.talk("print(Asks().name.remote())", "Ada")
    assert talk.printed.strip() == "Ada"
    assert diary.events()[0] == "entered"
    assert diary.events().count("entered") == 1
    other.run("app.stop()")


def test_a_deployment_that_was_killed_goes_on_with_its_containers(
    other: OwnKernel, diary: Diary, tmp_path: Path
) -> None:
    script = tmp_path / "served.py"
    script.write_text(preamble("process", diary) + 'app = lm.App("served")\n' + model("Served"))
    command = [sys.executable, "-m", "lifecycle_magic"]

    def deploy() -> int:
        done = subprocess.run(
            [*command, "deploy", str(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = re.search(r"process (\d+)", done.stdout)
        assert found is not None
        return int(found[1])

    model_of = "lm.Cls.from_name('served', 'Served')()"
    call = f"import lifecycle_magic as lm; print({model_of}.count.remote())"
    try:
        pid = deploy()
        assert other.run(call).strip() == "1"
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not running(pid), "the end of the deployment")
        deploy()
        assert other.run(call).strip() == "2"
    finally:
        subprocess.run([*command, "stop", "served"], capture_output=True, check=False)
    assert diary.events() == ["entered", "exit"]


def test_a_container_of_another_release_is_listed_and_stopped_and_not_adopted(
    one: OwnKernel, other: OwnKernel, diary: Diary
) -> None:
    declare(one, "process", diary, "upgrade", model("Upgrade"))
    assert count(one, "Upgrade") == 1
    container = one.container("Upgrade")
    one.kill()
    path = container.folder / f"keep-{container.name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "protocol": 1}))
    assert re.search(r"Upgrade .* kept, \d+ (min|s) left", listed(other)), listed(other)
    declare(other, "process", diary, "upgrade", model("Upgrade"))
    assert count(other, "Upgrade") == 1
    assert diary.events() == ["entered", "entered"]
    command = [sys.executable, "-m", "lifecycle_magic", "stop", container.name]
    subprocess.run(command, check=True, capture_output=True)
    assert diary.events() == ["entered", "entered", "exit"]
    other.run("app.stop()")


def state_of(kernel: Kernel) -> Path:
    return Path(kernel.run("import os; print(os.environ['LIFECYCLE_MAGIC_STATE'])").strip())
