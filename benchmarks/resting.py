"""The cost of an idle kernel and an idle warm container: memory, and CPU over 30 s.

The kernels are real: a bare one, one with the extension loaded, and one with a warm class on each
engine. All are idle at the same time. Memory and CPU are read from outside, from ``/proc``.

A container is its supervisor and its worker. Linux reports which processes those are through the
data socket (SO_PEERCRED, unix(7)). RSS counts memory that both share twice; PSS does not, but
depends on which other processes have the same interpreter mapped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import Amount, Figures
from benchmarks.plan import Plan

SECONDS = 30.0
SETTLE_SECONDS = 3.0
MAX_CPU_MILLISECONDS = 10.0
"""CPU time that an idle process may use during the measurement: none, plus noise."""
MIB = 1 << 20

_LOAD = "%load_ext lifecycle_magic"
_CLASS = """
import lifecycle_magic as lm

class Rests:
    @lm.method()
    def bare(self):
        import subprocess, sys
        program = "print(1, flush=True); input()"
        self.child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.child.stdout.readline()

    @lm.method()
    def end_bare(self):
        self.child.communicate()

app = lm.App("bench-resting")
rests = app.cls(Rests, engine={engine!r})()
rests.bare.remote()
rests.end_bare.remote()
"""
_PEER = """
import socket, struct
from lifecycle_magic.session import session
(_container,) = session.current().containers()
_sock = _container.slots[0].channel.sock
if _sock.family == socket.AF_UNIX:
    _told = _sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    print(struct.unpack("3i", _told)[0])
else:
    print(0)
"""

CLASSES, CONTAINERS = 20, 2
"""The classes of the kernel with many, and the warm containers of each."""

CROWD = f"{CLASSES} classes, {CLASSES * CONTAINERS} containers"

_CROWD = """
import os, threading, time
import lifecycle_magic as lm
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.session import session

def numbers():
    return len(threading.enumerate()), len(os.listdir("/proc/self/fd"))

def warm():
    return [c for c in session.current().containers() if c.state in WARM_STATES]

before = numbers()
app = lm.App("bench-crowd")
for number in range({classes}):
    class Rests:
        @lm.method()
        def answer(self):
            return 42
    one = app.cls(
        Rests, name=f"Rests{{number}}", engine={engine!r},
        min_containers={each}, max_containers={each},
    )()
    one.answer.remote()
deadline = time.monotonic() + 600
while len(warm()) < {classes} * {each}:
    if time.monotonic() > deadline:
        raise RuntimeError("the containers did not start")
    time.sleep(0.1)
after = numbers()
print(after[0] - before[0], after[1] - before[1])
"""
_PEERS = """
import socket, struct
for _one in warm():
    _told = _one.slots[0].channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    print(struct.unpack("3i", _told)[0])
