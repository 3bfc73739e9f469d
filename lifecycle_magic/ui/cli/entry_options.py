"""The parameters of an entry point as command-line options."""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.parser import Parser

__all__ = ["parse"]

_PLAIN = (str, int, float, bool, Path)


def parse(function: Callable[..., Any], words: Sequence[str], prog: str) -> dict[str, Any]:
    """Return the function's arguments from the command line, one option for each parameter.

    Understands ``str``, ``int``, ``float``, ``bool`` (``--flag``, ``--no-flag``), `Path`, and
    ``| None`` of these. A parameter without an annotation has the type of its default, otherwise
    ``str``. Ends the process with a message, as argparse does, when the words don't fit. Raises
    `InvalidError` for a parameter that the command line can't express.
    """
    parameters = inspect.signature(function).parameters
    parser = Parser(prog=prog, description=inspect.getdoc(function), add_help=False)
    parser.add_argument(
        *(["-h"] if "help" in parameters else ["-h", "--help"]),
        action="help",
        help="show the options and exit",
    )
    for parameter in parameters.values():
        try:
            _add(parser, parameter, _kind(function, parameter))
        except argparse.ArgumentError as error:
            raise InvalidError(
                f"the entry point's parameter {parameter.name} has the same option as another one "
                f"({error.message}). Fix: rename the parameter"
            ) from None
    given: argparse.Namespace = parser.parse_args(list(words))
    return vars(given)


def _add(parser: Parser, parameter: inspect.Parameter, kind: Callable[[str], Any]) -> None:
    settings: dict[str, Any] = {"dest": parameter.name, "help": getattr(kind, "__name__", "")}
    if parameter.default is parameter.empty:
        settings["required"] = True
        settings["help"] += ", required"
    else:
        settings["default"] = parameter.default
        settings["help"] += f", default: {parameter.default!r}"
    settings["help"] = settings["help"].replace("%", "%%")
    if kind is bool:
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings["type"] = kind
    flags = dict.fromkeys((f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"))
    parser.add_argument(*flags, **settings)


def _kind(function: Callable[..., Any], parameter: inspect.Parameter) -> Callable[[str], Any]:
    """Return the type that a parameter's string is converted to."""
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InvalidError(
            f"the entry point's parameter *{name} can't be written on the command line. "
            "Fix: declare a named parameter with a type for each option"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InvalidError(
            f"the entry point's parameter {name} is positional-only, but options are given by "
            "name. Fix: remove the / from its parameters"
        )
    annotation = _annotation(function, parameter)
    if annotation in _PLAIN:
        return annotation  # type: ignore[no-any-return]
    if annotation in (Any, parameter.empty):
        default = type(parameter.default)
        return default if default in _PLAIN else Path if issubclass(default, Path) else str
    shown = getattr(annotation, "__name__", annotation)
    raise InvalidError(
        f"the entry point's parameter {name} is a {shown}, which can't be written on the command "
        "line. Fix: use str, int, float, bool or Path, and convert the value in the function"
    )


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation, evaluated, without ``| None`` and without metadata."""
    given = parameter.annotation
    if given is parameter.empty:
        return given

    def lone() -> None: ...

    lone.__annotations__ = {parameter.name: given}
    space = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        found = typing.get_type_hints(lone, globalns=space)[parameter.name]
    except Exception as error:
        raise InvalidError(
            f"the entry point's parameter {parameter.name} is annotated with {given!r}, which "
            f"can't be evaluated ({error}). Fix: use str, int, float, bool or Path"
        ) from None
    if typing.get_origin(found) in (typing.Union, types.UnionType):
        options = [one for one in typing.get_args(found) if one is not type(None)]
        found = options[0] if len(options) == 1 else found
    return found
