"""A class on a swarm of three machines: the first reply of one container and of twelve, and calls.

The machines are those of the tests: namespaces with an engine each. Without root, or without
Debian's docker-registry, there are none, and nothing is measured.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.figures import Figures, Run, alternate, timed
from benchmarks.plan import Plan

ROUNDS = 5
CALLS = 500
WHO = "swarm"
TESTS = Path(__file__).parents[1] / "tests"


def measure(plan: Plan) -> Figures:
    """Measure on three nodes of this machine, which share its processors."""
    if os.geteuid() != 0:
        return Figures(missing=("swarm: its machines take root",))
    with mock.patch.object(sys, "path", [str(TESTS), *sys.path]):
        import docker
        from swarm_machines import SwarmMachines, swarm_machines

        def on(swarm: SwarmMachines) -> Figures:
            with mock.patch.dict(os.environ, swarm.env):
                return _measure(plan)

        with swarm_machines(docker.from_env()) as swarm:
            return on(swarm)


def _measure(plan: Plan) -> Figures:
    rounds = plan.rounds(ROUNDS)
    figures = Figures()
    for count in (1, 12):
        work = "first reply of a container" if count == 1 else f"first reply of {count} containers"
        figures += alternate(work, {WHO: _first_replies(count)}, rounds=rounds, times=1)
    with _class("bench-swarm-calls", 1) as model:
        model.same.remote(0)
        call = timed(lambda: model.same.remote(1))
        figures += alternate("warm call", {WHO: call}, rounds=rounds, times=plan.rounds(CALLS))
        for size in (1, 100):
            data = os.urandom(size << 20)
            echo = timed(lambda data=data: model.same.remote(data))  # type: ignore[misc]
            figures += alternate(f"echo of {size} MB of bytes", {WHO: echo}, rounds=rounds, times=1)
    return figures


def _first_replies(count: int) -> Run:
    """Return a contender that starts that many containers of a new class and calls each."""
    numbers = itertools.count()

    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            with _class(f"bench-swarm-{count}-{next(numbers)}", count) as model:
                began = time.perf_counter()
                calls = [model.meet.spawn(count) for _ in range(count)]
                hosts = {call.get() for call in calls}
                seconds.append(time.perf_counter() - began)
                if len(hosts) != count:
                    raise RuntimeError(f"{len(hosts)} containers answered, not {count}")
        return seconds

    return run


@contextmanager
def _class(name: str, most: int) -> Iterator[Any]:
    import lifecycle_magic as lm

    app = lm.App(name, engine="swarm")

    @app.cls(max_containers=most, single_use_containers=most > 1)
    class Model:
        @lm.method()
        def same(self, value: object) -> object:
            return value

        @lm.method()
        def meet(self, count: int) -> str:
            return os.uname().nodename

    try:
        yield Model()
    finally:
        app.stop()
