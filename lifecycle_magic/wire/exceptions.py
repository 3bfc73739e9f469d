"""Exceptions read, changed and created without running code of their classes.

An exception class may override anything: its constructor, ``__setattr__``, ``__reduce__``, even
``__traceback__``. So this module never asks the exception itself. The descriptors of BaseException
and of the built-in base class read and set what every exception has, and no constructor written in
Python runs. Only a class with a ``__reduce__`` of its own decides how it is rebuilt.
"""

from __future__ import annotations

import builtins
import copy
import copyreg
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = [
    "ExceptionState",
    "Links",
    "add_note",
    "attributes",
    "copy_exception",
    "defines_reduce",
    "is_exception",
    "make_blank",
    "members",
    "message",
    "name_of",
    "reduce",
    "truncate",
    "type_name",
]

MAX_TEXT = 1 << 14
"""Maximum characters of a message that replaces an exception, or of a repr that replaces a
value.
"""

_args: Any = BaseException.__dict__["args"]
_dict: Any = BaseException.__dict__["__dict__"]
_traceback: Any = BaseException.__dict__["__traceback__"]
_cause: Any = BaseException.__dict__["__cause__"]
_context: Any = BaseException.__dict__["__context__"]
_suppress: Any = BaseException.__dict__["__suppress_context__"]
_namespace: Any = type.__dict__["__dict__"]
_mro: Any = type.__dict__["__mro__"]
_name: Any = type.__dict__["__name__"]
_qualname: Any = type.__dict__["__qualname__"]

try:
    _Group: Any = BaseExceptionGroup  # type: ignore[name-defined, unused-ignore]
except NameError:  # Python 3.10
    _Group = None

_NOT_COPIED = frozenset({"obj", "exceptions", "message"})
"""Fields of built-in base classes that are not copied: the object of an AttributeError, which
pickle omits as well, and the fields that a group is created with.
"""


_SLOTS = (types.MemberDescriptorType,)
_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_BUILTIN = frozenset(id(one) for one in vars(builtins).values() if isinstance(one, type))


class Links(NamedTuple):
    """The attributes that Python itself sets on an exception that is raised."""

    traceback: types.TracebackType | None
    cause: BaseException | None
    context: BaseException | None
    suppress_context: bool

    @classmethod
    def of(cls, error: BaseException) -> Links:
        """Read the links of ``error``."""
        return cls(*(one.__get__(error) for one in (_traceback, _cause, _context, _suppress)))

    def set_on(self, error: BaseException) -> None:
        """Set the links of ``error`` to these."""
        _traceback.__set__(error, self.traceback)
        _cause.__set__(error, self.cause)
        _context.__set__(error, self.context)
        _suppress.__set__(error, self.suppress_context)  # last: a cause sets it too


def attributes(error: BaseException) -> dict[str, Any]:
    """Return the ``__dict__`` of ``error``, even if its class overrides that name."""
    found: dict[str, Any] = _dict.__get__(error)
    return found


def add_note(error: BaseException, note: str) -> None:
    """Add a note as `BaseException.add_note` does. Python 3.10 has no such method."""
    before = attributes(error).get("__notes__")
    attributes(error)["__notes__"] = [*(before if isinstance(before, list) else ()), note]


def is_exception(value: object) -> bool:
    """Return whether the value is an exception, without asking its own ``__class__``."""
    return issubclass(type(value), BaseException)


def members(error: BaseException) -> tuple[str, list[BaseException]] | None:
    """Return the message and the exceptions of a group; None for any other exception."""
    if _Group is None or not issubclass(type(error), _Group):
        return None
    return _Group.message.__get__(error), [*_Group.exceptions.__get__(error)]


def name_of(cls: type) -> str:
    """Return the bare name of the class, even if its metaclass overrides it."""
    return str(_name.__get__(cls))


def type_name(cls: type) -> str:
    """Return the name by which a traceback shows the class."""
    try:
        module: object = cls.__module__
        name: object = cls.__qualname__
        if isinstance(module, str) and isinstance(name, str):
            return name if module in ("builtins", "__main__") else f"{module}.{name}"
    except BaseException:  # a class without a module, or a metaclass that raises
        pass
    return str(_qualname.__get__(cls))


