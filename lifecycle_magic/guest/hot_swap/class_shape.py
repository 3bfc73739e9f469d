"""Parts that no live class can change: slots, metaclass, bases, members, registered subclasses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_magic.guest.hot_swap.counterparts import Triple
from lifecycle_magic.guest.hot_swap.same_content import ContentReader
from lifecycle_magic.wire.by_value import registered

__all__ = ["find_differing"]


def find_differing(
    triple: Triple, contents: tuple[ContentReader, ContentReader, ContentReader]
) -> list[str]:
    """Return what differs between a class as it was declared, as it lives and as it is declared
    now: strings such as ``the slots of {} (b)``, with a place for the name of the class.

    ``contents`` read the three.
    """
    found = []
    for what, read, names in _ASPECTS:
        values = [read(one) for one in triple]
        digests = [content.of(value) for content, value in zip(contents, values, strict=True)]
        if digests[0] is None or len(set(digests)) > 1:
            found.append(f"the {what} of {{}}{_listed(names(triple.base), names(triple.new))}")
    return found


def _listed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return the names that come, go or have another value, in parentheses."""
    names = [one for one in {**old, **new} if one not in old or one not in new]
    names = names or [one for one in new if _differ(old[one], new[one])]
    names = names or (list(new) if list(old) != list(new) else [])
    return f" ({', '.join(names)})" if names else ""


def _differ(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # any error of the user's code
        return True


def _slots(cls: type) -> Any:
    slots = vars(cls).get("__slots__")
    return list(slots) if isinstance(slots, (list, tuple, dict)) else slots


def _slot_names(cls: type) -> dict[str, Any]:
    slots = _slots(cls)
    return dict.fromkeys(slots if isinstance(slots, list) else [slots] if slots else [])


def _bases(cls: type) -> list[type]:
    return list(cls.__bases__)


def _base_names(cls: type) -> dict[str, Any]:
    return {one.__name__: None for one in cls.__bases__}


def _enum_items(cls: Any) -> Any:
    """Return the members of an enum, which can't be changed under the objects that hold them."""
    return list(_enum_values(cls).items()) if hasattr(cls, "_member_map_") else None


def _enum_values(cls: Any) -> dict[str, Any]:
    if not hasattr(cls, "_member_map_"):
        return {}
    return {name: member._value_ for name, member in cls.__members__.items()}


def _adopted(cls: type) -> Any:
    """Return the virtual subclasses of an abstract class, in any order."""
    return set(registered(cls))


def _adopted_names(cls: type) -> dict[str, Any]:
    return {one.__name__: None for one in sorted(registered(cls), key=lambda one: one.__name__)}


def _metaclass_name(cls: type) -> dict[str, Any]:
    return {type(cls).__name__: None}


_ASPECTS: list[tuple[str, Callable[[Any], Any], Callable[[Any], dict[str, Any]]]] = [
    ("slots", _slots, _slot_names),
    ("metaclass", type, _metaclass_name),
    ("bases", _bases, _base_names),
    ("members", _enum_items, _enum_values),
    ("registered subclasses", _adopted, _adopted_names),
]
