"""A class on an engine elsewhere, over TLS and over ssh, beside an echo over the same stream.

The other machine is that of the tests: a namespace with an engine and an ssh server. It shares this
machine's processors, and its network is as fast as memory. Without root there is none.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.figures import Bound, Figures, Run, Sample, alternate, timed
from benchmarks.plan import Plan

if TYPE_CHECKING:
    from far_machine import FarMachine

    from lifecycle_magic.engines.relay.engine_http import Attached

ROUNDS = 5
CALLS = 300
WAYS = ("tcp", "ssh")
NAMES = {"tcp": "TLS", "ssh": "ssh"}
TESTS = Path(__file__).parents[1] / "tests"
EXIT_SECONDS = 60.0

_ECHO = "import os\nwhile data := os.read(0, 1 << 16): os.write(1, data)"

# The moment is read in the container and the signal sent here, by the one clock of one machine.
_KERNEL = """
import os, sys, time
import lifecycle_magic as lm

app = lm.App("bench-far-ends", engine=sys.argv[1])
notes = lm.Volume.from_name("bench-far", create_if_missing=True)

@app.cls(volumes={"/notes": notes}, block_network=True)
class Ends:
    @lm.method()
    def answer(self):
        return 42

    @lm.exit()
    def note(self):
        began = time.time()
        with open("/notes/part", "w") as file:
            file.write(str(began))
        os.rename("/notes/part", "/notes/began")

Ends().answer.remote()
print("warm", flush=True)
time.sleep(60)
"""


def measure(plan: Plan) -> Figures:
    """Measure on a second machine, a namespace of this one."""
    if os.geteuid() != 0:
        return Figures(missing=("far: its machine takes root",))
    with mock.patch.object(sys, "path", [str(TESTS), *sys.path]):
        import docker
        from far_machine import far_machine

        with far_machine(docker.from_env()) as machine, mock.patch.dict(os.environ, machine.env):
            figures = Figures()
            for way in WAYS:
                figures += _measure(machine, way, plan)
            return figures


def _measure(machine: FarMachine, way: str, plan: Plan) -> Figures:
    url, who = str(getattr(machine, way)), NAMES[way]
    rounds = plan.rounds(ROUNDS)
    figures = Figures()
    with _class(url, "calls") as model, _echo(machine, url) as echo:
        model.same.remote(0)
        call = timed(lambda: model.same.remote(1))
        work = f"warm call over {who}"
        calls = alternate(
            work,
            {who: call, f"echo of 64 B over {who}": echo(bytes(64))},
            rounds=rounds,
            times=plan.rounds(CALLS),
        )
        ours, base = (one.p50 for one in calls.samples)
        figures += calls + Figures((), (Bound(f"{work}: at most 4 echoes", who, ours, 4 * base),))
        for size in (1, 100):
            data = os.urandom(size << 20)
            run = timed(lambda data=data: model.same.remote(data))  # type: ignore[misc]
            runs = {who: run, f"echo over {who}": echo(data)}
            figures += alternate(f"{size} MB over {who}", runs, rounds=rounds, times=1)
    figures += alternate("cold call elsewhere", {who: _cold(url)}, rounds=rounds, times=1)
    seconds = tuple(_exit_after(machine, url) for _ in range(rounds))
    sample = Sample("kernel SIGKILLed, exit begins elsewhere", who, seconds)
    bound = Bound("kernel SIGKILLed, exit begins elsewhere: at most 100 ms", who, sample.p50, 0.1)
    return figures + Figures((sample,), (bound,))


@contextmanager
def _class(url: str, name: str) -> Iterator[Any]:
    import lifecycle_magic as lm

    app = lm.App(f"bench-far-{name}", engine=url)

    @app.cls()
    class Model:
        @lm.method()
        def same(self, value: object) -> object:
            return value

    try:
        yield Model()
    finally:
        app.stop()


def _cold(url: str) -> Run:
    """Return a contender that calls a new class, whose image is there."""
    numbers = itertools.count()

    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            with _class(url, f"cold-{next(numbers)}") as model:
                began = time.perf_counter()
                model.same.remote(1)
                seconds.append(time.perf_counter() - began)
        return seconds

    return run


@contextmanager
def _echo(machine: FarMachine, url: str) -> Iterator[Callable[[bytes], Run]]:
    """Contenders that send bytes over an attach stream of the engine's and read them back."""
    from conftest import BASE_IMAGE

    from lifecycle_magic.engines.docker.address import Fixed, tls_files
    from lifecycle_magic.engines.relay import engine_http
    from lifecycle_magic.engines.relay.locations import FarLocation

    tls = tls_files(url) if url.startswith("tcp") else None
    location = FarLocation(Fixed(url, tls))
    if tls is not None:
        files = (str(tls.authority), str(tls.certificate), str(tls.key))
        address = engine_http.EngineAddress("", machine.host, 2376, files, tls.verify)
    else:
        address = engine_http.EngineAddress(location.url.removeprefix("unix://"))
    body = {"Image": BASE_IMAGE, "Entrypoint": ["python3", "-c", _ECHO], "OpenStdin": True}
    with closing(location), closing(machine.client()) as client:
        name = client.api.create_container_from_config({**body, "StdinOnce": True})["Id"]
        try:
            with closing(engine_http.attach(address, name)) as stream:
                client.api.start(name)
                yield lambda data: timed(lambda: _exchange(stream, data))
        finally:
            client.api.remove_container(name, force=True)


def _exchange(stream: Attached, data: bytes) -> None:
    left, have = memoryview(data), 0
    while have < len(data):
        while left and (sent := stream.write(left)):
            left = left[sent:]
        found = stream.read()
        if found is None:
            select.select([stream.reader], [stream.writer] if left else [], [])
        elif not found:
            raise RuntimeError("the echo ended")
        else:
            have += len(found)


def _exit_after(machine: FarMachine, url: str) -> float:
    """Return the seconds from a kernel's SIGKILL to the first line of ``exit`` there."""
    noted = machine.folder / "data" / "volumes" / "lifecycle-magic-bench-far" / "_data" / "began"
    noted.unlink(missing_ok=True)
    kernel = subprocess.Popen([sys.executable, "-c", _KERNEL, url], stdout=subprocess.PIPE)
    assert kernel.stdout is not None
    with kernel.stdout:
        if kernel.stdout.readline() != b"warm\n":
            raise RuntimeError(f"no container started at {url}: see the output above")
        began = time.time()
        os.kill(kernel.pid, signal.SIGKILL)
        kernel.wait()
    deadline = time.monotonic() + EXIT_SECONDS
    while not noted.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"exit did not run at {url} within {EXIT_SECONDS:g} s")
        time.sleep(0.01)  # what is measured was noted over there; this only fetches it
    return float(noted.read_text()) - began
