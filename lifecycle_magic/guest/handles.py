"""Handles inside a container: of classes and functions that run in other containers.

A handle keeps the class itself, for class attributes, constructor arguments, ``isinstance``,
subclassing and ``.local()``, and the key by which the kernel's session finds what to call.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.direct_call import DirectCall, attach
from lifecycle_magic.decorators.hooks import NoContainers
from lifecycle_magic.decorators.marks import Marks, marks_of
from lifecycle_magic.decorators.parameters import instantiate, parameters_of
from lifecycle_magic.decorators.travel import travel_class, travel_function, travel_object
from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.guest.foreign_calls import ForeignCalls
    from lifecycle_magic.guest.session_connection import Target
    from lifecycle_magic.wire.nested import Invitation

__all__ = [
    "CALL_MARKERS",
    "ForeignClass",
    "ForeignFunction",
    "ForeignObject",
    "OwnCall",
    "RefusedCall",
    "handle_of",
    "set_own_class",
    "set_session",
]

_CALL_METHODS = ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map")
_ADDRESSES = ("get_web_url", "web_url")
_NO_ARGUMENTS = pickle.dumps(((), {}), 5)

_session: tuple[Invitation | None, str] = (None, "")


def set_session(invitation: Invitation | None, run: str) -> None:
    """Set how calls reach the session, for when the first one is made."""
    global _session
    _session = invitation, run


def session() -> tuple[Invitation | None, str]:
    """Return how calls reach the session, as set by `set_session`."""
    return _session


def object_transport() -> Any:
    """Return the module that sends requests to the session's queues and dictionaries."""
    from lifecycle_magic.guest import foreign_objects, session_connection

    session_connection.set_session(*_session)
    return foreign_objects


def keep_session_reachable() -> None:
    """Hold the session's socket by a descriptor, before this process becomes another user.

    That user has no access to the run folder, so it could not connect by the socket's path.
    """
    import os

    invitation, run = _session
    if invitation is not None and invitation.address.startswith("unix:"):
        path = os.path.join(run, invitation.address.partition(":")[2])
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # there is none: the first call reports it
        set_session(invitation._replace(address=f"unix:/proc/self/fd/{fd}"), run)


own_classes: tuple[type, ...] = ()
"""The class of this container and its base classes, which are plain classes here."""


def set_own_class(cls: type) -> None:
    """Make ``cls`` the class of this container."""
    global own_classes
    own_classes = cls.__mro__[:-1]
    for owner in own_classes:
        for name, value in vars(owner).items():
            marks = None if isinstance(value, type) else marks_of(value)
            if marks is not None and marks.is_method and hasattr(value, "__dict__"):
                attach(owner, name, value)
                is_sure = owner is cls and not _takes_arguments(cls)
                for way in _CALL_METHODS:
                    # A bound method has the attributes of its function.
                    vars(value)[way] = (
                        OwnCall(value.__name__, way)
                        if is_sure
                        else RefusedCall(f"{cls.__name__}.{value.__name__}", way)
                    )


def _takes_arguments(cls: type) -> bool:
    """Return whether instances differ by the arguments of the constructor."""
    made: Any = cls
    if parameters_of(cls) or made.__new__ is not object.__new__:
        return True
    if made.__init__ is object.__init__:
        return False
    code = getattr(made.__init__, "__code__", None)
    return code is None or code.co_argcount + code.co_kwonlyargcount > 1 or code.co_flags & 0x0C


def handle_of(plain: type, key: str) -> Any:
    """Return the handle of a class. In its own container, that is the class itself."""
    for one in own_classes:
        if one is plain or (one.__module__, one.__qualname__) == (
            plain.__module__,
            plain.__qualname__,
        ):
            return one
    return ForeignClass(plain, key)


