"""The container's own class: a plain class here, with the call methods of its methods.

``Model().predict.remote`` in a method of ``Model`` reaches any container of the class.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from lifecycle_magic.decorators.classes import CALL, is_class, unbound
from lifecycle_magic.decorators.direct_call import DirectCall, attach
from lifecycle_magic.decorators.hooks import NoContainers
from lifecycle_magic.decorators.marks import marks_of
from lifecycle_magic.decorators.parameters import parameters_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest import own_methods
from lifecycle_magic.guest.method_calls import CALL_METHODS, NO_ARGUMENTS, calls_of
from lifecycle_magic.guest.own_methods import InstanceAddress, OwnInit, OwnMethod
from lifecycle_magic.guest.session_address import session

if TYPE_CHECKING:
    from lifecycle_magic.guest.session_connection import CallTarget

__all__ = ["CALL_MARKERS", "OwnCall", "RefusedCall", "note_key", "own_classes", "release"]
__all__ += ["set_own_class"]

own_classes: tuple[type, ...] = ()
"""The class of this container and its base classes, which are plain classes here."""

_keys: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
_with_init: list[type] = []  # classes with `own_methods.init_parameters`
_replaced: list[tuple[type, str, FunctionType]] = []  # by descriptors, in the __dict__ of a class


def note_key(cls: type, key: str) -> None:
    """Note the key by which the session finds a class that is, or may be, a base class here."""
    _keys[cls] = key


def set_own_class(cls: type, spaces: Mapping[str, Mapping[str, Any]]) -> None:
    """Make ``cls`` the class of this container. ``spaces`` are the namespaces of its code."""
    global own_classes
    release()
    own_classes = cls.__mro__[:-1]
    function = _function_of(cls)
    if function is not None:
        for way in (*CALL_METHODS, "get_web_url"):
            vars(function)[way] = OwnCall(CALL, way)
        vars(function)["local"] = LocalCall(function)
        return
    is_called = own_methods.names_any(CALL_METHODS, _functions(spaces))
    for owner in own_classes:
        is_sure = owner is cls and not _takes_arguments(cls)
        for name, value in list(vars(owner).items()):
            marks = None if isinstance(value, type) else marks_of(value)
            if marks is not None and marks.is_method and hasattr(value, "__dict__"):
                attach(owner, name, value)
                # A bound method has the attributes of its function.
                if is_sure:
                    vars(value).update({way: OwnCall(name, way) for way in CALL_METHODS})
                    continue
                ways = _CallMethods(f"{cls.__name__}.{name}", name)
                vars(value).update(ways(None))
                if is_called and type(value) is FunctionType:
                    _replace(owner, name, value, OwnMethod(name, value, ways))
        if parameters_of(owner) and getattr(owner, "__init__", None) is object.__init__:
            _add_init(owner)
        made = vars(owner).get("__init__")
        if is_called and type(made) is FunctionType and made is not own_methods.init_parameters:
            _replace(owner, "__init__", made, OwnInit(made))


def _add_init(owner: type) -> None:
    _with_init.append(owner)
    type.__setattr__(owner, "__init__", own_methods.init_parameters)


def release() -> None:
    """Give the classes back the functions that `set_own_class` has replaced."""
    while _with_init:
        added = _with_init.pop()
        if vars(added).get("__init__") is own_methods.init_parameters:
            type.__delattr__(added, "__init__")
    while _replaced:
        owner, name, function = _replaced.pop()
        if isinstance(vars(owner).get(name), (OwnMethod, OwnInit)):
            type.__setattr__(owner, name, function)


def _replace(owner: type, name: str, function: FunctionType, descriptor: object) -> None:
    _replaced.append((owner, name, function))
    type.__setattr__(owner, name, descriptor)


def _functions(spaces: Mapping[str, Mapping[str, Any]]) -> Iterator[FunctionType]:
    """Yield the functions of the own classes, and those of the user's namespaces."""
    found = [value for space in spaces.values() for value in list(space.values())]
    classes = [*own_classes, *(one for one in found if is_class(one))]
    found += [value for one in classes for value in vars(one).values()]
    for value in found:
        function = unbound(value)
        if type(function) is FunctionType:
            yield function


