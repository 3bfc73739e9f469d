"""A pool answers every input once, whatever happens to its containers.

Hypothesis chooses events and their order as a plain list of steps: maps start, are read partly and
are abandoned; calls are made; containers are killed, completely or only the worker, exit while they
start, exit as in a scale-down, or are ended from outside. The guest, the pool and all parts between
them are real; see `fakes.forked`.

``LIFECYCLE_MAGIC_POOL_EXAMPLES`` says how many lists of steps are tried.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lifecycle_magic as lm
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import ContainerDied, StartError
from lifecycle_magic.lifecycle.states import WARM_STATES

EXAMPLES = int(os.environ.get("LIFECYCLE_MAGIC_POOL_EXAMPLES", 25))


class Arrives:
    """An argument that records its arrival, before the method starts and before any report."""

    def __init__(self, folder: str, number: int) -> None:
        self.path = f"{folder}/{number}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (self.path, 0o700, True)


class Writes:
    """A class that records each input that starts, so that an input that starts twice is noticed.

    While the file ``dies`` exists, its containers exit as soon as they are ready.
    """

    def __init__(self, path: str, fails: bool, dies: str) -> None:
        self.fails = fails
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with contextlib.suppress(FileNotFoundError):  # another container may die instead
            os.unlink(dies)
            os._exit(9)

    @lm.method()
    def echo(self, number: int, arrived: Any) -> int:
        import time

        os.write(self.file, b"%d\n" % number)
        if number % 17 == 3:
            time.sleep(0.005)  # long enough for something to happen meanwhile
        if self.fails and number % 29 == 5:
            raise ValueError(number)
        return number


@dataclass
class Open:
    """A map that is being read."""

    numbers: range
    results: Iterator[Any]
    ordered: bool
    got: list[Any] = field(default_factory=list)
    failed: StartError | None = None

    def read(self, most: int) -> bool:
        """Take up to ``most`` results; return whether more may follow."""
        for _ in range(most):
            try:
                self.got.append(next(self.results))
            except StopIteration:
                return False
            except StartError as error:
                self.failed = error
                return False
        return True


@lm.concurrent(max_inputs=2)
class WritesTwo(Writes):
    """Two inputs at once."""


class Life:
    """One pool and the actions on it. Steps refer to objects by number, modulo their count."""

    def __init__(
        self, engine: ForkEngine, retries: int, containers: int, two: bool, window: float | None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lm-began-"))
        self.path = self.folder / "began"
        self.dies = self.folder / "dies"
        self.deaths_at_start = 0
        self.engine = engine
        self.retries = retries
        self.open: list[Open] = []
        self.left: list[Open] = []
        self.number = 0
        self.calls: list[tuple[int, lm.FunctionCall]] = []
        self.work = Forked(
            engine,
            WritesTwo if two else Writes,
            str(self.path),
            retries == 0,  # else each of them would be tried again and again
            str(self.dies),
            max_containers=containers,
            scaledown_window=window,
            retries=lm.Retries(max_retries=retries, initial_delay=0),
        )

    def fresh(self, count: int) -> range:
        """Numbers that no other input has."""
        self.number += count
        return range(self.number - count, self.number)

    def arrives(self, number: int) -> Arrives:
        return Arrives(str(self.folder), number)

    def arrived(self, number: int) -> bool:
        return (self.folder / str(number)).exists()

    # --- what callers do -------------------------------------------------------------------

    def map(self, count: int, ordered: bool) -> None:
        numbers = self.fresh(count)
        results = self.work.echo.map(
            iter(numbers),
            map(self.arrives, numbers),
            order_outputs=ordered,
            return_exceptions=True,
            progress=False,
        )
        self.open.append(Open(numbers, results, ordered))

    def read(self, which: int, most: int) -> None:
        if self.open:
            one = self.open[which % len(self.open)]
            if not one.read(most):
                self.open.remove(one)
                self.check(one)

    def leave(self, which: int) -> None:
        if self.open:
            one = self.open.pop(which % len(self.open))
            one.results.close()  # type: ignore[attr-defined]
            self.left.append(one)

    def spawn(self, count: int) -> None:
        for number in self.fresh(count):
            self.calls.append((number, self.work.echo.spawn(number, self.arrives(number))))

    def cancel(self, which: int) -> None:
        if self.calls:
            self.calls.pop(which % len(self.calls))[1].cancel()

    def call(self) -> None:
        (number,) = self.fresh(1)
        try:
            outcome = self.work.echo.remote(number, self.arrives(number))
        except Exception as error:
            outcome = error
        self.check_one(number, outcome)

    # --- what happens to containers ----------------------------------------------------------

    def warm(self, which: int) -> Container | None:
        warm = [one for one in self.work.alive() if one.state in WARM_STATES and one.id is not None]
        return warm[which % len(warm)] if warm else None

    def kill(self, which: int) -> None:
        if container := self.warm(which):
            self.engine.kill(container.id or "")

    def kill_worker(self, which: int) -> None:
        """Kill the worker; the container's first process reports how it ended."""
        if container := self.warm(which):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
                os.kill(self.engine.worker(container.id or ""), signal.SIGKILL)

    def die_at_start(self) -> None:
        """Make the next container fail during its start."""
        self.deaths_at_start += 1
        self.dies.touch()

    def scale_down(self, which: int) -> None:
        if container := self.warm(which):
            container.end(Ending(EndKind.DRAIN, "it is not needed"))

    def end_from_outside(self, which: int) -> None:
        """As ``docker stop`` does."""
        if container := self.warm(which):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(container.id or ""), signal.SIGTERM)

    # --- what has to hold ----------------------------------------------------------------------

    def end(self) -> None:
        """Read all results, and check the inputs that ran."""
        self.dies.unlink(missing_ok=True)
        with self.work:
            for one in self.open:
                while one.read(1000):
                    pass
                self.check(one)
            for number, call in self.calls:
                try:
                    outcome = call.get(timeout=60)
                except Exception as error:
                    outcome = error
                self.check_one(number, outcome)
        began = Counter(map(int, self.path.read_text().split()) if self.path.exists() else ())
        if self.retries == 0:
            assert max(began.values(), default=0) <= 1  # nothing ran twice
        for one in self.left:
            self.check_what_was_read(one)
        shutil.rmtree(self.folder)

    def fails(self, number: int) -> bool:
        return self.retries == 0 and number % 29 == 5

    def check(self, one: Open) -> None:
        """A map that was read to its end."""
        if one.failed:
            assert self.deaths_at_start
            self.check_what_was_read(one)
            return
        assert len(one.got) == len(one.numbers)
        if one.ordered:
            for number, outcome in zip(one.numbers, one.got, strict=True):
                self.check_one(number, outcome)
            return
        values = {outcome for outcome in one.got if not isinstance(outcome, Exception)}
        failed = {n for n in one.numbers if self.fails(n)}
        assert values <= set(one.numbers) - failed
        errors = [outcome for outcome in one.got if isinstance(outcome, Exception)]
        assert len(values) + len(errors) == len(one.got)
        raised = {error.args[0] for error in errors if isinstance(error, ValueError)}
        assert raised <= failed
        others = [error for error in errors if not isinstance(error, ValueError)]
        assert all(isinstance(error, ContainerDied) for error in others), others
        assert self.retries == 0 or not others
        never = sum("before they began" in str(error) for error in others)
        lost = set(filter(self.arrived, one.numbers)) - values - raised
        assert len(others) - never <= len(lost)

    def check_what_was_read(self, one: Open) -> None:
        if one.ordered:
            for number, outcome in zip(one.numbers, one.got, strict=False):
                self.check_one(number, outcome)
        values = [outcome for outcome in one.got if not isinstance(outcome, Exception)]
        assert len(values) == len(set(values))

    def check_one(self, number: int, outcome: Any) -> None:
        if isinstance(outcome, ContainerDied):
            assert self.retries == 0, outcome
            assert self.arrived(number) or "before they began" in str(outcome)
        elif isinstance(outcome, StartError):
            assert self.deaths_at_start
        elif self.fails(number):
            assert isinstance(outcome, ValueError)
            assert outcome.args == (number,)
        else:
            assert outcome == number, repr(outcome)


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


