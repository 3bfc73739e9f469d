"""The handle of an instance, which lives in containers; it creates nothing by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.callers.with_aio import with_thread
from lifecycle_magic.decorators.travel import travel_object
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.attributes import on_instance
from lifecycle_magic.handles.local_instance import LocalInstance
from lifecycle_magic.handles.methods import Method
from lifecycle_magic.modal_api.table import old_spelling, refuse
from lifecycle_magic.named.handle_transfer import make_instance, to_another_session
from lifecycle_magic.pool.autoscaler import update_autoscaler
from lifecycle_magic.spec.class_spec import ClassSpec, MethodSpec

if TYPE_CHECKING:
    from lifecycle_magic.handles.cls import Cls
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.web.site import ServedAddress

__all__ = ["Obj", "short_repr"]

Self = TypeVar("Self")


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
            if not hasattr(spec.cls, name):
                if name == "update_autoscaler":
                    return with_thread(self._update_autoscaler)
                if name == "keep_warm":
                    return with_thread(self._keep_warm)
                refuse("Obj", name)
            return on_instance(spec, name, self._cls, self._args, self._kwargs, self._local)
        bound = self.__dict__[name] = self._method(name)
        return bound

    def _method(self, name: str) -> Method:
        spec = self._cls._spec
        return Method(
            name,
            lambda: self._newest(name),
            spec.name if spec.is_function else f"{spec.name}().{name}",
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
            pool = own["_found"] = self._cls._entry.service().open_pool(self._args, self._kwargs)
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

    def _keep_warm(self, warm_pool_size: int) -> None:
        old_spelling("Obj", "keep_warm")
        self._update_autoscaler(min_containers=warm_pool_size)

    def _address(self, method: str) -> ServedAddress:
        served: ServedAddress = self._cls._entry.service().open_address(
            method, self._args, self._kwargs
        )
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
        self._refuse(f"{name} = {short_repr(value)}")

    def __delattr__(self, name: str) -> None:
        self._refuse(f"{name} (del)")

    def _refuse(self, statement: str) -> None:
        name = self._cls._spec.name
        raise InvalidError(
            f"{name}().{statement}: this is a handle, and the instance lives in its container. "
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
        return travel_object, (cls._spec.cls, self._args, self._kwargs, cls._entry.publish())

    def __repr__(self) -> str:
        given = [repr(value) for value in self._args]
        given += [f"{name}={value!r}" for name, value in self._kwargs.items()]
        return f"<{self._cls._spec.name}({', '.join(given)}) in containers>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self)}  # IPython would read it from __class__, the plain class


def short_repr(value: Any) -> str:
    """Return the repr of a value, cut to 60 characters, for a message."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