def message(error: BaseException) -> str:
    """Return the exception's message, or a note that it can't be shown."""
    try:
        return truncate(str(error))
    except BaseException as broken:
        return f"<its message can't be shown: {name_of(type(broken))} in __str__>"


def truncate(text: str) -> str:
    """Return the string, cut to `MAX_TEXT` characters with its length added."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


class ExceptionState(NamedTuple):
    """The content of an exception besides its links.

    ``args``, the slots and C-level fields by their place in the class, and ``__dict__``.
    """

    args: Any
    fields: dict[tuple[int, str], Any]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> ExceptionState:
        """Read the state of ``error``."""
        fields = {}
        mro = _mro.__get__(type(error))
        for place, descriptor in _descriptors(type(error)):
            try:
                value = descriptor.__get__(error)
            except Exception:  # it is not set
                continue
            # A built-in base gives None for a field that is not set.
            if value is not None or not _is_builtin(mro[place[0]]):
                fields[place] = value
        return cls(_args.__get__(error), fields, dict(attributes(error)))

    def set_on(self, error: BaseException, cls: type) -> None:
        """Set the state of ``error``, which an exception of ``cls`` had.

        An exception of another class, which replaces the original, keeps its ``args``.
        """
        descriptors = dict(_descriptors(cls))
        for place, value in self.fields.items():
            try:
                descriptors[place].__set__(error, value)
            except Exception:  # read-only, or the class has another shape here
                continue
        if type(error) is cls:
            _args.__set__(error, self.args)
        attributes(error).update(self.attributes)


def _descriptors(cls: type) -> Iterator[tuple[tuple[int, str], Any]]:
    """Yield the descriptors of slots and of C-level fields, each with its place in the class."""
    for depth, base in enumerate(_mro.__get__(cls)):
        if base is BaseException or base is object:
            continue
        kinds, left_out = (_FIELDS, _NOT_COPIED) if _is_builtin(base) else (_SLOTS, frozenset())
        for name, descriptor in _namespace.__get__(base).items():
            if isinstance(descriptor, kinds) and name not in left_out and name[:2] != "__":
                yield (depth, name), descriptor


def make_blank(cls: type, group: tuple[str, list[BaseException]] | None = None) -> BaseException:
    """Create an exception with the built-in base class, without running a constructor in Python."""
    if group is not None:
        made: BaseException = _Group.__new__(cls, *group)
        return made
    for base in _mro.__get__(cls):
        new = _namespace.__get__(base).get("__new__")
        if isinstance(new, types.BuiltinFunctionType) and base is not object:
            try:
                made = new(cls)
            except TypeError:  # another base class decides the memory layout
                continue
            return made
    raise TypeError(f"no built-in base class creates a {type_name(cls)}")


def _is_builtin(cls: type) -> bool:
    return id(cls) in _BUILTIN  # hashing it would ask its metaclass


def defines_reduce(cls: type) -> bool:
    """Return whether the class itself, not a built-in base class, defines how it is pickled."""
    if any(cls is known for known in copyreg.dispatch_table):
        return True
    for base in _mro.__get__(cls):
        names = _namespace.__get__(base)
        if "__reduce_ex__" in names or "__reduce__" in names:
            return not _is_builtin(base)
    return False


def reduce(error: BaseException) -> tuple[Any, ...]:
    """Return the reduce value of an exception that is sent as a value.

    Its constructor does not run on arrival. Like any pickled exception, it arrives without its
    links.
    """
    cls = type(error)
    return make_blank, (cls, members(error)), ExceptionState.of(error), None, None, _fill


def _fill(error: BaseException, state: ExceptionState) -> None:
    state.set_on(error, type(error))


def copy_exception(error: BaseException) -> BaseException:
    """Return a copy of ``error`` for one more waiting caller, or ``error`` itself if copying fails.

    If one object was raised in two threads, it would get the frames of both.
    """
    try:
        if defines_reduce(type(error)):
            made = copy.copy(error)
        else:
            made = make_blank(type(error), members(error))
            ExceptionState.of(error).set_on(made, type(error))
    except Exception:
        return error
    if type(made) is not type(error):
        return error
    Links.of(error).set_on(made)
    return made