def _function_of(cls: type) -> Any:
    """Return the function that the class is made from, None if it is a class of the user's."""
    found = getattr(vars(cls).get(CALL), "__func__", None)
    return found if getattr(found, "__qualname__", "") == cls.__qualname__ else None


class LocalCall:
    """The value of ``.local`` of the container's own function: the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def _takes_arguments(cls: type) -> bool:
    """Return whether instances differ by the arguments of the constructor."""
    made: Any = cls
    if parameters_of(cls) or made.__new__ is not object.__new__:
        return True
    if made.__init__ is object.__init__:
        return False
    code = getattr(made.__init__, "__code__", None)
    return code is None or code.co_argcount + code.co_kwonlyargcount > 1 or code.co_flags & 0x0C


class _CallMethods:
    """The call methods of the method ``name`` on instances whose addresses may differ."""

    def __init__(self, where: str, name: str) -> None:
        self._name = name
        self._refused = {way: RefusedCall(where, way) for way in CALL_METHODS}

    def __call__(self, address: InstanceAddress | None) -> dict[str, Any]:
        if address is None or not _key_of(address.cls):
            return self._refused
        return {way: InstanceCall(address, self._name, way) for way in CALL_METHODS}


def _key_of(cls: type) -> str:
    """Return the key of the container's own class, or of a base class; empty if there is none."""
    if cls is not own_classes[0]:
        return _keys.get(cls, "")
    invitation = session()[0]
    return invitation.key if invitation is not None else "?"  # the call reports that


class RefusedCall:
    """A call method, such as ``remote``, found on an instance whose address is not known.

    It may be an instance of a class that the session does not know, or one that was made before
    it could be noted with which arguments. Calling it raises.
    """

    def __init__(self, where: str, method: str) -> None:
        self._where = where
        self._way = method

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        name = self._where.rpartition(".")[2]
        raise InvalidError(
            f"{self._where}.{self._way}(): inside its own container this is a plain method, and it "
            "is not known here which class and arguments its instance was made with. "
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
        invitation = session()[0]
        key = invitation.key if invitation is not None else ""
        cls, name = own_classes[0], self._name
        function = vars(cls)[name]
        is_function = _function_of(cls) is not None
        where = cls.__name__ if is_function else f"{cls.__name__}().{name}"

        def target() -> CallTarget:
            from lifecycle_magic.guest.session_connection import CallTarget

            return CallTarget(key, NO_ARGUMENTS, name, where)

        marks = marks_of(getattr(function, "__func__", function))
        return getattr(calls_of(target, where, function, marks), self._way)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    @property
    def aio(self) -> Any:
        """The same for coroutines."""
        return self._find().aio


class InstanceCall:
    """A call method of an instance: the call goes to any container of its class and arguments."""

    def __init__(self, address: InstanceAddress, name: str, way: str) -> None:
        self._address = address
        self._name = name
        self._way = way

    def _find(self) -> Any:
        cls, name = self._address.cls, self._name
        where = f"{cls.__name__}().{name}"

        def target() -> CallTarget:
            from lifecycle_magic.guest.session_connection import CallTarget

            return CallTarget(_key_of(cls), _pickled(self._address), name, where)

        function = getattr(cls, name)
        return getattr(calls_of(target, where, function, marks_of(function)), self._way)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    @property
    def aio(self) -> Any:
        """The same for coroutines."""
        return self._find().aio


def _pickled(address: InstanceAddress) -> bytes:
    from lifecycle_magic.wire.pickling import dumps, dumps_by_value

    if address.pickled:
        return address.pickled
    given, buffers = dumps((address.args, address.kwargs))
    return dumps_by_value((address.args, address.kwargs)) if buffers else bytes(given)


CALL_MARKERS = (RefusedCall, OwnCall, InstanceCall, LocalCall, NoContainers, DirectCall)
"""Types of the ``.remote`` and similar attributes on methods. They are not part of the user's
code.
"""
