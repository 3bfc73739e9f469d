"""The time from the kernel's SIGKILL to the first line of the container's ``exit``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Bound, Figures, Sample
from benchmarks.plan import Plan

WORK = "kernel SIGKILLed, exit begins"
RUNS = 5
TIMEOUT_SECONDS = 30.0

# The moment is read in the container and the signal sent here, by the one clock of one machine.
_PROGRAM = """
import os, sys, time
import lifecycle_magic as lm
engine, folder = sys.argv[1:]

class Ends:
    @lm.method()
    def answer(self):
        return 42

    @lm.exit()
    def note(self):
        began = time.time()
        with open(folder + "/part", "w") as file:
            file.write(str(began))
        os.rename(folder + "/part", folder + "/began")

app = lm.App("bench-ends")
ends = app.cls(Ends, engine=engine, volumes={folder: lm.Volume.from_path(folder)})()
ends.answer.remote()
print("warm", flush=True)
time.sleep(60)
"""


def measure(plan: Plan) -> Figures:
    figures = Figures()
    for engine in plan.engines:
        seconds = tuple(_once(engine) for _ in range(plan.rounds(RUNS)))
        sample = Sample(WORK, engine, seconds)
        figures += Figures((sample,), (Bound(f"{WORK}: at most 50 ms", engine, sample.p50, 0.050),))
    return figures


def _once(engine: str) -> float:
    with tempfile.TemporaryDirectory(prefix="lm-bench-") as folder:
        kernel = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, engine, folder], stdout=subprocess.PIPE
        )
        assert kernel.stdout is not None
        with kernel.stdout:
            line = kernel.stdout.readline()
            if line != b"warm\n":
                raise RuntimeError(f"no container started on {engine}: see the output above")
            began = time.time()
            os.kill(kernel.pid, signal.SIGKILL)
            kernel.wait()
        noted = Path(folder) / "began"
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not noted.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"exit did not run on {engine} within {TIMEOUT_SECONDS:g} s")
            time.sleep(0.01)  # what is measured was noted over there; this only fetches it
        return float(noted.read_text()) - began
