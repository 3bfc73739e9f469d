"""The import time that ``%load_ext lifecycle_magic`` adds to a fresh interpreter with IPython."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmarks.figures import Bound, Figures, Sample
from benchmarks.plan import Plan

RUNS = 9

# A kernel has made its shell by the time the first cell runs; so that is not counted.
_PROGRAM = """
import time
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
began = time.perf_counter()
shell.run_line_magic("load_ext", "lifecycle_magic")
print(time.perf_counter() - began)
"""


def measure(plan: Plan) -> Figures:
    seconds = []
    for turn in range(plan.rounds(RUNS) + 1):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, check=True
        )
        if turn:  # the first one may have had to compile
            seconds.append(float(done.stdout.split()[-1]))
    work = "%load_ext in a fresh interpreter"
    bound = Bound(f"{work}: at most 100 ms", "kernel", median(seconds), 0.100)
    return Figures((Sample(work, "kernel", tuple(seconds)),), (bound,))
