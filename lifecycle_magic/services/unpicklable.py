"""The part of a value that can't be pickled, and the path to it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.exception import SerializationError

__all__ = ["UnpicklableError", "error_for"]

_MAX_DEPTH = 30
_MAX_PARTS = 2000


class UnpicklableError(SerializationError):
    """A class refers to a value that can't be pickled."""


def error_for(
    value: Any, path: tuple[str, ...], error: Exception, pickle: Callable[[Any], None]
) -> UnpicklableError:
    """Return the exception that names the part of ``value`` that can't be pickled.

    ``path`` leads to ``value``; ``pickle`` raises for a value that can't be pickled.
    """
    names = list(path)
    seen: set[int] = set()
    for _ in range(_MAX_DEPTH):
        seen.add(id(value))
        step = _first_unpicklable_part(value, seen, pickle)
        if step is None:
            break
        name, value, error = step
        if "recursion" in str(error):
            return UnpicklableError(f"{' → '.join(names)} is nested too deeply to be pickled")
        if name.startswith((".", "[")):
            names[-1] += name
        else:
            names.append(name)
    return UnpicklableError(f"{' → '.join(names)} {_reason(value, error)}")


def _first_unpicklable_part(
    value: Any, seen: set[int], pickle: Callable[[Any], None]
) -> tuple[str, Any, Exception] | None:
    for number, (name, part) in enumerate(_parts(value)):
        if id(part) in seen or number > _MAX_PARTS:
            continue
        try:
            pickle(part)
        except Exception as error:
            return name, part, error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, each with the step that leads to it."""
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:
                continue
        for one in value.__defaults__ or ():
            yield "a default", one
        yield from ((f"default {k}", v) for k, v in (value.__kwdefaults__ or {}).items())
        yield from ((f".{k}", v) for k, v in vars(value).items())
    elif is_class(value):
        yield from ((f".{k}", v) for k, v in vars(value).items() if not _is_slot(v))
        yield from ((base.__qualname__, base) for base in value.__bases__)
    elif isinstance(value, (staticmethod, classmethod)):
        yield "", value.__func__
    elif isinstance(value, property):
        yield from (("", one) for one in (value.fget, value.fset, value.fdel) if one is not None)
    elif isinstance(value, functools.partial):
        yield from (("", one) for one in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, types.MethodType):
        yield from (("", value.__func__), (".__self__", value.__self__))
    elif isinstance(value, dict):
        yield from ((f"[{k!r}]", v) for k, v in value.items())
        yield from ((f"[{k!r}]", k) for k in value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{number}]", one) for number, one in enumerate(value))
    else:
        # A value's own __getattr__ or __getattribute__ may raise anything.
        own: Any = _attribute(value, "__dict__")
        if isinstance(own, Mapping):
            yield from ((f".{k}", v) for k, v in own.items())
        wrapped = _attribute(value, "__wrapped__")
        if wrapped is not None:
            yield "", wrapped


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _is_slot(value: Any) -> bool:
    return isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))


def _reason(value: Any, error: Exception) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    what = f"is a {name}, which can't be pickled"
    if name not in str(error) and not isinstance(error, RecursionError):
        what += f" ({error})"
    return f"{what}. Fix: create it in an @enter method and keep it on self"
