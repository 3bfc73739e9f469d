"""Constructor arguments in the query of an address: ``?size=big`` for a class with `parameter`
fields.

A query comes from anybody who reaches the address. It is read as plain text of the declared types,
and nothing of it is evaluated.
"""

from __future__ import annotations

import inspect
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_spec import ClassSpec, MethodSpec

__all__ = ["read_query", "takes_query"]

_PLAIN = {"str", "int", "float", "bool", "list[str]", "list[int]", "list[float]"}
_TRUE, _FALSE = ("1", "true", "on", "yes"), ("0", "false", "off", "no")  # as FastAPI reads them


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered not in (*_TRUE, *_FALSE):
        raise ValueError
    return lowered in _TRUE


_READ: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": _boolean}


def takes_query(spec: ClassSpec) -> bool:
    """Return whether requests to the class's addresses may choose an instance by their query."""
    return spec.constructor.uses_parameters


def read_query(
    spec: ClassSpec, method: MethodSpec, query: str, fixed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the constructor arguments in the query of a request to a web method.

    Raises `InvalidError`, without a fix for the caller of a URL, if a value has the wrong type, if
    one is missing or given twice, or if neither the class nor the method takes a name. ``fixed``
    are the arguments of an address that belongs to one instance: the query may only repeat them.
    """
    names = spec.constructor.signature.parameters
    own = _names_of(method)
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name in names:
            if name in found:
                raise InvalidError(f"{name} is given twice.")
            found[name] = _value(spec, name, text)
        elif own is not None and name not in own:
            takes = ", ".join([*names, *(one for one in own if one not in names)])
            only = f", only {takes}" if takes else ""
            raise InvalidError(f"There is no argument {name!r:.60} here{only}.")
    if fixed is not None:
        for name, value in found.items():
            if name in fixed and fixed[name] != value and not (own and name in own):
                raise InvalidError(f"This address belongs to an instance with another {name}.")
        return {}
    missing = [name for name in spec.constructor.needed() if name not in found]
    if missing:
        raise InvalidError(f"{spec.name} needs {', '.join(missing)} in the query.")
    return found


def _value(spec: ClassSpec, name: str, text: str) -> Any:
    kind = spec.constructor.types[name]
    read = _READ.get(kind)
    if read is None:
        raise InvalidError(f"{name} can't be given in a query: it is {kind}, not str, int, ...")
    try:
        return read(text)
    except ValueError:
        raise InvalidError(f"{name} is {kind}, not {text!r:.60}.") from None


def _names_of(method: MethodSpec) -> frozenset[str] | None:
    """Return the names that a method reads from the query; None if its signature does not show
    them, as with a request, a model, a dependency, or an application of its own.
    """
    if method.web is None or method.web.kind != "fastapi_endpoint":
        return None
    for parameter in method.signature.parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            return None
        if parameter.default is not parameter.empty and not _is_plain(parameter.default):
            return None
        if parameter.annotation is not parameter.empty and not _is_plain_type(parameter):
            return None
    return frozenset(method.signature.parameters)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, list, tuple))


def _is_plain_type(parameter: inspect.Parameter) -> bool:
    text = inspect.formatannotation(parameter.annotation).strip("'\"")
    options = {one.strip() for one in text.removeprefix("Optional[").split("|")}
    return {one.removesuffix("]") if "list" not in one else one for one in options} <= {
        *_PLAIN,
        "None",
    }
