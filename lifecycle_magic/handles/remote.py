"""The handles in user code: of a class, of an instance and of a function.

    Model            Cls      replaces the class in its namespace
    Model("small")   Obj      an instance that lives in containers; creates nothing by itself
    .predict         Method   .remote(...), .local(...), ...: see `lifecycle_magic.handles.methods`

A handle stands for the newest declaration of its name. In the container of its class it arrives as
that class, in another container as a handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lifecycle_magic.callers.with_aio import CallWithAio, with_thread
from lifecycle_magic.decorators.hooks import batch_marks, concurrent_marks
from lifecycle_magic.decorators.http_server import SERVE
from lifecycle_magic.decorators.travel import travel_class, travel_function, travel_object
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.attributes import on_class, on_instance
from lifecycle_magic.handles.local_instance import LocalInstance
from lifecycle_magic.handles.methods import Method
from lifecycle_magic.named.crossing import make_instance, reduce_by_name, to_another_session
from lifecycle_magic.named.handles import (
    NamedFunction,
    named_class,
    named_function,
)
from lifecycle_magic.pool.autoscaler import update_autoscaler
from lifecycle_magic.spec.class_spec import CALL, RESERVED, ClassSpec, MethodSpec
from lifecycle_magic.spec.input_changes import NO_CHANGES, InputChanges
from lifecycle_magic.spec.option_types import OptionTypes, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.web.site import ServedAddress

Self = TypeVar("Self")

_URLS: dict[str, Callable[[str], Any]] = {
    "get_url": lambda url: url,
    "_experimental_get_flash_urls": lambda url: [url],
}
"""What a class with ``@http_server`` answers to: the address of its server, in two forms."""


class ServiceResolver(Protocol):
    """The resolver of a handle's name: see `lifecycle_magic.session.registry`."""

    key: str

    @property
    def spec(self) -> ClassSpec:
        """Return the newest declaration."""

    def __call__(self) -> Service:
        """Return the service that runs it, in a session that is opened if necessary."""

    def settle(self) -> None:
        """Make the declaration final, if it is open."""

    def variant(
        self, options: dict[str, Any], changes: InputChanges = NO_CHANGES
    ) -> ServiceResolver:
        """Return the resolver of the class with other options or marks of its methods."""

    def change(self, change: Callable[[type], None], said: str) -> None:
        """Change the class if its declaration is open, otherwise raise `InvalidError`."""

    def has_made(self, cls: type) -> bool:
        """Return whether ``cls`` is, or derives from, a class declared under this name."""

    def hold(self, handle: Cls) -> None:
        """Remember a handle of this name while it exists."""

    def publish(self) -> str:
        """Let containers call the class by its key, and return the key."""

    def publish_name(self) -> str:
        """Let other sessions call the class. Return its name there, as ``app/name``.

        Empty if its app has no name.
        """


class _FromName:
    """`Cls.from_name`. On a handle it is the class's own attribute of this name, if it has one."""

    def __get__(self, handle: Cls | None, owner: type[Cls]) -> Any:
        if handle is not None and hasattr(handle._spec.cls, "from_name"):
            return on_class(handle._spec, "from_name", handle)
        return named_class


