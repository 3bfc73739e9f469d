"""The parameters of what a command runs, as command-line options."""

from __future__ import annotations

import argparse
import datetime
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.parser import Parser

__all__ = ["EntryArguments", "EntryParameter", "parameters_of", "parse"]

_PLAIN = (str, int, float, bool, Path)
_LISTS = (list, tuple, Sequence, Iterable)
_TYPES = "str, int, float, bool, Path, datetime, Literal or a list of these"


class EntryParameter(NamedTuple):
    """A parameter, and the namespace in which its annotation is evaluated."""

    parameter: inspect.Parameter
    space: dict[str, Any]


class EntryArguments(NamedTuple):
    """The arguments for a function."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Conversion(NamedTuple):
    """The conversion of an option's words to a value: each by ``convert``, and many to a list."""

    convert: Callable[[str], Any]
    label: str
    many: Callable[[list[Any]], Any] | None = None


def parameters_of(function: Callable[..., Any]) -> list[EntryParameter]:
    """Return the parameters of a function."""
    space = getattr(inspect.unwrap(function), "__globals__", {})
    return [EntryParameter(one, space) for one in inspect.signature(function).parameters.values()]


def parse(
    parameters: Sequence[EntryParameter], words: Sequence[str], prog: str, about: str | None = None
) -> EntryArguments:
    """Return the arguments from the command line, one option for each parameter.

    Understands ``str``, ``int``, ``float``, ``bool`` (``--flag``, ``--no-flag``), `Path`,
    ``datetime``, ``date``, ``Literal``, a list of these (``--name a --name b``) and ``| None``. A
    parameter without an annotation has the type of its default, otherwise ``str``. A function that
    only has ``*args`` gets all words. Ends the process with a message, as argparse does, when the
    words don't fit. Raises `InvalidError` for a parameter that the command line can't express.
    """
    kinds = [(one.parameter, _conversion(one)) for one in parameters]
    variadic = [pair for pair in kinds if pair[0].kind is pair[0].VAR_POSITIONAL]
    if variadic and len(kinds) > 1:
        raise InvalidError(
            f"the entry point's parameter *{variadic[0][0].name} can't have others beside it: "
            "all words are its own. Fix: declare a named parameter with a type for each option"
        )
    names = [parameter.name for parameter, _ in kinds]
    parser = Parser(prog=prog, description=about, add_help=False)
    if not variadic:
        parser.add_argument(
            *(["-h"] if "help" in names else ["-h", "--help"]),
            action="help",
            help="show the options and exit",
        )
    else:
        return EntryArguments(_all_words(parser, words, *variadic[0]), {})
    for parameter, kind in kinds:
        try:
            _add(parser, parameter, kind)
        except argparse.ArgumentError as error:
            raise InvalidError(
                f"the entry point's parameter {parameter.name} has the same option as another one "
                f"({error.message}). Fix: rename the parameter"
            ) from None
    given: dict[str, Any] = vars(parser.parse_args(list(words)))
    for parameter, kind in kinds:
        value = given[parameter.name]
        if kind.many is not None and value is not parameter.default:
            given[parameter.name] = kind.many(value)
    return EntryArguments((), given)


def _all_words(
    parser: Parser, words: Sequence[str], parameter: inspect.Parameter, kind: _Conversion
) -> tuple[Any, ...]:
    """Return the words for ``*args``, options included, each converted."""
    found = []
    for word in words:
        try:
            found.append(kind.convert(word))
        except (ValueError, argparse.ArgumentTypeError):
            parser.error(f"argument *{parameter.name}: invalid {kind.label} value: {word!r}")
    return tuple(found)


