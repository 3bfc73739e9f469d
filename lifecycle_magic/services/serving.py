"""The web addresses of one class: which are open, and which pool answers their requests."""

from __future__ import annotations

import contextvars
import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool.printing import show
from lifecycle_magic.spec.class_spec import CALL, ClassSpec
from lifecycle_magic.spec.query_arguments import read_query, takes_query
from lifecycle_magic.web import address
from lifecycle_magic.web.site import ServedAddress, Site
from lifecycle_magic.web.target import Target, TooManyInstances

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

MAX_RUNNING_INSTANCES = 16
"""The most instances of one address that queries chose and that have containers."""

MAX_INSTANCES = 1024
"""The most instances that queries may choose at one address. Each keeps a little memory."""


@dataclass
class _OpenAddress:
    """One open address: a web method of instances made with these arguments.

    ``chosen`` are the targets of instances that queries chose, by the keys of their arguments.
    """

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: contextvars.Context  # of the cell that shows the method's output
    spec: ClassSpec | None = None  # the version for which it was opened
    chosen: dict[str, tuple[Target, _Instance]] = field(default_factory=dict)

    @property
    def takes_any(self) -> bool:
        """Return whether the query of a request chooses the instance."""
        return not self.args and not self.kwargs


@dataclass
class _Instance:
    """The pool of one instance; ``is_opening`` until it was found."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    pool: Pool | None = None
    is_opening: bool = False

    def is_running(self) -> bool:
        """Return whether it has containers, or may get some now."""
        return self.is_opening or (self.pool is not None and bool(self.pool.containers))


class Serving:
    """The open addresses of one class.

    ``find_pool`` returns the pool for constructor arguments; ``app`` is part of the labels.
    """

    def __init__(
        self,
        app: str,
        site: Site,
        find_pool: Callable[[tuple[Any, ...], dict[str, Any]], Pool],
    ) -> None:
        self._app = app
        self._site = site
        self._find_pool = find_pool
        self._addresses: dict[str, _OpenAddress] = {}
        self._lock = threading.RLock()

    def served(self) -> list[ServedAddress]:
        """Return the open addresses."""
        found = [self._site.find(key) for key in list(self._addresses)]
        return [one for one in found if one is not None]

    def open(
        self, spec: ClassSpec, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ServedAddress:
        """Open the address of a web method, or return it if it is open; raises `InvalidError`.

        This starts no container: the first request does.
        """
        key = f"{id(self):x}/{_key(spec, args, kwargs)}/{method}"
        with self._lock:
            opened = self._addresses.get(key)
            if opened is None:
                opened = _OpenAddress(method, args, kwargs, contextvars.copy_context())
            opened.context = contextvars.copy_context()
            found = self._site.find(key)
            if found is not None and opened.spec is spec:
                return found
            served = self._open(key, opened, spec)
            self._addresses[key] = opened
            return served

    def open_all(self, spec: ClassSpec) -> list[ServedAddress]:
        """Open the addresses of all web methods, for instances made without arguments."""
        return [self.open(spec, name, (), {}) for name, _ in spec.web]

    def follow(self, spec: ClassSpec) -> None:
        """Move open addresses to new code; close those whose method or arguments it removed."""
        with self._lock:
            for key, opened in list(self._addresses.items()):
                try:
                    self._open(key, opened, spec)
                except InvalidError:  # the method was removed, or its arguments do not fit
                    self._close(key)

    def close(self) -> None:
        """Close every address."""
        with self._lock:
            for key in list(self._addresses):
                self._close(key)

    def _close(self, key: str) -> None:
        self._addresses.pop(key, None)
        self._site.withdraw(key)

    def _open(self, key: str, opened: _OpenAddress, spec: ClassSpec) -> ServedAddress:
        key_of_arguments = _key(spec, opened.args, opened.kwargs)
        method = spec.methods.get(opened.method)
        if method is None or method.web is None:
            raise InvalidError(f"{spec.name} has no web method {opened.method}")
        given = key_of_arguments[:6] if opened.args or opened.kwargs else ""
        own = "" if opened.method == CALL else opened.method
        label = method.web.label or address.label(self._app, spec.name, own)
        opened.chosen = {}  # the arguments may have other pools now
        served = self._site.serve(
            key, f"{label}-{given}" if given else label, self._target(opened, spec)
        )
        opened.spec = spec
        return served

    def _target(self, opened: _OpenAddress, spec: ClassSpec) -> Target:
        """Return the target of an address. If the class has parameters, queries may choose."""
        target = self._target_of(opened, spec, _Instance(opened.args, opened.kwargs))
        if not takes_query(spec):
            return target
        method = spec.methods[opened.method]
        fixed = None if opened.takes_any else spec.constructor.given(opened.args, opened.kwargs)
        chosen = opened.chosen

        def choose(query: str) -> Target:
            kwargs = read_query(spec, method, query, fixed)
            if fixed is not None or (not kwargs and not spec.constructor.needed()):
                return target
            key = spec.arguments((), kwargs).key
            found = chosen.get(key)
            if found is None or not found[1].is_running():
                running = sum(one.is_running() for _, one in chosen.values())
                if running >= MAX_RUNNING_INSTANCES:
                    raise TooManyInstances
            if found is None:
                if len(chosen) >= MAX_INSTANCES:
                    raise TooManyInstances
                instance = _Instance((), kwargs)
                made = dataclasses.replace(self._target_of(opened, spec, instance), instance=key)
                found = chosen[key] = made, instance
            return found[0]

        return dataclasses.replace(target, choose=choose)

    def _target_of(self, opened: _OpenAddress, spec: ClassSpec, instance: _Instance) -> Target:
        marks = spec.methods[opened.method].web
        assert marks is not None
        where = spec.name if opened.method == CALL else f"{spec.name}.{opened.method}"

        def find() -> Pool:
            instance.is_opening = True
            try:
                instance.pool = self._find_pool(instance.args, instance.kwargs)
            finally:
                instance.is_opening = False
            return instance.pool

        def ready() -> Pool | None:
            pool = instance.pool
            return pool if pool is not None and not pool.stale else None

        def show_output(stream: str, text: str) -> None:
            # A context can't be entered twice, and many requests print at the same time.
            opened.context.copy().run(show, stream, text)

        return Target(where, opened.method, marks, find, ready, show_output)


def _key(spec: ClassSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the key of constructor arguments; that of none if the query of a request has them."""
    if not args and not kwargs and takes_query(spec):
        return "query"
    return spec.arguments(args, kwargs).key
