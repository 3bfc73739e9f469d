"""The addresses of one class's web methods: which are open, and where their requests go."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pools.inputs import show
from lifecycle_magic.spec import CALL, ClassSpec
from lifecycle_magic.web import address
from lifecycle_magic.web.site import Served, Site
from lifecycle_magic.web.target import Target

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool


@dataclass
class _Door:
    """One open address: a method of the instances that are made with these arguments."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: contextvars.Context  # of the cell that shows what the method prints
    pool: Pool | None = None
    spec: ClassSpec | None = None  # as which it was opened


class Serving:
    """``find_pool`` returns the pool for constructor arguments; ``app`` is part of the labels."""

    def __init__(
        self,
        app: str,
        site: Site,
        find_pool: Callable[[tuple[Any, ...], dict[str, Any]], Pool],
    ) -> None:
        self._app = app
        self._site = site
        self._find_pool = find_pool
        self._doors: dict[str, _Door] = {}
        self._lock = threading.RLock()

    def served(self) -> list[Served]:
        """The addresses that are open."""
        found = [self._site.find(key) for key in list(self._doors)]
        return [one for one in found if one is not None]

    def open(
        self, spec: ClassSpec, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Served:
        """The address of a web method, opened if it is not; raises `InvalidError`.

        Nothing is started: a request starts what it needs.
        """
        key = f"{id(self):x}/{spec.arguments(args, kwargs).key}/{method}"
        with self._lock:
            door = self._doors.get(key)
            if door is None:
                door = _Door(method, args, kwargs, contextvars.copy_context())
            door.context = contextvars.copy_context()
            found = self._site.find(key)
            if found is not None and door.spec is spec:
                return found
            served = self._open(key, door, spec)
            self._doors[key] = door
            return served

    def open_all(self, spec: ClassSpec) -> list[Served]:
        """The addresses of every web method, for instances made without arguments."""
        return [self.open(spec, name, (), {}) for name, _ in spec.web]

    def follow(self, spec: ClassSpec) -> None:
        """The class has new code: what is open and still there follows it, the rest is closed."""
        with self._lock:
            for key, door in list(self._doors.items()):
                try:
                    self._open(key, door, spec)
                except InvalidError:  # the method is gone, or the arguments mean nothing any more
                    self._close(key)

    def close(self) -> None:
        """Close every address."""
        with self._lock:
            for key in list(self._doors):
                self._close(key)

    def _close(self, key: str) -> None:
        self._doors.pop(key, None)
        self._site.withdraw(key)

    def _open(self, key: str, door: _Door, spec: ClassSpec) -> Served:
        arguments = spec.arguments(door.args, door.kwargs)
        method = spec.methods.get(door.method)
        if method is None or method.web is None:
            raise InvalidError(f"{spec.name} has no web method {door.method}")
        given = arguments.key[:6] if door.args or door.kwargs else ""
        own = "" if door.method == CALL else door.method
        label = method.web.label or address.label(self._app, spec.name, own)
        served = self._site.serve(
            key, f"{label}-{given}" if given else label, self._target(door, spec)
        )
        door.spec = spec
        return served

    def _target(self, door: _Door, spec: ClassSpec) -> Target:
        marks = spec.methods[door.method].web
        assert marks is not None
        where = spec.name if door.method == CALL else f"{spec.name}.{door.method}"

        def find() -> Pool:
            door.pool = self._find_pool(door.args, door.kwargs)
            return door.pool

        def ready() -> Pool | None:
            pool = door.pool
            return pool if pool is not None and not pool.stale else None

        def tell(stream: str, text: str) -> None:
            # A context can't be entered twice, and many requests print at the same time.
            door.context.copy().run(show, stream, text)

        return Target(where, door.method, marks, find, ready, tell)
