"""What containers take of the kernel and of the machine: nothing that outlives them.

``LIFECYCLE_MAGIC_CYCLES`` says how often each is started and stopped.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import answering
import docker
import docker.errors
import pytest
from engine.work import Site, wait_for

from lifecycle_magic.engines.docker import address
from lifecycle_magic.session import session
from lifecycle_magic.wire import descriptors

CYCLES = int(os.environ.get("LIFECYCLE_MAGIC_CYCLES", 4))


def open_files() -> dict[int, str]:
    """The open descriptors of this process and what each leads to, but for the few connections to
    an engine that are kept, and the reserve: those may be opened again under another number.
    """
    links = {}
    kept = {*(sock.fileno() for sock in address.open_sockets()), *descriptors._reserve}
    for number in set(map(int, os.listdir("/proc/self/fd"))) - kept:
        with contextlib.suppress(OSError):
            links[number] = os.readlink(f"/proc/self/fd/{number}")
    return links


@pytest.mark.slow
def test_a_container_that_is_gone_holds_no_descriptor(site_on_each: Site) -> None:
    work = site_on_each.instance(max_containers=2, scaledown_window=60)

    def cycle() -> None:
        assert list(work.echo.map([1, 2, 3])) == [1, 2, 3]
        work.echo.spawn(bytearray(1 << 20)).get()
        site_on_each.app.stop()

    cycle()  # connections to the engine, and what is made once
    wait_for(lambda: not starting(), "the end of the first starts")
    before = open_files()
    gc.disable()  # what only the collector would close counts
    try:
        for _ in range(CYCLES):
            cycle()
        wait_for(lambda: not opened_since(before), f"the end of {opened_since(before)}")
    finally:
        gc.enable()


def opened_since(before: dict[int, str]) -> dict[int, str]:
    return {number: link for number, link in open_files().items() if number not in before}


def threads() -> Counter[str]:
    """The threads of this process, but for the few that remove containers: they are kept, and
    another one starts whenever two removals fall together.
    """
    names = (thread.name for thread in threading.enumerate())
    return Counter(name for name in names if not name.startswith("lifecycle-remove"))


def starting() -> list[str]:
    """Return the threads that start containers: each holds descriptors until it has ended."""
    return [name for name in threads() if name.endswith("-start")]


def processes(mark: str) -> list[str]:
    """Return the processes of the machine that have ``mark`` in their command."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in (command := Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.append(f"{pid} {command!r}")
    return found


def folders(root: Path) -> Counter[str]:
    """Return what lies in the state folder's own folders, a level deep."""
    return Counter(
        str(path)
        for kind in ("run/*", "instances", "guest", "images", "venvs")
        for folder in root.glob(kind)
        for path in folder.iterdir()
    )


def in_docker() -> list[str]:
    """Return the containers of this session that the engine has."""
    label = f"lifecycle-magic.session={session.current().id}"
    with answering.client() as client:
        if isinstance(client, str):
            return []
        found = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return [str(one.name) for one in found]


@pytest.mark.slow
@pytest.mark.timeout(120 + 6 * CYCLES)
def test_cycles_of_start_and_stop_leave_every_count_where_it_was(
    site_on_each: Site, state_dir: Path
) -> None:
    work = site_on_each.instance(max_containers=2, scaledown_window=60)

    def cycle() -> None:
        assert list(work.echo.map([1, 2, 3])) == [1, 2, 3]
        assert work.echo.spawn(5).get() == 5
        containers = session.current().containers()
        site_on_each.app.stop()
        session.wait_gone(containers)

    def counts() -> dict[str, Counter[str]]:
        return {
            # Without the numbers: what is kept open may be opened again.
            "descriptors": Counter(re.sub(r"\d+", "#", link) for link in open_files().values()),
            "threads": threads(),
            "processes": Counter(processes(str(state_dir))),
            "folders": folders(state_dir),
            "containers": Counter(in_docker()),
        }

    def left() -> dict[str, Counter[str]]:
        """What is there now and was not before. Of earlier tests something may end meanwhile."""
        return {kind: new for kind, now in counts().items() if (new := now - before[kind])}

    earlier = set(processes(str(state_dir)))  # of other tests
    cycle()
    cycle()  # what is made once, and by the second start

    def running() -> list[str]:
        """What of the first containers has not ended."""
        new = set(processes(str(state_dir))) - earlier
        return [*in_docker(), *new, *starting()]

    with contextlib.suppress(AssertionError):
        wait_for(lambda: not running(), "the first ends")
    assert running() == []
    gc.collect()
    before = counts()
    gc.disable()  # what only the collector would close counts
    try:
        for _ in range(CYCLES):
            cycle()
        # Keepers and folders end a moment later, and the reader of a spawned call closes its slot.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not left(), "nothing more than before")
        assert not left()
    finally:
        gc.enable()


BUILT = """
    import lifecycle_magic as lm

    app = lm.App("built", engine="docker")

    @app.cls(image=lm.Image.debian_slim().env({"LM_MARK": "%s"}))
    class Built:
        @lm.build()
        def download(self):
            open("/opt/file", "w").close()

        @lm.method()
        def hello(self):
            return 1
"""


def images_with(mark: str, since: float) -> list[str]:
    """Return the engine's images, those without a name included, whose variables have ``mark``."""
    with answering.client() as client:
        assert not isinstance(client, str)
        found = []
        for one in client.api.images(all=True):
            with contextlib.suppress(docker.errors.ImageNotFound):  # of another test
                if one["Created"] < since - 1:
                    continue
                config = client.api.inspect_image(one["Id"])["Config"]
                if f"LM_MARK={mark}" in (config.get("Env") or []):
                    found.append(one["Id"])
    return sorted(found)


@pytest.mark.slow
@pytest.mark.docker
def test_cycles_leave_the_engine_one_set_of_images(need_docker: docker.DockerClient) -> None:
    mark, began = uuid.uuid4().hex, time.time()

    def cycle() -> None:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(textwrap.dedent(BUILT % mark), space)
        assert space["Built"]().hello.remote() == 1
        containers = session.current().containers()
        space["app"].stop()
        session.wait_gone(containers)

    cycle()
    first = images_with(mark, began)
    assert first
    try:
        for _ in range(CYCLES):
            cycle()
        assert images_with(mark, began) == first
        wait_for(lambda: not in_docker(), "the removal of the last container")
    finally:
        for one in first:
            with contextlib.suppress(docker.errors.APIError):
                need_docker.images.remove(one, force=True)


@pytest.mark.slow
@pytest.mark.process
def test_memory_and_descriptors_stay_over_calls_connections_and_restarts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.steady", "--calls=1000", "--connections=100"]
    command += ["--restarts=6", f"--plot={tmp_path / 'steady.svg'}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    found = re.findall(r"([\d.]+) MiB, (\d+) descriptors", done.stdout)
    assert len(found) == 6, done.stdout
    memory = [float(mib) for mib, _ in found]
    descriptors = [int(count) for _, count in found]
    assert max(memory) - memory[0] < 8, done.stdout
    assert max(descriptors) - min(descriptors) <= 3, done.stdout  # a connection that is closing
    assert "<path" in (tmp_path / "steady.svg").read_text()
