"""``.map`` over small inputs: inputs per second with 1, 2 and 4 containers, and with peers.

Also measured is how many of a million inputs are held at once. Every contender uses the API that
its manual recommends, one task per input. The figures show the cost of sending and receiving, so
more processes than cores bring nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import lifecycle_magic as lm
from benchmarks.calls import peers
from benchmarks.figures import Amount, Figures, Run, alternate
from benchmarks.peers import _work
from benchmarks.plan import Plan
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.session import session

COUNTS = (1, 2, 4)
INPUTS = 1000
MANY = 1_000_000
MAX_HELD_INPUTS = 5000
"""Inputs: "at most a few thousand at a time"."""
TIMEOUT_SECONDS = 120.0


class Mapped:
    @lm.method()
    def echo(self, value: Any) -> Any:
        return value


def measure(plan: Plan) -> Figures:
    figures = Figures()
    for count in COUNTS:
        print(f"  {count} containers", file=sys.stderr)
        figures += _throughput(plan, count)
    for engine in plan.engines:
        print(f"  {MANY:,} inputs on {engine}", file=sys.stderr)
        figures += _held(engine, MANY // 20 if plan.quick else MANY)
    return figures


def _throughput(plan: Plan, count: int) -> Figures:
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        for engine in plan.engines:
            app = stack.enter_context(lm.App(f"bench-map-{engine}-{count}").run())
            runs[engine] = _ours(app, engine, count)
        there, missing = stack.enter_context(peers(plan, count))
        for name, peer in there.items():
            runs[name] = partial(peer.run, work="map", size=INPUTS)
        one = "1 container" if count == 1 else f"{count} containers"
        found = alternate(f"map, {one}: per input", runs, rounds=plan.rounds(7), times=1)
    return found + Figures(missing=missing)


def _ours(app: lm.App, engine: str, count: int) -> Run:
    mapped = app.cls(Mapped, engine=engine, min_containers=count, max_containers=count)()
    mapped.echo.remote(1)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while _warm(engine) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} containers did not start on {engine}")
        time.sleep(0.05)

    def run(times: int) -> list[float]:
        each = (_work.mapped(lambda i: list(mapped.echo.map(i)), INPUTS) for _ in range(times))
        return [seconds for one in each for seconds in one]

    return run


def _warm(engine: str) -> int:
    there = session.current().containers()
    return sum(c.engine.name == engine and c.state in WARM_STATES for c in there)


# In a process of its own: its peak of memory is that of the map.
_MANY = """
import json, resource, sys, time
import lifecycle_magic as lm

engine, count = sys.argv[1], int(sys.argv[2])

class Mapped:
    @lm.method()
    def echo(self, value):
        return value

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with lm.App("bench-many").run() as app:
    mapped = app.cls(Mapped, engine=engine, max_containers=2)()
    list(mapped.echo.map(range(2000), progress=False))
    before = peak()
    taken = most = 0

    def inputs():
        global most
        for n in range(count):
            yield n
            most = max(most, n + 1 - taken)

    began = time.perf_counter()
    for taken, value in enumerate(mapped.echo.map(inputs(), progress=False), 1):
        assert value == taken - 1
    assert taken == count
    took = time.perf_counter() - began
print(json.dumps([most, peak() - before, took / count]))
"""


def _held(engine: str, count: int) -> Figures:
    done = subprocess.run(
        [sys.executable, "-c", _MANY, engine, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    most, grown, each = json.loads(done.stdout.splitlines()[-1])
    work = f"map of {count:,} inputs"
    return Figures(
        amounts=(
            Amount(f"{work}: most held at once", engine, most, "inputs", MAX_HELD_INPUTS),
            Amount(f"{work}: memory above that of a map of 2,000", engine, grown, "MiB"),
            Amount(f"{work}: throughput", engine, 1 / each, "inputs/s"),
        )
    )