WHICH = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("map"), st.integers(0, 150), st.booleans()),
    st.tuples(st.just("read"), WHICH, st.integers(1, 100)),
    st.tuples(st.just("leave"), WHICH),
    st.tuples(st.just("spawn"), st.integers(1, 4)),
    st.tuples(st.just("cancel"), WHICH),
    st.tuples(st.just("call")),
    st.tuples(st.just("kill"), WHICH),
    st.tuples(st.just("kill_worker"), WHICH),
    st.tuples(st.just("die_at_start")),
    st.tuples(st.just("scale_down"), WHICH),
    st.tuples(st.just("end_from_outside"), WHICH),
)


@pytest.mark.parametrize("retries", [0, 1000])
def test_every_input_is_answered_once_whatever_happens(engine: ForkEngine, retries: int) -> None:
    """Without retries nothing begins twice; with them, nothing but the method's own fails."""

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        containers=st.integers(1, 3),
        two=st.booleans(),
        window=st.sampled_from([None, 0.002]),
        steps=st.lists(STEPS, min_size=5, max_size=30),
    )
    def run(containers: int, two: bool, window: float | None, steps: list[Any]) -> None:
        life = Life(engine, retries, containers, two, window)
        for name, *arguments in steps:
            getattr(life, name)(*arguments)
        life.end()

    run()
