"""``self.method.remote`` on instances of the container's own class, which are plain objects here.

A bound method has the attributes of its function alone, and these know no instance. So where the
code of a class uses the call methods, its methods become descriptors: looking one up gives the
ordinary bound method, and gives its function call methods for that instance. They are taken away
when the bound method is gone. Where bound methods of two instances are alive at a time, the
function can't serve both, so its call methods refuse.

The arguments of instances that the user's code makes are noted when ``__init__`` is called. A class
whose code names no call method stays as it is, and so do its methods.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from lifecycle_magic.decorators.parameters import MISSING, parameters_of
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["InstanceAddress", "OwnInit", "OwnMethod", "address_of", "init_parameters", "names_any"]
__all__ += ["note_address"]


class InstanceAddress(NamedTuple):
    """The class and the constructor arguments of an instance: as they are, or ``pickled``."""

    cls: type
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - never changed
    pickled: bytes = b""


_made: dict[int, tuple[weakref.ref[Any], InstanceAddress]] = {}  # by the id() of an instance
_lock = threading.RLock()


def note_address(instance: Any, address: InstanceAddress) -> None:
    """Note what an instance was made with. One that can't be referred to weakly has no address."""
    number = id(instance)
    try:
        reference = weakref.ref(instance, functools.partial(_made.pop, number))
    except TypeError:
        return
    _made[number] = reference, address


def address_of(instance: Any) -> InstanceAddress | None:
    """Return the class and the arguments of an instance, None if they are not known."""
    cls: Any = type(instance)
    found = _made.get(id(instance))
    if found is not None and found[0]() is instance:
        return found[1]
    is_plain = cls.__new__ is object.__new__ and cls.__init__ is object.__init__
    return InstanceAddress(cls) if is_plain and not parameters_of(cls) else None


class OwnInit:
    """The ``__init__`` of a class, which notes the arguments of instances of that class."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.function
        if type(instance).__init__ is not self.function or id(instance) in _made:
            return MethodType(self.function, instance)  # of a base class, or called once more

        def init(*args: Any, **kwargs: Any) -> None:
            note_address(instance, InstanceAddress(type(instance), args, kwargs))
            self.function(instance, *args, **kwargs)

        return init


def init_parameters(instance: Any, **given: Any) -> None:
    """Set the `parameter` fields of an instance that the user's code makes: its ``__init__``."""
    cls = type(instance)
    fields = {name: one for name, one in parameters_of(cls).items() if one.init}
    if unknown := [name for name in given if name not in fields]:
        raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {unknown[0]!r}")
    if missing := [n for n, one in fields.items() if one.default is MISSING and n not in given]:
        raise TypeError(f"{cls.__name__}() is missing its parameter {missing[0]!r}")
    for name, value in given.items():
        setattr(instance, name, value)
    note_address(instance, InstanceAddress(cls, (), given))


class OwnMethod:
    """A method of the container's own class or of a base class, whose instance is known.

    ``ways`` returns the call methods for an address, by their names; for None those that refuse.
    """

    def __init__(
        self,
        name: str,
        function: FunctionType,
        ways: Callable[[InstanceAddress | None], dict[str, Any]],
    ) -> None:
        self.name = name
        self.function = function
        self._ways = ways
        self._alive: set[weakref.ref[MethodType]] = set()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.function
        bound = MethodType(self.function, instance)
        with _lock:
            self._alive.add(weakref.ref(bound, self._forget))
            self._follow()
        return bound

    def _forget(self, reference: weakref.ref[MethodType]) -> None:
        with _lock:
            self._alive.discard(reference)
            self._follow()

    def _follow(self) -> None:
        """Give the function the call methods for the instance whose bound methods are alive."""
        found = [bound for one in list(self._alive) if (bound := one()) is not None]
        instances = {id(bound.__self__): bound.__self__ for bound in found}
        address = None
        if len(instances) == 1:
            [instance] = instances.values()
            # What ``super()`` finds is not what a call of this name would run.
            if getattr(type(instance), self.name, None) is self.function:
                address = address_of(instance)
        vars(self.function).update(self._ways(address))


def names_any(names: Iterable[str], functions: Iterable[FunctionType]) -> bool:
    """Return whether the code of a function, or code in it, has one of the names or strings."""
    wanted = frozenset(names)
    return any(
        wanted.intersection(code.co_names)
        or any(type(one) is str and one in wanted for one in code.co_consts)
        for function in functions
        for code in with_nested_codes(function.__code__)
    )


def _in_forked_child() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that is not here may have held it


os.register_at_fork(after_in_child=_in_forked_child)