class RefusedCall:
    """A call method, such as ``remote``, found on an instance whose address is not known.

    The instance may have been made with other arguments than the container's own one, or the
    method is inherited. Calling it raises.
    """

    def __init__(self, where: str, method: str) -> None:
        self._where = where
        self._way = method

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        name = self._where.rpartition(".")[2]
        raise InvalidError(
            f"{self._where}.{self._way}(): inside its own container this is a plain method, which "
            "does not say with which arguments its instance was made. "
            f"Fix: pass a handle from the notebook and call handle.{name}.{self._way}(...), or "
            f"call self.{name}(...) here"
        )

    @property
    def aio(self) -> Any:
        """The same for coroutines."""
        return self


class OwnCall:
    """A call method of the container's own class: the call goes to any container of the class."""

    # By its name: a hot swap refuses to remove a method that an object refers to.
    def __init__(self, name: str, way: str) -> None:
        self._name = name
        self._way = way

    def _find(self) -> Any:
        invitation = _session[0]
        key = invitation.key if invitation is not None else ""
        cls, name = own_classes[0], self._name
        where = f"{cls.__name__}().{name}"

        def target() -> Target:
            from lifecycle_magic.guest.session_connection import Target

            return Target(key, _NO_ARGUMENTS, name, where)

        function = vars(cls)[name]
        return getattr(_calls(target, where, function, marks_of(function)), self._way)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    @property
    def aio(self) -> Any:
        """The same for coroutines."""
        return self._find().aio


CALL_MARKERS = (RefusedCall, OwnCall, NoContainers, DirectCall)
"""Types of the ``.remote`` and similar attributes on methods. They are not part of the user's
code.
"""


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
            return issubclass(instance._cls.__wrapped__, self.__wrapped__)
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, cls: Any) -> bool:
        return issubclass(getattr(cls, "__wrapped__", cls), self.__wrapped__)

    def __or__(self, other: Any) -> Any:
        return self.__wrapped__ | getattr(other, "__wrapped__", other)

    def __ror__(self, other: Any) -> Any:
        return other | self.__wrapped__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForeignClass) and other.__wrapped__ is self.__wrapped__

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

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

    def _target(self, name: str) -> Target:
        """Return what a call of the method reaches."""
        from lifecycle_magic.guest.session_connection import Target

        given = self._pickled
        if given is None:
            from lifecycle_magic.wire.pickling import dumps, dumps_by_value

            given, buffers = dumps((self._args, self._kwargs))
            if buffers:
                given = dumps_by_value((self._args, self._kwargs))
            self._pickled = given
        return Target(self._cls._key, given, name, f"{self._cls.__name__}().{name}")

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


def _calls(
    find: Callable[[], Target], where: str, function: Any, marks: Marks | None
) -> ForeignCalls:
    """Return the ways to call a method. ``function`` is its plain function, with its marks."""
    import inspect

    from lifecycle_magic.guest import session_connection
    from lifecycle_magic.guest.foreign_calls import ForeignCalls, MethodKind

    session_connection.set_session(*_session)
    function = inspect.unwrap(getattr(function, "__func__", function))
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    stated = marks.method.is_generator if marks is not None and marks.method else None
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    kind = MethodKind(is_async, yields if stated is None else stated)
    return ForeignCalls(lambda: (session_connection.connection(), find()), where, lambda: kind)


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
        if name not in _CALL_METHODS and name not in _ADDRESSES:
            raise AttributeError(name)
        owner, method = self._owner, self._name
        plain: Any = owner._cls.__wrapped__
        ways = _calls(
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
        if name not in _CALL_METHODS and name not in _ADDRESSES:
            raise AttributeError(name)
        plain = self.__wrapped__
        found = getattr(_calls(self._target, self.__name__, plain, marks_of(plain)), name)
        vars(self)[name] = found
        return found

    def _target(self) -> Target:
        from lifecycle_magic.guest.session_connection import Target

        return Target(self._key, _NO_ARGUMENTS, "call", self.__name__)

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
