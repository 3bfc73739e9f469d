"""First calls, with the image built and no container there: one against a bare ``docker run``, and
several at once, which each need a container of their own, against one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import Any

import lifecycle_magic as lm
from benchmarks.figures import Bound, Figures, Run, alternate
from benchmarks.plan import Plan

WORK = "cold call, image built"
ROUNDS = 7
BLOCKED = "docker, block_network=True"
YARDSTICK = "docker run IMAGE python3 -c pass"
COUNT = 8
SEVERAL = f"first replies of {COUNT} containers of a new class, by .map"
SEVERAL_LIMIT = 2.0
"""How many times as long as one container all of them may take."""


class Cold:
    @lm.method()
    def answer(self) -> int:
        return 42

    @lm.method()
    def double(self, value: int) -> int:
        return 2 * value


def measure(plan: Plan) -> Figures:
    runs: dict[str, Run] = {}
    missing = []
    for engine in plan.engines:
        runs[engine] = _ours(engine)
    if "docker" in plan.engines:
        # What the command is given, too: a network takes the engine 50 to 100 ms.
        runs[BLOCKED] = _ours("docker", block_network=True)
        if shutil.which("docker"):
            runs[YARDSTICK] = _docker_run
        else:
            missing.append(f"{YARDSTICK}: there is no docker command on the path")
    found = alternate(WORK, runs, rounds=plan.rounds(ROUNDS), times=1)
    ours, least = found.median(BLOCKED), found.median(YARDSTICK)
    bounds = []
    if ours is not None and least is not None:
        text = f"{WORK}: at most docker run's own time"
        bounds.append(Bound(text, BLOCKED, ours, least))
    found += Figures(bounds=tuple(bounds), missing=tuple(missing))
    return found + _several(plan, found)


def _several(plan: Plan, one: Figures) -> Figures:
    runs: dict[str, Run] = {engine: _maps(engine) for engine in plan.engines}
    if "docker" in plan.engines and shutil.which("docker"):
        runs[f"{COUNT} x {YARDSTICK}"] = _docker_runs
    found = alternate(SEVERAL, runs, rounds=plan.rounds(ROUNDS - 2), times=1)
    bounds = []
    for engine in plan.engines:
        took, alone = found.median(engine), one.median(engine)
        if took is not None and alone is not None:
            text = f"{SEVERAL}: at most {SEVERAL_LIMIT:g} x one"
            bounds.append(Bound(text, engine, took, SEVERAL_LIMIT * alone))
    return found + Figures(bounds=tuple(bounds))


def _maps(engine: str) -> Run:
    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            app = lm.App(f"bench-cold-map-{engine}")
            options = {"single_use_containers": True, "max_containers": COUNT}
            cold = app.cls(Cold, engine=engine, **options)()
            with app.run():
                began = time.perf_counter()
                found = list(cold.double.map(range(COUNT), progress=False))
                seconds.append(time.perf_counter() - began)
            assert found == [2 * n for n in range(COUNT)]
        return seconds

    return run


def _ours(engine: str, **options: Any) -> Run:
    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            app = lm.App(f"bench-cold-{engine}")
            cold = app.cls(Cold, engine=engine, **options)()
            with app.run():  # so that the container's end is not counted
                began = time.perf_counter()
                cold.answer.remote()
                seconds.append(time.perf_counter() - began)
        return seconds

    return run


def _docker_run(times: int) -> list[float]:
    return [_at_once(1) for _ in range(times)]


def _docker_runs(times: int) -> list[float]:
    return [_at_once(COUNT) for _ in range(times)]


def _at_once(count: int) -> float:
    """Return the seconds of so many commands at once."""
    image = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    command = ["docker", "run", "--rm", "--network", "none", image, "python3", "-c", "pass"]
    began = time.perf_counter()
    running = [subprocess.Popen(command) for _ in range(count)]
    codes = [one.wait() for one in running]
    if any(codes):
        raise RuntimeError("docker run failed: see the output above")
    return time.perf_counter() - began
