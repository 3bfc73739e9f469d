"""Re-runs of a ``%%lifecycle_cls`` cell: unchanged, and with an edited method or ``enter``.

An edited ``enter`` is measured with and without a spare container that waits for the new code.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.figures import Bound, Figures, Run, alternate, timed
from benchmarks.plan import Plan
from lifecycle_magic.session import session

ROUNDS = 7
TIMEOUT_SECONDS = 60.0

# `took`: what enter needs for itself, so that it can be taken off.
_CELL = """%%lifecycle_cls --engine {engine} {options}
class Edited:
    @lm.enter()
    def load(self):
        import time
        began = time.perf_counter()
        time.sleep(0.1)
        self.base = {base}
        self.took = time.perf_counter() - began

    @lm.method()
    def add(self, value):
        return self.base + value + {term}, self.took
"""


def measure(plan: Plan) -> Figures:
    figures = Figures()
    for engine in plan.engines:
        with _shell() as execute:
            figures += _measure(plan, execute, engine)
        with _shell() as execute:
            figures += _with_spare(plan, execute, engine)
    return figures


def _measure(plan: Plan, execute: Callable[[str], Any], engine: str) -> Figures:
    numbers = itertools.count(1)

    def run_cell(base: int = 0, term: int = 0) -> None:
        execute(_CELL.format(engine=engine, options="", base=base, term=term))

    def edit_method() -> None:
        term = next(numbers)
        run_cell(term=term)
        assert execute("Edited().add.remote(1)")[0] == 1 + term

    run_cell()
    assert execute("Edited().add.remote(1)")[0] == 1
    works = {
        "re-run an unchanged cell": (run_cell, 0.100),
        "edit a method, call it": (edit_method, 0.100),
    }
    found = Figures()
    for work, (again, limit) in works.items():
        found += _held(plan, work, engine, timed(again), f"at most {limit * 1000:.0f} ms", limit)
    work = "edit enter, call: above enter's own time"
    return found + _held(plan, work, engine, _edit_enter(execute, engine, ""), "", None)


def _with_spare(plan: Plan, execute: Callable[[str], Any], engine: str) -> Figures:
    options = "--buffer-containers 1"
    execute(_CELL.format(engine=engine, options=options, base=0, term=0))
    run = _edit_enter(execute, engine, options, _wait_for_spare)
    work = "edit enter, call, with a spare: above enter's own time"
    return _held(plan, work, engine, run, "at most 60 ms", 0.060)


def _edit_enter(
    execute: Callable[[str], Any],
    engine: str,
    options: str,
    before: Callable[[], None] = lambda: None,
) -> Run:
    numbers = itertools.count(1)

    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            base = next(numbers)
            before()
            began = time.perf_counter()
            execute(_CELL.format(engine=engine, options=options, base=base, term=0))
            value, in_enter = execute("Edited().add.remote(1)")
            seconds.append(time.perf_counter() - began - in_enter)
            assert value == 1 + base
        return seconds

    return run


def _held(
    plan: Plan, work: str, engine: str, run: Run, promise: str, limit: float | None
) -> Figures:
    found = alternate(work, {engine: run}, rounds=plan.rounds(ROUNDS), times=1)
    measured = found.median(engine)
    if limit is None or measured is None:
        return found
    return found + Figures(bounds=(Bound(f"{work}: {promise}", engine, measured, limit),))


def _wait_for_spare() -> None:
    """Wait for a new spare, because the cell before took the last one, and for the end of replaced
    containers, because it would be counted otherwise.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while sorted(c.is_spare for c in session.current().containers()) != [False, True]:
        if time.monotonic() > deadline:
            raise RuntimeError("no spare container started")
        time.sleep(0.02)


@contextmanager
def _shell() -> Iterator[Callable[[str], Any]]:
    """Start IPython without a browser; yield a function that returns a cell's last value."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)

    def execute(cell: str) -> Any:
        with capture_output():
            done = shell.run_cell(cell)
        done.raise_error()
        return done.result

    execute("%load_ext lifecycle_magic\nimport lifecycle_magic as lm")
    try:
        yield execute
    finally:
        execute("%unload_ext lifecycle_magic")