"""


@dataclass(frozen=True)
class Cost:
    """The cost of some processes: MiB of memory, and seconds of CPU since their start."""

    rss: float
    pss: float
    cpu: float


def measure(plan: Plan) -> Figures:
    seconds = 5.0 if plan.quick else SECONDS
    with _kernel():
        pass  # has compiled what the others import, which takes memory
    with ExitStack() as stack:
        groups = {"a bare kernel": [stack.enter_context(_kernel()).pid]}
        loaded = stack.enter_context(_kernel())
        loaded.execute(_LOAD)
        groups["kernel, extension loaded"] = [loaded.pid]
        bare: dict[str, Cost] = {}
        missing = []
        for engine in plan.engines:
            kernel = stack.enter_context(_kernel())
            kernel.execute(_LOAD)
            kernel.execute(_CLASS.format(engine=engine))
            groups[f"kernel, one warm class on {engine}"] = [kernel.pid]
            supervisor = int(kernel.execute(_PEER))
            if not supervisor:
                missing.append(f"a resting container of {engine}: it is not seen from here")
                continue
            groups[engine] = _family(supervisor)
            bare[engine] = _bare(kernel, groups[engine])
        time.sleep(SETTLE_SECONDS)
        before = {who: _cost(pids) for who, pids in groups.items()}
        time.sleep(seconds)
        after = {who: _cost(pids) for who, pids in groups.items()}
    figures = Figures(amounts=tuple(_amounts(before, after, bare, seconds)), missing=tuple(missing))
    # Processes of this machine: a Docker engine elsewhere shows none of them.
    return figures + _crowd(plan, seconds) if "process" in plan.engines else figures


def _crowd(plan: Plan, seconds: float) -> Figures:
    """Measure one kernel that holds many classes with warm containers, all of them idle."""
    with _kernel() as kernel:
        kernel.execute(_LOAD)
        bare = _cost([kernel.pid])
        program = _CROWD.format(classes=CLASSES, each=CONTAINERS, engine="process")
        threads, descriptors = map(int, kernel.execute(program).split())
        families = [_family(int(line)) for line in kernel.execute(_PEERS).split()]
        every = [pid for family in families for pid in family]
        time.sleep(SETTLE_SECONDS)
        before = _cost([kernel.pid]), _cost(every)
        time.sleep(seconds)
        after = _cost([kernel.pid]), _cost(every)
    count = len(families)
    kernels, containers = ((b.cpu - a.cpu) * 1000 for a, b in zip(before, after, strict=True))
    idle = f"CPU while idle for {seconds:g} s"
    who = f"kernel, {CROWD}"
    return Figures(
        amounts=(
            Amount(idle, who, kernels, "ms", 2 * MAX_CPU_MILLISECONDS),
            Amount(f"{idle}, each", f"container of {CROWD}", containers / count, "ms",
                   MAX_CPU_MILLISECONDS),
            Amount("threads of the kernel, each container", who, threads / count, ""),
            Amount("descriptors of the kernel, each container", who, descriptors / count, ""),
            Amount("memory of the kernel, each container, PSS", who,
                   (after[0].pss - bare.pss) / count, "MiB"),
            Amount("memory of a container, PSS", f"container of {CROWD}",
                   after[1].pss / count, "MiB"),
        )
    )  # fmt: skip


def _amounts(
    before: dict[str, Cost], after: dict[str, Cost], bare: dict[str, Cost], seconds: float
) -> Iterator[Amount]:
    least = after["a bare kernel"]
    for who, cost in after.items():
        if who in bare:
            work = "memory of an idle container above a bare python3"
            yield Amount(f"{work}, RSS", who, cost.rss - bare[who].rss, "MiB")
            yield Amount(f"{work}, PSS", who, cost.pss - bare[who].pss, "MiB")
        elif cost is not least:
            work = "memory above a bare kernel"
            yield Amount(f"{work}, RSS", who, cost.rss - least.rss, "MiB")
            yield Amount(f"{work}, PSS", who, cost.pss - least.pss, "MiB")
    took = {who: (cost.cpu - before[who].cpu) * 1000 for who, cost in after.items()}
    for who, used in took.items():
        name = f"container on {who}" if who in bare else who
        limit = (
            MAX_CPU_MILLISECONDS if who in bare else took["a bare kernel"] + MAX_CPU_MILLISECONDS
        )
        yield Amount(f"CPU while idle for {seconds:g} s", name, used, "ms", limit)


class _Kernel:
    """A Jupyter kernel that runs given code."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._client = client
        self.pid: int = manager.provisioner.pid
        self.execute("1")

    def execute(self, code: str) -> str:
        """Run a cell and return its output. Raises RuntimeError if the cell raised."""
        printed: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = self._client.execute_interactive(code, output_hook=keep, timeout=900)["content"]
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
        return "".join(printed)


@contextmanager
def _kernel() -> Iterator[_Kernel]:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield _Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def _bare(kernel: _Kernel, family: list[int]) -> Cost:
    """Return the cost of a ``python3`` in the same container that imports nothing."""
    kernel.execute("rests.bare.remote()")
    try:
        (child,) = set(_family(family[0])) - set(family)
        return _cost([child])
    finally:
        kernel.execute("rests.end_bare.remote()")


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _cost(pids: list[int]) -> Cost:
    memory = [psutil.Process(pid).memory_full_info() for pid in pids]
    return Cost(
        sum(m.rss for m in memory) / MIB,
        sum(m.pss for m in memory) / MIB,
        sum(_cpu(pid) for pid in pids),
    )


def _cpu(pid: int) -> float:
    """Return the CPU seconds of all live threads, in nanoseconds where Linux counts them."""
    total = 0.0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
        return total
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
