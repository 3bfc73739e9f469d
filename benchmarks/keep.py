"""The time in which the next kernel adopts a kept container: the first cell of a new process.

Each process runs the cell that declares the class, then is killed. What the process imports and
does before the cell, such as ``%load_ext``, is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from benchmarks.figures import Bound, Figures, Sample
from benchmarks.plan import Plan

WORK = "adopt a kept container"
CALL = "adopt a kept container, edit a method, call it"
RUNS = 7
LIMIT_SECONDS = 0.100

_PROGRAM = """
import json, os, sys, threading, time
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

engine, term, last = sys.argv[1:]
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell(config=config)
cell = f'''%%lifecycle_cls --engine {engine} --keep 60s
class Kept:
    @lm.enter()
    def load(self):
        self.calls = 0

    @lm.method()
    def count(self):
        self.calls += 1
        return self.calls, {term}
'''

def execute(text):
    with capture_output():
        done = shell.run_cell(text)
    done.raise_error()
    return done.result

execute("%load_ext lifecycle_magic\\nimport lifecycle_magic as lm")
for thread in threading.enumerate():  # a user reads first what %load_ext has printed
    if thread.name == "lifecycle-prepare":
        thread.join()
began = time.perf_counter()
execute(cell)
took = time.perf_counter() - began
calls, found = execute("Kept().count.remote()")
assert found == int(term)
print(json.dumps([took, time.perf_counter() - began, calls]), flush=True)
if last == "last":
    execute("%unload_ext lifecycle_magic")
os._exit(0)
"""


def measure(plan: Plan) -> Figures:
    figures = Figures()
    for engine in plan.engines:
        figures += _measure(engine, plan.rounds(RUNS))
    return figures


def _measure(engine: str, rounds: int) -> Figures:
    unchanged: list[float] = []
    edited: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lm-bench-") as folder:
        turns = 2 * rounds
        for number in range(turns + 1):
            term = number // 2  # every second process has another method
            last = "last" if number == turns else ""
            took, with_call, calls = _once(folder, engine, term, last)
            if calls != number + 1:
                raise RuntimeError(f"the container was not adopted on {engine}")
            if number % 2:
                unchanged.append(took)
            elif number:
                edited.append(with_call)
    samples = Sample(WORK, engine, tuple(unchanged)), Sample(CALL, engine, tuple(edited))
    bounds = tuple(
        Bound(f"{one.work}: at most 100 ms", engine, one.p50, LIMIT_SECONDS) for one in samples
    )
    return Figures(samples, bounds)


def _once(folder: str, engine: str, term: int, last: str) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, engine, str(term), last],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"no container started on {engine}:\n{done.stderr}")
    took, with_call, calls = json.loads(done.stdout.splitlines()[-1])
    return took, with_call, calls
