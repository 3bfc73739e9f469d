"""Running a ``%%lifecycle_cls`` cell again: unchanged, with an edited method or ``enter``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.figures import Bound, Figures, alternate, timed

ROUNDS = 7

_CELL = """%%lifecycle_cls --engine {engine}
class Edited:
    @lm.enter()
    def load(self):
        self.base = {base}

    @lm.method()
    def add(self, value):
        return self.base + value + {term}
"""


def measure(engines: list[str]) -> Figures:
    figures = Figures()
    for engine in engines:
        with _shell() as execute:
            figures += _measure(execute, engine)
    return figures


def _measure(execute: Callable[[str], Any], engine: str) -> Figures:
    numbers = itertools.count(1)
    execute(_CELL.format(engine=engine, base=0, term=0))
    assert execute("Edited().add.remote(1)") == 1

    def unchanged() -> None:
        execute(_CELL.format(engine=engine, base=0, term=0))

    def edit_method() -> None:
        term = next(numbers)
        execute(_CELL.format(engine=engine, base=0, term=term))
        assert execute("Edited().add.remote(1)") == 1 + term

    def edit_enter() -> None:
        base = next(numbers)
        execute(_CELL.format(engine=engine, base=base, term=0))
        assert execute("Edited().add.remote(1)") == 1 + base

    again = "re-run an unchanged cell"
    edited = "edit a method, call it"
    works = {
        again: (timed(unchanged), 0.100),
        edited: (timed(edit_method), 0.250),
        "edit enter, call: a new container": (timed(edit_enter), None),
    }
    found = Figures()
    for work, (run, limit) in works.items():
        (sample,) = alternate(work, {engine: run}, rounds=ROUNDS, times=1)
        bounds = []
        if limit is not None:
            text = f"{work}: at most {limit * 1000:.0f} ms"
            bounds.append(Bound(text, engine, sample.p50, limit))
        found += Figures((sample,), tuple(bounds))
    return found


@contextmanager
def _shell() -> Iterator[Callable[[str], Any]]:
    """A notebook without a browser: a function that runs a cell and returns its last value."""
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
