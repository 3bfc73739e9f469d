"""Handles inside a container: of classes and functions that run in other containers.

A handle keeps the class itself, for class attributes, constructor arguments, ``isinstance``,
subclassing and ``.local()``, and the key by which the kernel's session finds what to call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import Marks, marks_of
from lifecycle_magic.decorators.parameters import instantiate
from lifecycle_magic.decorators.travel import travel_class, travel_function, travel_object
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest import own_class
from lifecycle_magic.guest.method_calls import CALL_METHODS, NO_ARGUMENTS, calls_of
from lifecycle_magic.guest.session_address import session

if TYPE_CHECKING:
    from lifecycle_magic.guest.session_connection import CallTarget

__all__ = ["ForeignClass", "ForeignFunction", "ForeignObject", "handle_of", "object_transport"]

_ADDRESSES = ("get_web_url", "web_url")


def object_transport() -> Any:
    """Return the module that sends requests to the session's queues and dictionaries."""
    from lifecycle_magic.guest import foreign_objects

    return foreign_objects


def handle_of(plain: type, key: str) -> Any:
    """Return the handle of a class. In its own container, that is the class itself."""
    for one in own_class.own_classes:
        if one is plain or (one.__module__, one.__qualname__) == (
            plain.__module__,
            plain.__qualname__,
        ):
            return one
    return ForeignClass(plain, key)


def own_of(plain: Any, key: str) -> Any:
    """Return the container's own class or function, or a handle of it with other options.

    The keys of one declaration differ in what follows a question mark.
    """
    if is_class(plain):
        own_class.note_key(plain, key)
    invitation = session()[0]
    own = key if invitation is None else invitation.key
    if own == key or own.partition("?")[0] != key.partition("?")[0]:
        return plain  # its own, or a class that it inherits from
    return ForeignClass(plain, key) if is_class(plain) else ForeignFunction(plain, key)


class ForeignClass:
    """The handle of a class that has containers of its own."""

    def __init__(self, plain: type, key: str = "") -> None:
        self.__wrapped__ = plain
        self._key = key
        self.__name__, self.__qualname__ = plain.__name__, plain.__qualname__
        self.__module__, self.__doc__ = plain.__module__, plain.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> ForeignObject:
        return ForeignObject(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.__wrapped__,)

    def __instancecheck__(self, instance: Any) -> bool:
        if isinstance(instance, ForeignObject):
            return self.__subclasscheck__(instance._cls)
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, cls: Any) -> bool:
        if isinstance(cls, ForeignClass) and cls._declared() == self._declared():
            return True  # declared again since one of the two arrived
        return issubclass(getattr(cls, "__wrapped__", cls), self.__wrapped__)

    def __or__(self, other: Any) -> Any:
        return self.__wrapped__ | getattr(other, "__wrapped__", other)

    def __ror__(self, other: Any) -> Any:
        return other | self.__wrapped__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForeignClass) and other._identity() == self._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> object:
        """Return what is equal for handles of one declaration, however often it has run."""
        return self._key or self.__wrapped__

    def _declared(self) -> object:
        """Return what is equal for handles of one name in the session, whatever their options."""
        return self._key.partition("?")[0] or self.__wrapped__

    def __reduce__(self) -> tuple[Any, ...]:
        return travel_class, (self.__wrapped__, self._key)

    def __repr__(self) -> str:
        return f"<lifecycle class {self.__name__}>"


