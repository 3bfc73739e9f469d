"""The web addresses of one class: which are open, and which pool answers their requests."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool.printing import show
from lifecycle_magic.spec.class_spec import CALL, ClassSpec
from lifecycle_magic.web import address
from lifecycle_magic.web.site import ServedAddress, Site
from lifecycle_magic.web.target import Target

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool


@dataclass
class _OpenAddress:
    """One open address: a web method of instances made with these arguments."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: contextvars.Context  # of the cell that shows the method's output
    pool: Pool | None = None
    spec: ClassSpec | None = None  # the version for which it was opened


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
        key = f"{id(self):x}/{spec.arguments(args, kwargs).key}/{method}"
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
        arguments = spec.arguments(opened.args, opened.kwargs)
        method = spec.methods.get(opened.method)
        if method is None or method.web is None:
            raise InvalidError(f"{spec.name} has no web method {opened.method}")
        given = arguments.key[:6] if opened.args or opened.kwargs else ""
        own = "" if opened.method == CALL else opened.method
        label = method.web.label or address.label(self._app, spec.name, own)
        served = self._site.serve(
            key, f"{label}-{given}" if given else label, self._target(opened, spec)
        )
        opened.spec, opened.pool = spec, None  # the arguments may have another pool now
        return served

    def _target(self, opened: _OpenAddress, spec: ClassSpec) -> Target:
        marks = spec.methods[opened.method].web
        assert marks is not None
        where = spec.name if opened.method == CALL else f"{spec.name}.{opened.method}"

        def find() -> Pool:
            opened.pool = self._find_pool(opened.args, opened.kwargs)
            return opened.pool

        def ready() -> Pool | None:
            pool = opened.pool
            return pool if pool is not None and not pool.stale else None

        def show_output(stream: str, text: str) -> None:
            # A context can't be entered twice, and many requests print at the same time.
            opened.context.copy().run(show, stream, text)

        return Target(where, opened.method, marks, find, ready, show_output)