class Cls:
    """The handle of a lifecycle class. It has the class's attributes, and makes `Obj` instances."""

    def __init__(self, find: ServiceResolver) -> None:
        cls = find.spec.cls
        set_own = object.__setattr__  # __setattr__ changes the class
        set_own(self, "_find", find)
        set_own(self, "__name__", cls.__name__)
        set_own(self, "__qualname__", cls.__qualname__)
        set_own(self, "__module__", cls.__module__)
        set_own(self, "__doc__", cls.__doc__)
        find.hold(self)

    @property
    def _spec(self) -> ClassSpec:
        spec: ClassSpec = self._find.spec
        return spec

    def __call__(self, *args: Any, **kwargs: Any) -> Obj:
        """Return an instance. Wrong constructor arguments raise `InvalidError` at once."""
        self._spec.arguments(args, kwargs)
        return Obj(self, args, kwargs)

    @takes_options
    def with_options(self, **options: Unpack[OptionTypes]) -> Cls:
        """Return the same class with other options and containers of its own.

        >>> Model.with_options(cpu=4, timeout=60)().predict.remote(x)  # doctest: +SKIP
        """
        return Cls(self._find.variant(dict(options)))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls:
        """Return the same class with ``@concurrent`` of these numbers, and containers of its own.

        >>> Model.with_concurrency(max_inputs=8)().predict.remote(x)  # doctest: +SKIP
        """
        marks = concurrent_marks("with_concurrency", max_inputs, target_inputs)
        return Cls(self._find.variant({}, InputChanges(concurrent=marks)))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls:
        """Return the same class with ``@batched`` of these numbers, and containers of its own.

        It counts for the methods with ``@batched``; without any, for the class's only method, which
        then gets lists. Raises `InvalidError` if there is no such method.

        >>> Model.with_batching(max_batch_size=8, wait_ms=50)().predict.remote(x)  # doctest: +SKIP
        """
        marks = batch_marks("with_batching", max_batch_size, wait_ms)
        return Cls(self._find.variant({}, InputChanges(batched=marks)))

    from_name = _FromName()

    # --- as a class ------------------------------------------------------------------------

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._spec.cls,)  # a class may inherit from a decorated one

    def __instancecheck__(self, instance: Any) -> bool:
        if isinstance(instance, Obj):
            return bool(self._find.has_made(instance._cls._spec.cls))
        return bool(self._find.has_made(instance.__class__))

    def __subclasscheck__(self, cls: Any) -> bool:
        plain = cls._spec.cls if isinstance(cls, Cls) else cls
        return issubclass(plain, self._spec.cls) or bool(self._find.has_made(plain))

    def __or__(self, other: Any) -> Any:
        return self._spec.cls | (other._spec.cls if isinstance(other, Cls) else other)

    def __ror__(self, other: Any) -> Any:
        return other | self._spec.cls

    def __getitem__(self, item: Any) -> Any:
        return self._spec.cls[item]  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cls):
            return NotImplemented
        return bool(self._find.key == other._find.key)

    def __hash__(self) -> int:
        return hash(self._find.key)

    def __getattr__(self, name: str) -> Any:
        if name in _URLS and SERVE in self._spec.methods and not hasattr(self._spec.cls, name):
            shape = _URLS[name]
            return with_thread(lambda: shape(getattr(self(), SERVE).web_url))
        return on_class(self._spec, name, self)

    def __setattr__(self, name: str, value: Any) -> None:
        said = f"{self.__name__}.{name} = {_short(value)}"
        self._find.change(lambda cls: setattr(cls, name, value), said)

    def __delattr__(self, name: str) -> None:
        self._find.change(lambda cls: delattr(cls, name), f"del {self.__name__}.{name}")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        """The class's own attributes, for a decorator that is called on the handle."""
        return self._spec.cls.__dict__

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._spec.cls), *RESERVED})

    # --- as a value ------------------------------------------------------------------------

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if to_another_session.get():
            return reduce_by_name(self.__name__, self._find.publish_name(), False)
        return travel_class, (self._spec.cls, self._find.publish())

    def __repr__(self) -> str:
        return f"<lifecycle class {self._spec.name}: {', '.join(self._spec.methods)}>"


