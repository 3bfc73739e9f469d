"""The container's namespace, as pickle, process pools and `inspect` see it."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


CELL = """
COUNT = 0
def square(x): return x * x
def count():
    global COUNT
    COUNT += 1
class Doubler:
    def __call__(self, x): return 2 * x
class Work:
    @lm.enter()
    def load(self):
        global model
        model = Doubler()
    @lm.method()
    def in_pool(self, how):
        with ProcessPoolExecutor(1, multiprocessing.get_context(how)) as executor:
            return list(executor.map(square, [2, 3])), list(executor.map(self.inner, [4]))
    def inner(self, x): return x + 1
    @lm.method()
    def pickled(self): return type(pickle.loads(pickle.dumps(Doubler()))) is Doubler
    @lm.method()
    def source(self):
        try:
            1 / 0
        except ZeroDivisionError:
            return inspect.getsource(square), "1 / 0" in traceback.format_exc()
    @lm.method()
    def state(self):
        count()
        return COUNT, model(4), isinstance(model, Doubler)
"""


def declare(text: str) -> type:
    """Run a cell as a notebook does, with its text where tracebacks find it."""
    import linecache

    name = f"<cell {len(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {
        "__name__": "__main__",
        "lm": lm,
        "ProcessPoolExecutor": ProcessPoolExecutor,
        "multiprocessing": multiprocessing,
        "pickle": pickle,
        "inspect": inspect,
        "traceback": traceback,
    }
    exec(compile(text, name, "exec"), space)
    found: type = space["Work"]
    return found


def test_main_has_what_the_class_refers_to(engine: ForkEngine) -> None:
    with Forked(engine, declare(CELL)) as work:
        assert work.pickled.remote() is True
        assert work.source.remote() == ("def square(x): return x * x\n", True)
        for how in multiprocessing.get_all_start_methods():
            assert work.in_pool.remote(how) == ([4, 9], [5])


def test_globals_stay_under_an_edit(engine: ForkEngine) -> None:
    with Forked(engine, declare(CELL)) as work:
        assert work.state.remote() == (1, 8, True)
        work.swap(declare(CELL.replace("return COUNT, model(4)", "return COUNT, model(5)")))
        assert work.state.remote() == (2, 10, True)
        work.swap(declare(CELL.replace("return 2 * x", "return 3 * x")))
        assert work.state.remote() == (3, 12, True)
        assert len(work.made) == 1
