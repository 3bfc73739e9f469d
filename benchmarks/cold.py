"""The first call, with the image built and no container there, against a bare ``docker run``."""

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


class Cold:
    @lm.method()
    def answer(self) -> int:
        return 42


def measure(plan: Plan) -> Figures:
    runs: dict[str, Run] = {}
    missing = []
    yardstick = "docker run IMAGE python3 -c pass"
    for engine in plan.engines:
        runs[engine] = _ours(engine)
    if "docker" in plan.engines:
        # What the command is given, too: a network takes the engine 50 to 100 ms.
        runs["docker, block_network=True"] = _ours("docker", block_network=True)
        if shutil.which("docker"):
            runs[yardstick] = _docker_run
        else:
            missing.append(f"{yardstick}: there is no docker command on the path")
    found = alternate(WORK, runs, rounds=plan.rounds(ROUNDS), times=1)
    ours, least = found.median("docker"), found.median(yardstick)
    bounds = []
    if ours is not None and least is not None:
        text = f"{WORK}: at most docker run's own time"
        bounds.append(Bound(text, "docker", ours, least))
    return found + Figures(bounds=tuple(bounds), missing=tuple(missing))


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
    image = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    command = ["docker", "run", "--rm", "--network", "none", image, "python3", "-c", "pass"]
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds.append(time.perf_counter() - began)
    return seconds
