"""What the user holds: the handle of a class, of an instance, of a function.

    Model            Cls      in the place of the class in the namespace
    Model("small")   Obj      an instance that lives in containers; makes nothing by itself
    .predict         Method   .remote(...), .local(...), ...: see `lifecycle_magic.methods`

A handle travels into a container as the plain class it stands for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.hooks import instantiate, travel
from lifecycle_magic.methods import Method
from lifecycle_magic.spec import ClassSpec

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.web.site import Served


class Find(Protocol):
    """How a handle comes to its service: `lifecycle_magic.session.Lookup`."""

    def __call__(self) -> Service: ...
    def variant(self, spec: ClassSpec) -> Find: ...


class Cls:
    """The handle of a lifecycle class.

    ``find`` returns its service, opening a session if need be; its ``variant`` does so for the
    class with other options.
    """

    def __init__(self, spec: ClassSpec, find: Find) -> None:
        self._spec = spec
        self._find = find
        self.__name__ = spec.name
        self.__qualname__ = spec.cls.__qualname__
        self.__module__ = spec.module
        self.__doc__ = spec.cls.__doc__
        self.__wrapped__ = spec.cls

    def __call__(self, *args: Any, **kwargs: Any) -> Obj:
        """An instance; wrong constructor arguments raise `InvalidError` here and now."""
        self._spec.arguments(args, kwargs)
        return Obj(self, args, kwargs)

    def with_options(self, **options: Any) -> Cls:
        """The same class with other options, and with containers of its own.

        >>> Model.with_options(cpu=4, timeout=60)().predict.remote(x)  # doctest: +SKIP
        """
        spec = self._spec
        changed = dataclasses.replace(spec, options=spec.options.replace(spec.name, **options))
        return Cls(changed, self._find.variant(changed))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._spec.cls,)  # a class may inherit from a decorated one

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        spec = self._spec
        if name in spec.methods:
            return Unbound(spec.name, name)
        return getattr(spec.cls, name)  # a class variable or static method: the plain class's

    def __reduce__(self) -> tuple[Any, ...]:
        return travel, (self._spec.cls,)

    def __repr__(self) -> str:
        return f"<lifecycle class {self._spec.name}: {', '.join(self._spec.methods)}>"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._spec.methods]


class Unbound:
    """A method looked up on the class: there is nothing to call it on, and it says so."""

    def __init__(self, cls: str, method: str) -> None:
        self._message = (
            f"{cls}.{method} needs an instance: write {cls}().{method}, with brackets after {cls}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InvalidError(self._message)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(self._message)


class Obj:
    """An instance of a lifecycle class: equal arguments share warm containers."""

    def __init__(self, cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self._args = args
        self._kwargs = kwargs
        self._found: Pool | None = None
        self._here: Any = None
        self._here_lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        spec = self._cls._spec
        method = spec.methods.get(name)
        if method is None:
            return self._not_remote(name)
        bound = self.__dict__[name] = Method(
            method,
            f"{spec.name}().{name}",
            self._pool,
            self._local,
            self._local_async,
            self._ready,
            self._address,
        )
        return bound

    def _not_remote(self, name: str) -> Any:
        spec = self._cls._spec
        if name in (*spec.enter, *spec.exit, *spec.build):
            raise InvalidError(
                f"{spec.name}.{name} is a hook: the container runs it. "
                "To call it yourself, add @method above it."
            )
        if not hasattr(spec.cls, name):
            raise AttributeError(
                f"{spec.name} has no method {name}; it has {', '.join(spec.methods) or 'none'}. "
                "What enter puts on self lives in the container: read it with a @method."
            )
        return getattr(self._local(), name)

    def _pool(self) -> Pool:
        pool = self._found
        if pool is None or pool.stale:
            pool = self._found = self._cls._find().pool(self._args, self._kwargs)
        return pool

    def _ready(self) -> Pool | None:
        """The pool if finding it takes no time."""
        pool = self._found
        return pool if pool is not None and not pool.stale else None

    def _address(self, method: str) -> Served:
        return self._cls._find().address(method, self._args, self._kwargs)

    # --- here, in this process -------------------------------------------------------------

    def _local(self) -> Any:
        """The instance of this process, with ``enter`` run once; its ``exit`` never runs."""
        with self._here_lock:
            if self._here is not None:
                return self._here
            instance: Any = instantiate(self._cls._spec.cls, self._args, self._kwargs)
            for name in self._cls._spec.enter:
                value = getattr(instance, name)()
                if asyncio.iscoroutine(value):
                    _run_aside(value)
            self._here = instance
            return instance

    async def _local_async(self) -> Any:
        """`_local` for a coroutine: async hooks run on the loop that runs already."""
        if self._here is None:
            instance: Any = instantiate(self._cls._spec.cls, self._args, self._kwargs)
            for name in self._cls._spec.enter:
                value = getattr(instance, name)()
                if asyncio.iscoroutine(value):
                    await value
            self._here = instance
        return self._here

    def __reduce__(self) -> tuple[Any, ...]:
        return instantiate, (self._cls._spec.cls, self._args, self._kwargs)

    def __repr__(self) -> str:
        given = [repr(value) for value in self._args]
        given += [f"{name}={value!r}" for name, value in self._kwargs.items()]
        return f"<{self._cls._spec.name}({', '.join(given)}) in containers>"


def _run_aside(coroutine: Any) -> Any:
    """Run a coroutine to its end although this thread may be running an event loop, as a
    notebook's does.
    """
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


class Function:
    """The handle of an ``@app.function``: a method without a class."""

    def __init__(self, cls: Cls, wrapped: Callable[..., Any]) -> None:
        self._cls = cls
        method: Method = cls().call
        for way in ("remote", "remote_gen", "map", "starmap", "for_each", "spawn"):
            setattr(self, way, getattr(method, way))
        self._method = method
        self.local = wrapped
        self.__wrapped__ = wrapped
        self.__name__ = wrapped.__name__
        self.__doc__ = wrapped.__doc__

    @property
    def web_url(self) -> str:
        """The address of a function that answers HTTP."""
        return self._method.web_url

    def get_web_url(self) -> str:
        """The same as a call, as Modal has it."""
        return self._method.web_url

    @property
    def web_token(self) -> str | None:
        """The bearer token that its address asks for, if it does."""
        return self._method.web_token

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__
        raise InvalidError(
            f"{name}(...) does not say where to run: write {name}.remote(...) or {name}.local(...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return travel, (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<lifecycle function {self.__name__}>"
