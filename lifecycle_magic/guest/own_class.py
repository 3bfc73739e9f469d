"""The container's own class: a plain class here, with the call methods of its methods.

``Model().predict.remote`` in a method of ``Model`` reaches any container of the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from lifecycle_magic.decorators.classes import CALL
from lifecycle_magic.decorators.direct_call import DirectCall, attach
from lifecycle_magic.decorators.hooks import NoContainers
from lifecycle_magic.decorators.marks import marks_of
from lifecycle_magic.decorators.parameters import parameters_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest.method_calls import CALL_METHODS, NO_ARGUMENTS, calls_of
from lifecycle_magic.guest.session_address import session

if TYPE_CHECKING:
    from lifecycle_magic.guest.session_connection import CallTarget

__all__ = ["CALL_MARKERS", "OwnCall", "RefusedCall", "own_classes", "set_own_class"]

own_classes: tuple[type, ...] = ()
"""The class of this container and its base classes, which are plain classes here."""


def set_own_class(cls: type) -> None:
    """Make ``cls`` the class of this container."""
    global own_classes
    own_classes = cls.__mro__[:-1]
    function = _function_of(cls)
    if function is not None:
        for way in (*CALL_METHODS, "get_web_url"):
            vars(function)[way] = OwnCall(CALL, way)
        vars(function)["local"] = LocalCall(function)
        return
    for owner in own_classes:
        for name, value in vars(owner).items():
            marks = None if isinstance(value, type) else marks_of(value)
            if marks is not None and marks.is_method and hasattr(value, "__dict__"):
                attach(owner, name, value)
                is_sure = owner is cls and not _takes_arguments(cls)
                for way in CALL_METHODS:
                    # A bound method has the attributes of its function.
                    vars(value)[way] = (
                        OwnCall(value.__name__, way)
                        if is_sure
                        else RefusedCall(f"{cls.__name__}.{value.__name__}", way)
                    )


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


CALL_MARKERS = (RefusedCall, OwnCall, LocalCall, NoContainers, DirectCall)
"""Types of the ``.remote`` and similar attributes on methods. They are not part of the user's
code.
"""