class ForeignObject:
    """The handle of an instance that lives in other containers."""

    def __init__(self, cls: ForeignClass, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self._args = args
        self._kwargs = kwargs
        self._local_instance: Any = None
        self._pickled: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        plain = self._cls.__wrapped__
        marks = marks_of(getattr(plain, name, None))
        if marks is not None and marks.is_method:
            return _Method(self, name, marks)
        given = self._given()
        if name in given:
            return given[name]
        return getattr(plain, name)

    def _given(self) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        import inspect

        plain: Any = self._cls.__wrapped__
        if plain.__init__ is object.__init__:
            return dict(self._kwargs)
        bound = inspect.signature(plain).bind(*self._args, **self._kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _local(self) -> Any:
        """Return the instance of this process. ``enter`` runs once, ``exit`` never."""
        if self._local_instance is None:
            made: Any = instantiate(self._cls.__wrapped__, self._args, self._kwargs)
            for name in _hooks(type(made)):
                value = getattr(made, name)()
                if hasattr(value, "__await__"):
                    raise InvalidError(
                        f"{type(made).__name__}.{name} is async: .local() runs it in the kernel "
                        "only. Fix: make it a sync @enter method"
                    )
            self._local_instance = made
        return self._local_instance

    def _target(self, name: str) -> CallTarget:
        """Return what a call of the method reaches."""
        from lifecycle_magic.guest.session_connection import CallTarget

        given = self._pickled
        if given is None:
            from lifecycle_magic.wire.pickling import dumps, dumps_by_value

            given, buffers = dumps((self._args, self._kwargs))
            if buffers:
                given = dumps_by_value((self._args, self._kwargs))
            self._pickled = given
        return CallTarget(self._cls._key, given, name, f"{self._cls.__name__}().{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return travel_object, (self._cls.__wrapped__, self._args, self._kwargs, self._cls._key)

    def __repr__(self) -> str:
        return f"<{self._cls.__name__}(...) in other containers>"


def _hooks(cls: type) -> list[str]:
    """Return the names of the ``enter`` hooks, base classes first."""
    marked: dict[str, Marks] = {}
    for owner in reversed(cls.__mro__):
        for name, value in vars(owner).items():
            marks = None if is_class(value) else marks_of(value)
            if marks is not None and name != "__lifecycle__":
                marked[name] = marks
    enter = [name for name, marks in marked.items() if marks.enter and getattr(cls, name)]
    return sorted(enter, key=lambda name: not marked[name].snap)


class _Method:
    """A method of an instance in other containers."""

    def __init__(self, owner: ForeignObject, name: str, marks: Marks) -> None:
        self._owner = owner
        self._name = name
        self._marks = marks

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in this process."""
        return getattr(self._owner._local(), self._name)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in CALL_METHODS and name not in _ADDRESSES:
            raise AttributeError(name)
        owner, method = self._owner, self._name
        plain: Any = owner._cls.__wrapped__
        ways = calls_of(
            lambda: owner._target(method),
            f"{plain.__name__}().{method}",
            getattr(plain, method),
            self._marks,
        )
        found = getattr(ways, name)
        vars(self)[name] = found
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        where = f"{self._owner._cls.__name__}().{self._name}"
        raise InvalidError(
            f"{where}(...) does not say where to run. "
            f"Fix: write {where}.remote(...) or {where}.local(...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)

    def __repr__(self) -> str:
        return f"<method {self._owner._cls.__name__}().{self._name} in other containers>"


class ForeignFunction:
    """The handle of a function that has containers of its own."""

    def __init__(self, plain: Callable[..., Any], key: str = "") -> None:
        self.local = self.__wrapped__ = plain
        self._key = key
        self.__name__, self.__doc__ = plain.__name__, plain.__doc__

    def __getattr__(self, name: str) -> Any:
        if name not in CALL_METHODS and name not in _ADDRESSES:
            raise AttributeError(name)
        plain = self.__wrapped__
        found = getattr(calls_of(self._target, self.__name__, plain, marks_of(plain)), name)
        vars(self)[name] = found
        return found

    def _target(self) -> CallTarget:
        from lifecycle_magic.guest.session_connection import CallTarget

        return CallTarget(self._key, NO_ARGUMENTS, "call", self.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self.__name__
        raise InvalidError(
            f"{name}(...) does not say where to run. "
            f"Fix: write {name}.remote(...) or {name}.local(...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return travel_function, (self.__wrapped__, self._key)

    def __repr__(self) -> str:
        return f"<lifecycle function {self.__name__}>"