class Obj:
    """An instance of a lifecycle class. Instances with equal arguments share warm containers."""

    def __init__(self, cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        own = self.__dict__  # __setattr__ refuses
        own["_cls"] = cls
        own["_args"] = args
        own["_kwargs"] = kwargs
        own["_found"] = own["_declared"] = None

    def __getattr__(self, name: str) -> Any:
        spec: ClassSpec = self._cls._spec
        method = spec.methods.get(name)
        if method is None:
            if name == "update_autoscaler" and not hasattr(spec.cls, name):
                return with_thread(self._update_autoscaler)
            return on_instance(spec, name, self._cls, self._args, self._kwargs, self._local)
        bound = self.__dict__[name] = self._method(name)
        return bound

    def _method(self, name: str) -> Method:
        return Method(
            name,
            lambda: self._newest(name),
            f"{self._cls._spec.name}().{name}",
            self._pool,
            lambda: self._local().get(),
            lambda: self._local().get_async(),
            self._ready,
            self._address,
            lambda: (getattr, (self, name)),
        )

    def _newest(self, name: str) -> MethodSpec:
        """Return the current declaration of a method, which existed when the handle was made."""
        spec: ClassSpec = self._cls._spec
        method = spec.methods.get(name)
        if method is None:
            raise InvalidError(
                f"{spec.name} has no method {name} since it was declared again; "
                f"it has {', '.join(spec.methods) or 'none'}. Fix: call one of these"
            )
        return method

    def _pool(self) -> Pool:
        pool = self._ready()
        if pool is None:
            own = self.__dict__
            pool = own["_found"] = self._cls._find().pool(self._args, self._kwargs)
            own["_declared"] = pool.declared
        return pool

    def _ready(self) -> Pool | None:
        """Return the pool if it is still the one of the current declaration, otherwise None."""
        pool: Pool | None = self._found
        if pool is None or pool.stale or pool.declared is not self._declared:
            return None
        return pool

    def _update_autoscaler(self, **changes: Any) -> None:
        """Change how many containers there are, until the class is declared again."""
        update_autoscaler(self._pool(), changes)

    def _address(self, method: str) -> ServedAddress:
        served: ServedAddress = self._cls._find().address(method, self._args, self._kwargs)
        return served

    def _local(self) -> LocalInstance:
        made: LocalInstance | None = self.__dict__.get("_here")
        if made is None:
            new = LocalInstance(lambda: self._cls._spec, self._args, self._kwargs)
            # two threads may race here; the first one wins
            made = self.__dict__.setdefault("_here", new)
        return made

    # --- as an instance --------------------------------------------------------------------

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The plain class: ``isinstance`` holds for it and its bases."""
        return self._cls._spec.cls

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse(f"{name} = {_short(value)}")

    def __delattr__(self, name: str) -> None:
        self._refuse(f"{name} (del)")

    def _refuse(self, said: str) -> None:
        name = self._cls._spec.name
        raise InvalidError(
            f"{name}().{said}: this is a handle, and the instance lives in its container. "
            f"Fix: pass the value to {name}(...), or set it on self in a @method"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        spec: ClassSpec = self._cls._spec
        name = next(iter(spec.methods), "method")
        raise InvalidError(
            f"{spec.name}() is a handle and can't be called itself. "
            f"Fix: write {spec.name}().{name}.remote(...); "
            "for a __call__ of the class, add a @method that calls self(...)"
        )

    def __dir__(self) -> list[str]:
        spec: ClassSpec = self._cls._spec
        return sorted({*spec.methods, *spec.instance_attributes.arguments})

    # --- as a value ------------------------------------------------------------------------

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        cls = self._cls
        if to_another_session.get():
            return make_instance, (cls, self._args, self._kwargs)
        return travel_object, (cls._spec.cls, self._args, self._kwargs, cls._find.publish())

    def __repr__(self) -> str:
        given = [repr(value) for value in self._args]
        given += [f"{name}={value!r}" for name, value in self._kwargs.items()]
        return f"<{self._cls._spec.name}({', '.join(given)}) in containers>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self)}  # IPython would read it from __class__, the plain class


class Function:
    """The handle of an ``@app.function``: a method without a class."""

    def __init__(self, cls: Cls, wrapped: Callable[..., Any]) -> None:
        self._cls = cls
        method: Method = cls().call
        for way in ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map"):
            setattr(self, way, getattr(method, way))
        self._method = method
        method.reduced = self.__reduce__
        self.__name__ = wrapped.__name__
        self.__qualname__ = wrapped.__qualname__
        self.__module__ = wrapped.__module__
        self.__doc__ = wrapped.__doc__

    @takes_options
    def with_options(self, **options: Unpack[OptionTypes]) -> Function:
        """Return the same function with other options and containers of its own.

        >>> square.with_options(cpu=4, timeout=60).remote(2)  # doctest: +SKIP
        """
        return Function(self._cls.with_options(**options), self.local)

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Function:
        """Return the same function with ``@concurrent`` of these numbers.

        >>> square.with_concurrency(max_inputs=8).remote(2)  # doctest: +SKIP
        """
        changed = self._cls.with_concurrency(max_inputs=max_inputs, target_inputs=target_inputs)
        return Function(changed, self.local)

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function:
        """Return the same function with ``@batched`` of these numbers: it gets lists.

        >>> square.with_batching(max_batch_size=8, wait_ms=50).remote(2)  # doctest: +SKIP
        """
        changed = self._cls.with_batching(max_batch_size=max_batch_size, wait_ms=wait_ms)
        return Function(changed, self.local)

    @property
    def update_autoscaler(self) -> CallWithAio:
        """Change how many containers there are, until the function is declared again.

        >>> square.update_autoscaler(min_containers=1, max_containers=4)  # doctest: +SKIP
        """
        found: CallWithAio = self._cls().update_autoscaler
        return found

    @property
    def is_generator(self) -> bool:
        """Whether the function yields its values."""
        return self._cls._spec.methods[CALL].is_generator

    def get_raw_f(self) -> Callable[..., Any]:
        """Return the plain function, as ``local`` does."""
        return self.local

    @staticmethod
    def from_name(app_name: str, name: str, **unused: object) -> NamedFunction:
        """Return a handle of the function ``name`` of the app ``app_name``: see `Cls.from_name`.

        >>> Function.from_name("demo", "square").remote(3)  # doctest: +SKIP
        9
        """
        return named_function(app_name, name, **unused)

    @property
    def local(self) -> Callable[..., Any]:
        """The plain function, which runs in this process."""
        function: Callable[..., Any] = vars(self._cls._spec.cls)[CALL].__func__
        return function

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # not a property, as `inspect` would find it on the class too
            return self.local
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{self.__name__} is an @app.function and has no {name}")

    @property
    def web_url(self) -> str:
        """The address of a function that answers HTTP."""
        return self._method.web_url

    @property
    def get_web_url(self) -> CallWithAio:
        """Return `web_url`, as a call, as in Modal."""
        return self._method.get_web_url

    @property
    def get_current_stats(self) -> CallWithAio:
        """Return how many inputs wait, and how many containers there are."""
        return self._method.get_current_stats

    @property
    def web_token(self) -> str | None:
        """The bearer token that the address requires, or None."""
        return self._method.web_token

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__
        raise InvalidError(
            f"{name}(...) does not say where to run. "
            f"Fix: write {name}.remote(...) or {name}.local(...)"
        )

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if to_another_session.get():
            return reduce_by_name(self.__name__, self._cls._find.publish_name(), True)
        return travel_function, (self.local, self._cls._find.publish())

    def __repr__(self) -> str:
        return f"<lifecycle function {self.__name__}>"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
