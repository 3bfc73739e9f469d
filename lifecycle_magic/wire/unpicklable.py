"""The part of a value that can't be pickled, and the path to it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.exception import SerializationError

__all__ = ["UnpicklableError", "arguments_error", "error_for", "explain_argument", "part_of"]

_MAX_DEPTH = 30
_MAX_PARTS = 2000


class UnpicklableError(SerializationError):
    """A class refers to a value that can't be pickled.

    ``top_level_name`` is the name of the class's namespace that leads to the value, if known.
    """

    top_level_name = ""


def error_for(
    value: Any, path: tuple[str, ...], error: Exception, pickle: Callable[[Any], Any]
) -> UnpicklableError:
    """Return the exception that names the part of ``value`` that can't be pickled.

    ``path`` leads to ``value``; ``pickle`` raises for a value that can't be pickled.
    """
    what = part_of(value, path, error, pickle)
    return UnpicklableError(f"{what}. Fix: create it in an @enter method and keep it on self")


def part_of(
    value: Any, path: tuple[str, ...], error: Exception, pickle: Callable[[Any], Any]
) -> str:
    """Return a clause without a full stop that names the part of ``value`` that can't be pickled,
    its type and the path to it.

    >>> import threading, pickle
    >>> part_of({"k": threading.Lock()}, ("x",), TypeError("no"), pickle.dumps)
    "x['k'] is a _thread.lock, which can't be pickled"
    """
    names = list(path)
    seen: set[int] = set()
    for _ in range(_MAX_DEPTH):
        if _is_too_deep(error):
            return f"{' → '.join(names)} is nested too deeply to be pickled"
        if type(value).__module__.startswith("lifecycle_magic."):
            break  # it refuses to be pickled, and says why
        seen.add(id(value))
        step = _first_unpicklable_part(value, seen, pickle)
        if step is None:
            break
        name, value, inner = step
        if not _is_too_deep(inner):
            if name.startswith((".", "[")):
                names[-1] += name
            elif name:
                names.append(name)
        error = inner
    return f"{' → '.join(names)} {_reason(value, error)}"


def explain_argument(
    args: Iterable[Any], kwargs: Mapping[str, Any], pickle: Callable[[Any], Any]
) -> str:
    """Return a clause without a full stop that names the argument that can't be pickled, and the
    part of it. Empty if each argument can be pickled.
    """
    named = [(f"argument {number}", f"argument {number}", v) for number, v in enumerate(args, 1)]
    named += [(f"argument {name}=", name, value) for name, value in kwargs.items()]
    for name, start, value in named:
        try:
            pickle(value)
        except Exception as error:
            what = part_of(value, (start,), error, pickle)
            return f"{name}, a {type(value).__name__}, can't be sent to the container: {what}"
    return ""


def arguments_error(
    where: str, args: Iterable[Any], kwargs: Mapping[str, Any], error: Exception
) -> SerializationError:
    """Return the exception for a call whose arguments can't be pickled: ``error`` says why.

    ``where`` is the method as the caller wrote it.
    """
    from lifecycle_magic.wire.pickling import dumps

    text = str(error).rstrip(".")
    what = explain_argument(args, kwargs, dumps) or f"the arguments can't be pickled: {text}"
    fix = "Fix: pass plain data, or create it in the method or in enter"
    return SerializationError(f"{where}: {what}. {fix}")


def _is_too_deep(error: Exception) -> bool:
    return isinstance(error, RecursionError) or "recursion" in str(error)


def _first_unpicklable_part(
    value: Any, seen: set[int], pickle: Callable[[Any], Any]
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
    text = str(error).rstrip(".")
    return what if name in text or not text else f"{what} ({text})"
