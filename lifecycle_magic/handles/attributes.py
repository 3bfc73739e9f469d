"""The attributes of a handle, read from the class and the arguments without running a hook.

A value is returned if it is certain. For a value that only exists in the container, an error names
the fix.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import ATTRIBUTE
from lifecycle_magic.decorators.parameters import MISSING, Parameter
from lifecycle_magic.decorators.travel import travel
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_spec import ClassSpec

if TYPE_CHECKING:
    from lifecycle_magic.handles.local_instance import LocalInstance

__all__ = ["Unbound", "on_class", "on_instance"]

WAYS = (
    *("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map"),
    *("web_url", "get_web_url"),
)


class NotReadable(InvalidError, AttributeError):
    """An attribute that a handle does not have: `hasattr` is False, and the message names
    the fix.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidError, self.args


class Missing(NotReadable):
    """An attribute that neither the class nor its arguments have; shown as a plain
    AttributeError.
    """


NotReadable.__name__ = "InvalidError"
Missing.__name__ = "AttributeError"


class Unbound:
    """A method looked up on the class, without an instance to call it on. Any use raises."""

    def __init__(self, cls: str, method: str, function: Any) -> None:
        self._message = (
            f"{cls}.{method} needs an instance. "
            f"Fix: write {cls}().{method}, with brackets after {cls}"
        )
        self.__name__ = method
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InvalidError(self._message)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(self._message)

    def __reduce__(self) -> tuple[Any, ...]:
        return travel, (self.__wrapped__,)


class Plain:
    """A function of the class that is not a ``@method``: calling it in a container raises
    an error.

    Calling the object itself runs ``call``. With ``local``, the function can be run in this
    process, on an instance.
    """

    def __init__(
        self,
        where: str,
        function: Any,
        call: Callable[..., Any],
        local: Callable[..., Any] | None = None,
    ) -> None:
        self._where = where
        self._call = call
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", where)
        self.__doc__ = function.__doc__
        if local is not None:
            self.local = local

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in WAYS:
            raise NotReadable(
                f"{self._where}.{name}: {self._where} is a plain method. "
                f"Fix: add @lm.method() above def {self.__name__}"
            )
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return travel, (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<plain method {self._where}>"


def on_class(spec: ClassSpec, name: str, handle: Any) -> Any:
    """Return the attribute ``name`` of the handle of a class."""
    cls = spec.cls
    if name == "__wrapped__":
        return cls
    if name == "__signature__":
        return spec.constructor.signature
    if name.startswith(("_repr_", "_ipython_")):
        raise AttributeError(name)  # IPython asks instances for these
    if name == ATTRIBUTE:
        # A class whose attribute this handle is would have a method with the marks of a class.
        raise AttributeError(name)
    value = _static(cls, name)
    if name in spec.methods:
        return Unbound(spec.name, name, value)
    if isinstance(value, (FunctionType, staticmethod)) and not name.startswith("__"):
        function = getattr(value, "__func__", value)
        return Plain(f"{spec.name}.{name}", function, function)
    if isinstance(value, classmethod):
        return _bound(spec, name, value, handle)
    return getattr(cls, name)


def on_instance(
    spec: ClassSpec,
    name: str,
    handle: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    local: Callable[[], LocalInstance],
) -> Any:
    """Return the attribute ``name``, not a method, of an instance made with these arguments.

    Raises an `InvalidError` that is also an AttributeError if only the container has the value.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    where = f"{spec.name}().{name}"
    if name in (*spec.enter, *spec.exit, *spec.build):
        raise NotReadable(
            f"{spec.name}.{name} is a hook: the container runs it. "
            "Fix: to call it yourself, add @method above it"
        )
    attributes = spec.instance_attributes
    if name in attributes.arguments:
        given = spec.constructor.given(args, kwargs)
        return given[attributes.arguments[name]]
    value = _static(spec.cls, name)
    if value is MISSING or name in attributes.written:
        raise _unknown(spec, name, value)
    if isinstance(value, (property, functools.cached_property)):
        raise NotReadable(
            f"{where} is a property, and needs the instance in its container. "
            f"Fix: read it in a method, as in\n"
            f"    @lm.method()\n    def get_{name}(self): return self.{name}"
        )
    if isinstance(value, FunctionType):
        return Plain(where, value, _refusal(where, name), lambda *a, **k: _here(local, name, a, k))
    if isinstance(value, staticmethod):
        return Plain(where, value.__func__, value.__func__, value.__func__)
    if isinstance(value, classmethod):
        return _bound(spec, name, value, handle)
    if isinstance(value, Parameter):  # init=False: no caller passes it
        if value.default is MISSING:
            raise _unknown(spec, name, value)
        return value.default  # nothing in the class sets it
    if hasattr(type(value), "__get__") and not is_class(value):
        raise NotReadable(
            f"{where} is a {type(value).__name__}, and needs the instance in its container. "
            "Fix: use it in a @method, and call that with .remote(...)"
        )
    return value


def _static(cls: type, name: str) -> Any:
    """Return the class's own value of ``name``, without calling a descriptor."""
    for owner in cls.__mro__:
        if name in vars(owner):
            return vars(owner)[name]
    return MISSING


def _unknown(spec: ClassSpec, name: str, value: Any) -> NotReadable:
    fix = f"Fix: read it in a @method, as in def get_{name}(self): return self.{name}"
    if name in spec.instance_attributes.written or isinstance(value, Parameter):
        return NotReadable(
            f"{spec.name}().{name} is set while the instance runs, so only its container has it. "
            f"{fix}"
        )
    return Missing(
        f"{spec.name} has no method {name}; it has {', '.join(spec.methods) or 'none'}. "
        "Attributes that enter sets on self are in the container. Fix: read them with a @method"
    )


def _refusal(where: str, name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise InvalidError(
            f"{where}(...) is a plain method, and the instance lives in its container. "
            f"Fix: add @lm.method() above def {name} and call {where}.remote(...), "
            f"or run it in this process with {where}.local(...)"
        )

    return refuse


def _here(
    local: Callable[[], LocalInstance], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return getattr(local().get(), name)(*args, **kwargs)


def _bound(spec: ClassSpec, name: str, value: Any, handle: Any) -> Any:
    """Return a class method, bound to the handle: ``cls(...)`` in it also makes a handle."""
    function = value.__func__
    code = getattr(function, "__code__", None)
    # super() without arguments only accepts a class.
    owner = spec.cls if code is None or "__class__" in code.co_freevars else handle
    bound = function.__get__(owner, type(owner))
    return Plain(f"{spec.name}.{name}", function, bound, bound)
