"""What the user wrote in a class, apart from what Python keeps there for itself."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MemberDescriptorType
from typing import Any

from lifecycle_magic.digests.origin import is_installed
from lifecycle_magic.marks import ATTRIBUTE

__all__ = ["annotations_of", "attributes_of", "is_bookkeeping", "is_code", "written_in"]

# What Python and the standard library keep in a class for their own use.
_BOOKKEEPING = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
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
    """Whether an attribute of this name is Python's and not the user's."""
    return name in _BOOKKEEPING


def written_in(cls: type) -> dict[str, Any]:
    """What stands in the body of a class, by name, without its bases'."""
    return {
        name: value
        for name, value in vars(cls).items()
        if name not in _BOOKKEEPING and not isinstance(value, MemberDescriptorType)
    }


def attributes_of(cls: type) -> dict[str, Any]:
    """What the user wrote in a class and its bases, by name, as the class sees it."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__[:-1]:
        if not is_installed(owner.__module__):
            for name, value in written_in(owner).items():
                found.setdefault(name, value)
    return found


def annotations_of(cls: type) -> dict[str, str]:
    """The annotations in the body of a class as texts, by name."""
    try:
        found = inspect.get_annotations(cls)
    except NameError:  # Python 3.14 looks them up late, and one is not there
        return {}
    return {k: v if isinstance(v, str) else inspect.formatannotation(v) for k, v in found.items()}


def is_code(value: object) -> bool:
    """Whether an attribute of a class is something that runs, and not data."""
    wrappers = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
    return isinstance(value, wrappers) or type(value).__module__ == "functools"
