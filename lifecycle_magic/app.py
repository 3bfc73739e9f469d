"""`App`: classes and functions that run in containers, without the cell magic.

    app = App()

    @app.cls(cpu=2)
    class Model: ...

    @app.local_entrypoint()
    def main():
        print(Model().predict.remote([1, 2, 3]))

``lifecycle-magic run script.py`` calls the entry point; ``with app.run():`` does it by hand.
Without either, in a notebook say, the first call starts what it needs, which stays until the
process ends.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.hooks import is_local
from lifecycle_magic.options import Options

if TYPE_CHECKING:
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session import Lookup
    from lifecycle_magic.spec import ClassSpec

T = TypeVar("T")


class App:
    """A group of classes and functions that are stopped together.

    ``name`` is for people. Options given here are the defaults of all its classes and functions.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError(
                f"App({name!r}): the name is a string; decorate classes with @app.cls()"
            )
        self.name = name
        self._defaults = options
        Options.make(
            f"App({name or ''})", **options
        )  # a mistake shows here, not at the first class
        self._specs: dict[str, ClassSpec] = {}
        self.entrypoints: dict[str, Callable[..., Any]] = {}

    def cls(self, _cls: Any = None, /, **options: Any) -> Any:
        """Decorate a class: ``@app.cls(cpu=2, memory=2048, ...)``. See
        `lifecycle_magic.options.Options`.

        Raises `InvalidError` for every mistake in the declaration.
        """

        def decorate(cls: Any) -> Any:
            if not isinstance(cls, type):
                raise InvalidError(
                    f"@app.cls goes above a class, not above {cls!r}; "
                    "for a function use @app.function"
                )
            if not is_local():
                return cls  # a module that declares its app is imported in the container too
            from lifecycle_magic.remote import Cls
            from lifecycle_magic.spec import read_class

            spec = read_class(cls, self._options(cls.__name__, options))
            return Cls(spec, self._declare(spec))

        return decorate if _cls is None else decorate(_cls)

    def function(self, _function: Any = None, /, **options: Any) -> Any:
        """Decorate a function: it gets ``.remote``, ``.local``, ``.spawn``."""

        def decorate(function: Any) -> Any:
            if not is_local():
                return function
            from lifecycle_magic.remote import Cls, Function
            from lifecycle_magic.spec import read_function

            spec = read_function(
                function, self._options(getattr(function, "__name__", "?"), options)
            )
            return Function(Cls(spec, self._declare(spec)), function)

        return decorate if _function is None else decorate(_function)

    def local_entrypoint(self, _function: Any = None, /) -> Any:
        """Mark the function that ``lifecycle-magic run`` calls; its parameters become
        command-line options.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            self.entrypoints[function.__name__] = function
            return function

        return decorate if _function is None else decorate(_function)

    @contextlib.contextmanager
    def run(self) -> Iterator[App]:
        """Containers that start inside the ``with`` are gone, with their ``exit`` run, when it
        ends.
        """
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """End every container of this app and wait until each has run its ``exit``."""
        from lifecycle_magic import session

        opened = session.opened()
        if opened is not None:
            keys = {self._key(name) for name in self._specs}
            names = [key for key in opened.services if key.partition("?")[0] in keys]
            session.wait_gone(opened.stop(names, "app.stop()"))

    def declared(self) -> Iterator[tuple[str, Service, ClassSpec]]:
        """Everything that was declared: its key in the session, its service, its declaration."""
        from lifecycle_magic.session import Lookup

        for name, spec in self._specs.items():
            key = self._key(name)
            yield key, Lookup(key, spec)(), spec

    # --- inside ----------------------------------------------------------------------------

    def _options(self, where: str, options: dict[str, Any]) -> Options:
        return Options.make(where, **{**self._defaults, **options})

    def _key(self, name: str) -> str:
        # Not by identity: a cell that is run again makes another App.
        return f"{self.name or ''}/{name}"

    def _declare(self, spec: ClassSpec) -> Lookup:
        from lifecycle_magic.session import Lookup

        self._specs[spec.name] = spec
        lookup = Lookup(self._key(spec.name), spec)
        lookup.declare()  # if a cell was run again
        return lookup


def run_entrypoint(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call an entry point, sync or async, with arguments from the command line."""
    value = function(**arguments)
    if inspect.iscoroutine(value):
        import asyncio

        return asyncio.run(value)
    return value
