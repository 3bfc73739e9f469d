"""What a kernel needs for many containers on another machine, by their number.

The containers are real, on the second machine of the tests: an engine in a namespace, by TLS. They
are idle, as those of most classes are most of the time. What they cost is on the kernel's side: the
kernel's own process and its relay. ``docs/kubernetes.md`` has the figures. Needs root.

    python -m benchmarks.many 50 100 200
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from unittest import mock

import psutil

TESTS = Path(__file__).parents[1] / "tests"
IDLE_SECONDS = 20.0
"""Seconds for which processor time is counted: four pings of each container."""

CALLS = 300
STEP = 10
"""Containers that start at once."""

START_SECONDS = 900.0


def main(counts: list[int]) -> None:
    """Print a row for each number of containers."""
    with mock.patch.object(sys, "path", [str(TESTS), *sys.path]):
        import docker
        from engine.far_work import relays
        from far_machine import far_machine

        with far_machine(docker.from_env()) as machine, mock.patch.dict(os.environ, machine.env):
            print("containers | process | MB | descriptors | threads | CPU ms/s idle | call p50 us")
            for count in counts:
                _measure(machine.tcp, count, lambda: relays(machine)[0])


def _measure(url: str, count: int, find_relay) -> None:  # type: ignore[no-untyped-def]
    import lifecycle_magic as lm
    from lifecycle_magic.session import session

    app = lm.App(f"many-{count}", engine=url)

    @app.cls(max_containers=count, block_network=True, startup_timeout=900)
    class Many:
        @lm.method()
        def same(self, value: int) -> int:
            return value

    many = Many()
    many.same.remote(0)
    began = time.monotonic()
    for wanted in [*range(STEP, count, STEP), count]:
        many.update_autoscaler(min_containers=wanted)
        while sum(one.is_connected for one in session.current().containers()) < wanted:
            time.sleep(0.2)  # a measurement: nothing else is to happen meanwhile
            if time.monotonic() - began > START_SECONDS:
                raise RuntimeError(f"{count} containers did not start within {START_SECONDS:g} s")
    processes = {"kernel": psutil.Process(), "relay": find_relay()}
    before = {name: _cpu(process) for name, process in processes.items()}
    time.sleep(IDLE_SECONDS)
    used = {name: _cpu(process) - before[name] for name, process in processes.items()}
    seconds = []
    for number in range(CALLS):
        start = time.perf_counter()
        many.same.remote(number)
        seconds.append(time.perf_counter() - start)
    call = sorted(seconds)[CALLS // 2] * 1e6
    for name, process in processes.items():
        print(
            f"{count} | {name} | {process.memory_info().rss / 1e6:.0f} | {process.num_fds()} | "
            f"{process.num_threads()} | {1000 * used[name] / IDLE_SECONDS:.1f} | {call:.0f}",
            flush=True,
        )
    app.stop()
    session.close("the next number has a session of its own")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or [50, 100, 200])
