"""Attributes that the user wrote in a class, without those that Python keeps there for its own
use.
"""

from __future__ import annotations

import functools
import inspect
import sys
from types import FunctionType, MemberDescriptorType
from typing import Any

from lifecycle_magic.decorators.classes import unbound
from lifecycle_magic.decorators.marks import ATTRIBUTE
from lifecycle_magic.fingerprint.origin import is_installed
from lifecycle_magic.wire.pydantic_models import is_derived

__all__ = [
    "annotations_of",
    "attributes_of",
    "has_typed_fields",
    "is_bookkeeping",
    "is_code",
    "namespace_of",
    "written_in",
]

# What Python and the standard library keep in a class for their own use.
_BOOKKEEPING = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__classdictcell__",
        "__conditional_annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__signature__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "_member_map_",
        "_member_names_",
        "_value2member_map_",
        "_unhashable_values_",
        "_hashable_values_",
        ATTRIBUTE,
    }
)


def is_bookkeeping(name: str) -> bool:
    """Return whether an attribute of this name belongs to Python or a library and not to the
    user.
    """
    return name in _BOOKKEEPING or is_derived(name)


def written_in(cls: type) -> dict[str, Any]:
    """Return the attributes in the body of a class, by name, without those of its bases."""
    return {
        name: value
        for name, value in vars(cls).items()
        if not is_bookkeeping(name)
        and not isinstance(value, MemberDescriptorType)
        # Set by `typing` when a class that implements a Protocol makes its first instance.
        and not (name == "__init__" and value is object.__init__)
    }


def attributes_of(cls: type) -> dict[str, Any]:
    """Return what the user wrote in a class and its bases, by name, as the class sees it."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__[:-1]:
        if not is_installed(owner.__module__):
            for name, value in written_in(owner).items():
                found.setdefault(name, value)
    return found


def annotations_of(cls: type) -> dict[str, str]:
    """Return the annotations in the body of a class as strings, by name."""
    try:
        found = inspect.get_annotations(cls)
    except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
        return {}
    return {k: v if isinstance(v, str) else inspect.formatannotation(v) for k, v in found.items()}


# Attributes by which libraries mark classes whose annotations they read at run time: pydantic,
# dataclasses, attrs, msgspec, typed dictionaries and named tuples.
_MARKS_OF_FIELDS = (
    "__pydantic_fields__",
    "__dataclass_fields__",
    "__attrs_attrs__",
    "__struct_fields__",
    "__total__",
    "_field_defaults",
)


def has_typed_fields(cls: type) -> bool:
    """Return whether a class is one of data, whose annotations a library may read."""
    return any(hasattr(cls, name) for name in _MARKS_OF_FIELDS)


def namespace_of(cls: type) -> dict[str, Any]:
    """Return the namespace in which the names in a class's annotations are looked up."""
    for value in vars(cls).values():
        function = unbound(value)
        if isinstance(function, FunctionType):
            space = function.__globals__
            if space.get("__name__") == cls.__module__:
                return space
    module = sys.modules.get(cls.__module__)
    return {} if module is None else vars(module)


def is_code(value: object) -> bool:
    """Return whether an attribute of a class is code, and not data."""
    wrappers = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
    return isinstance(value, wrappers) or type(value).__module__ == "functools"
