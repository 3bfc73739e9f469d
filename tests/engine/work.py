"""What the tests of calls share: a class whose methods say when they begin and wait to be let go.

Nothing here waits for time to pass. A method notes what it does as a file in a folder that the
host sees too, and waits for files that the test makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import lifecycle_magic as lm

PATIENCE = 60.0  # seconds; only a bug takes that long


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition()``; an AssertionError that says ``what`` never came."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.002)
    return value


class Folder:
    """Notes as files, on both sides of the container's wall."""

    def __init__(self, path: str) -> None:
        self.path = path

    def note(self, event: str) -> None:
        with open(os.path.join(self.path, f"{event}.{uuid.uuid4().hex}"), "x"):
            pass

    def count(self, event: str) -> int:
        return sum(1 for name in os.listdir(self.path) if name.rpartition(".")[0] == event)

    def events(self) -> set[str]:
        return {name.rpartition(".")[0] for name in os.listdir(self.path)}

    def wait(self, event: str, times: int = 1) -> None:
        wait_for(lambda: self.count(event) >= times, f"{event} x {times} in {self.events()}")


class Work:
    """Takes part in whatever a test has in mind. ``path`` is the folder of its notes."""

    def __init__(self, path: str) -> None:
        self.folder = Folder(path)
        self.tries: dict[Any, int] = {}

    @lm.enter()
    def load(self) -> None:
        self.id = uuid.uuid4().hex
        self.folder.note("enter")

    @lm.exit()
    def close(self) -> None:
        self.folder.note("exit")

    @lm.method()
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            return (*args, kwargs)
        return args[0] if len(args) == 1 else args

    @lm.method()
    def who(self, _: Any = None) -> str:
        return self.id

    @lm.method()
    async def who_async(self) -> str:
        return self.id

    @lm.method()
    def hold(self, name: Any) -> Any:
        """Say that it began, and wait until the test notes ``go-NAME``."""
        try:
            self.folder.note(f"began-{name}")  # from here on the test may interrupt it
            self.folder.wait(f"go-{name}")
        except KeyboardInterrupt:
            self.folder.note(f"interrupted-{name}")
            raise
        return name

    @lm.method()
    async def hold_async(self, name: Any) -> Any:
        self.folder.note(f"began-{name}")
        try:
            while not self.folder.count(f"go-{name}"):
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.folder.note(f"interrupted-{name}")
            raise
        return name

    @lm.method()
    def deaf(self, name: Any) -> Any:
        """Ignores every interrupt until the test notes ``go-NAME``."""
        while True:
            try:
                self.folder.note(f"began-{name}")
                self.folder.wait(f"go-{name}")
                return name
            except KeyboardInterrupt:
                self.folder.note(f"heard-{name}")

    @lm.method()
    def fail(self, message: str) -> None:
        raise LookupError(message)

    @lm.method()
    def fail_first(self, times: int, key: Any = None) -> int:
        """Fails so many times for a key, then says how often it was tried."""
        self.tries[key] = self.tries.get(key, 0) + 1
        self.folder.note(f"tried-{key}")
        if self.tries[key] <= times:
            raise LookupError(f"try {self.tries[key]}")
        return self.tries[key]

    @lm.method()
    def halve(self, number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    @lm.method()
    def die(self, name: Any = "") -> Any:
        """Dies the first time that any container of the folder is asked to."""
        self.folder.note(f"dies-{name}")
        if self.folder.count(f"dies-{name}") == 1:
            os._exit(3)
        return name

    @lm.method()
    def say(self, name: Any) -> Any:
        print(f"{name} begins")
        self.hold(name)
        print(f"{name} ends")
        return name

    @lm.method()
    def unpicklable(self) -> Any:
        self.folder.note("unpicklable")
        return threading.Lock()

    # --- generators ------------------------------------------------------------------------

    @lm.method()
    def count(self, to: int, fail: bool = False) -> Iterator[int]:
        yield from range(to)
        if fail:
            raise LookupError(f"after {to}")

    @lm.method()
    def steps(self, name: Any, to: int = 1 << 60) -> Iterator[int]:
        """Yields a number for each ``go-NAME`` that the test notes; says when it was closed."""
        try:
            for number in range(to):
                self.folder.note(f"step-{name}")
                self.folder.wait(f"go-{name}", number + 1)
                yield number
        except GeneratorExit:
            self.folder.note(f"closed-{name}")
            raise
        except KeyboardInterrupt:
            self.folder.note(f"interrupted-{name}")
            raise
        finally:
            self.folder.note(f"finally-{name}")

    @lm.method()
    async def steps_async(self, name: Any, to: int = 1 << 60) -> AsyncIterator[int]:
        try:
            for number in range(to):
                self.folder.note(f"step-{name}")
                while self.folder.count(f"go-{name}") <= number:
                    await asyncio.sleep(0.005)
                yield number
        finally:
            self.folder.note(f"finally-{name}")

    @lm.method()
    def endless(self, name: Any) -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.folder.note(f"finally-{name}")

    @lm.method()
    def deaf_steps(self, name: Any) -> Iterator[int]:
        """Yields once, and then ignores everything."""
        yield 0
        while True:
            self.folder.note(f"deaf-{name}")
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(600)

    @lm.method()
    def yields_what_cannot_travel(self) -> Iterator[Any]:
        yield 1
        yield threading.Lock()


@contextlib.contextmanager
def time_limit(method: Any, seconds: float) -> Iterator[None]:
    """Give the calls in here a ``timeout``, by a method of their class.

    The others of a test may take their time on a busy machine.
    """
    from handle_state import pool_of  # here, for the rest of this module travels into containers

    pool = pool_of(method)
    before, pool.timeout = pool.timeout, seconds
    yield
    pool.timeout = before


def compile_again(cls: type) -> None:
    """Make a class of a test's function what a cell makes when it is run again: of new code."""
    for value in vars(cls).values():
        if isinstance(value, FunctionType):
            value.__code__ = value.__code__.replace()


class Site:
    """A test's own app and folder. ``instance`` is `Work`, or another class, with options."""

    def __init__(self, app: lm.App, folder: Path) -> None:
        self.app = app
        self.folder = Folder(str(folder))

    def cls(self, cls: type = Work, **options: Any) -> Any:
        compile_again(cls)
        volumes = {self.folder.path: lm.Volume.from_path(self.folder.path)}
        return self.app.cls(cls, volumes=volumes, **options)

    def instance(self, cls: type = Work, **options: Any) -> Any:
        return self.cls(cls, **options)(self.folder.path)

    def go(self, *names: Any) -> None:
        for name in names:
            self.folder.note(f"go-{name}")
