"""The instance that ``.local()`` uses: made in this process, with ``enter`` run once.

Its ``exit`` never runs. After the class is declared again, the next call makes a new instance.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from lifecycle_magic.decorators.direct_call import attach
from lifecycle_magic.decorators.marks import marks_of
from lifecycle_magic.decorators.parameters import instantiate
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles import local_names
from lifecycle_magic.spec.class_spec import ClassSpec

__all__ = ["LocalInstance"]


class LocalInstance:
    """The local instance of the class that ``spec`` returns, made when it is first needed."""

    def __init__(
        self, spec: Callable[[], ClassSpec], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._spec = spec
        self._args = args
        self._kwargs = kwargs
        self._made: Any = None
        self._entered = False
        self._lock = threading.RLock()
        self._task: asyncio.Task[Any] | None = None  # of an async caller, which runs enter

    def get(self) -> Any:
        """Return the instance. Async hooks run to their end, on a loop of their own if
        necessary.
        """
        with self._lock:
            found = self._ready()
            if found is not None:
                return found
            instance, spec = self._new()
            try:
                for name in spec.enter:
                    value = getattr(instance, name)()
                    if asyncio.iscoroutine(value):
                        _run_aside(value)
            except BaseException:
                self._made = None
                raise
            self._entered = True
            return instance

    async def get_async(self) -> Any:
        """Return the instance. Async hooks run on the running loop."""
        found = self._ready()
        if found is not None:
            return found
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.ensure_future(self._enter())
        return await asyncio.shield(task)

    async def _enter(self) -> Any:
        instance, spec = self._new()
        try:
            for name in spec.enter:
                value = getattr(instance, name)()
                if asyncio.iscoroutine(value):
                    await value
        except BaseException:
            self._made = None
            raise
        self._entered = True
        return instance

    def _ready(self) -> Any:
        """Return the instance if it has entered and belongs to the newest class."""
        if self._made is None or type(self._made) is not self._spec().cls:
            return None
        if not self._entered:
            raise InvalidError(
                f"{self._spec().name}: enter calls .local() of its own instance, which is not "
                "ready before enter returns. Fix: call the method on self"
            )
        return self._made

    def _new(self) -> tuple[Any, ClassSpec]:
        spec = self._spec()
        self._entered = False
        local_names.check(spec.cls)
        _attach(spec.cls)
        self._made = instantiate(spec.cls, self._args, self._kwargs)
        return self._made, spec


def _attach(cls: type) -> None:
    """Let the methods of a class call each other with ``self.method.local(...)``."""
    for owner in cls.__mro__[:-1]:
        for name, value in vars(owner).items():
            marks = None if isinstance(value, type) else marks_of(value)
            if marks is not None and marks.is_method and hasattr(value, "__dict__"):
                attach(owner, name, value)


def _run_aside(coroutine: Any) -> Any:
    """Run a coroutine to its end, even if this thread runs an event loop, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    result: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]