def _add(parser: Parser, parameter: inspect.Parameter, kind: _Conversion) -> None:
    settings: dict[str, Any] = {"dest": parameter.name, "help": kind.label}
    if parameter.default is parameter.empty:
        settings["required"] = True
        settings["help"] += ", required"
    else:
        settings["default"] = parameter.default
        settings["help"] += f", default: {parameter.default!r}"
    if kind.many is not None:
        settings["help"] += "; several times"
        settings["action"] = _Append
    settings["help"] = settings["help"].replace("%", "%%")
    if kind.convert is bool:
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings["type"] = kind.convert
    flags = dict.fromkeys((f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"))
    parser.add_argument(*flags, **settings)


class _Append(argparse.Action):
    """Collect the values of an option; the first one replaces the default."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        found = getattr(namespace, self.dest)
        found = [] if found is self.default else found
        setattr(namespace, self.dest, [*found, values])


def _conversion(given: EntryParameter) -> _Conversion:
    """Return how a parameter's words are converted."""
    parameter = given.parameter
    name = parameter.name
    if parameter.kind is parameter.VAR_KEYWORD:
        raise InvalidError(
            f"the entry point's parameter **{name} can't be written on the command line. "
            "Fix: declare a named parameter with a type for each option"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InvalidError(
            f"the entry point's parameter {name} is positional-only, but options are given by "
            "name. Fix: remove the / from its parameters"
        )
    annotation = _annotation(given)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _LISTS or origin in _LISTS:
        if not inner or _is_uniform(origin, inner):
            one = _single(inner[0]) if inner else _single(str)
            if one is not None and one.convert is not bool:
                many = tuple if tuple in (origin, annotation) else list
                return _Conversion(one.convert, f"{many.__name__} of {one.label}", many)
    elif annotation in (Any, parameter.empty):
        return _of_default(parameter.default)
    else:
        one = _single(annotation)
        if one is not None:
            return one
    shown = annotation if origin is not None else getattr(annotation, "__name__", annotation)
    raise InvalidError(
        f"the entry point's parameter {name} is a {shown}, which can't be written on the command "
        f"line. Fix: use {_TYPES}, and convert the value in the function"
    )


def _is_uniform(origin: Any, inner: tuple[Any, ...]) -> bool:
    """Return whether a list or tuple takes any number of one type."""
    return len(inner) == 1 if origin is not tuple else len(inner) == 2 and inner[1] is ...


def _of_default(default: Any) -> _Conversion:
    """Return the conversion of a parameter that has no annotation."""
    kind = type(default)
    if kind in (list, tuple) and all(type(one) in _PLAIN for one in default):
        inner = type(default[0]) if default else str
        return _Conversion(inner, f"{kind.__name__} of {inner.__name__}", kind)
    found = _single(Path if issubclass(kind, Path) else kind)
    return found if found is not None else _Conversion(str, "str")


def _single(annotation: Any) -> _Conversion | None:
    """Return the conversion to a type that is one word, None if there is none."""
    if annotation in _PLAIN:
        return _Conversion(annotation, annotation.__name__)
    if annotation in (datetime.datetime, datetime.date):
        return _Conversion(_converts(annotation.fromisoformat, annotation), annotation.__name__)
    if typing.get_origin(annotation) is typing.Literal:
        values = {str(value): value for value in typing.get_args(annotation)}
        if all(type(value) in (str, int) for value in values.values()):
            return _Conversion(_chooses(values), "|".join(values))
    return None


def _converts(convert: Callable[[str], Any], kind: type) -> Callable[[str], Any]:
    def from_word(word: str) -> Any:
        return convert(word)

    from_word.__name__ = kind.__name__  # argparse names it in its message
    return from_word


def _chooses(values: dict[str, Any]) -> Callable[[str], Any]:
    def choose(word: str) -> Any:
        if word not in values:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(values)}")
        return values[word]

    return choose


def _annotation(given: EntryParameter) -> Any:
    """Return the annotation, evaluated, without ``| None`` and without metadata."""
    name, written = given.parameter.name, given.parameter.annotation
    if written is given.parameter.empty:
        return written

    def lone() -> None: ...

    lone.__annotations__ = {name: written}
    try:
        found = typing.get_type_hints(lone, globalns=given.space)[name]
    except Exception as error:
        raise InvalidError(
            f"the entry point's parameter {name} is annotated with {written!r}, which "
            f"can't be evaluated ({error}). Fix: use {_TYPES}"
        ) from None
    if typing.get_origin(found) in (typing.Union, types.UnionType):
        options = [one for one in typing.get_args(found) if one is not type(None)]
        found = options[0] if len(options) == 1 else found
    return found
