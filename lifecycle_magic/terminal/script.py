"""Running a script's entry point: ``lifecycle-magic run script.py[::entrypoint] [--option value]``.

The script runs as ``__main__``, so that its classes travel to containers by value, with its folder
first on ``sys.path``, as ``python script.py`` would run it.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import Error, InvalidError

__all__ = ["call", "entrypoint", "load", "parse", "report"]


def load(path: Path, arguments: Sequence[str] = ()) -> types.ModuleType:
    """Run the file as ``__main__`` and return the module. Raises what it raises."""
    if not path.is_file():
        raise InvalidError(f"{path} is no file: name a Python script")
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    sys.path.insert(0, str(path.resolve().parent))
    sys.argv = [str(path), *arguments]
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def entrypoint(module: types.ModuleType, name: str | None) -> Callable[..., Any]:
    """The function marked with ``@app.local_entrypoint()``: ``name``, else the only one.

    Raises `InvalidError` that lists what there is.
    """
    from lifecycle_magic.app import App

    found: dict[str, Callable[..., Any]] = {}
    for value in vars(module).values():
        if isinstance(value, App):
            found.update(value.entrypoints)
    script = Path(module.__file__ or "").name
    if name is not None:
        if name not in found:
            there = f"it has {', '.join(found)}" if found else "it has none"
            raise InvalidError(f"{script} has no entry point {name!r}: {there}")
        return found[name]
    if not found:
        raise InvalidError(
            f"{script} has no entry point: put @app.local_entrypoint() above the function to run"
        )
    if len(found) > 1:
        raise InvalidError(
            f"{script} has several entry points; name one: "
            + ", ".join(f"{script}::{one}" for one in found)
        )
    return next(iter(found.values()))


def parse(function: Callable[..., Any], words: Sequence[str], prog: str) -> dict[str, Any]:
    """The function's arguments from the command line, one option for each parameter.

    Understands ``str``, ``int``, ``float``, ``bool`` (``--flag``, ``--no-flag``), `Path`, and
    ``| None`` of these. Ends the process with a message, as argparse does, when they don't fit.
    """
    parser = argparse.ArgumentParser(prog=prog, description=inspect.getdoc(function))
    try:
        types_of = typing.get_type_hints(function)
    except Exception:  # an annotation that can't be evaluated: its parameter takes a text
        types_of = {}
    for parameter in inspect.signature(function).parameters.values():
        _add(parser, parameter, types_of.get(parameter.name, str))
    return vars(parser.parse_args(list(words)))


def _add(parser: argparse.ArgumentParser, parameter: inspect.Parameter, annotation: Any) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise InvalidError(
            f"the entry point's parameter *{parameter.name} can't be written on the command line: "
            "give it a name and a type for each option"
        )
    kind = _kind(parameter.name, annotation)
    settings: dict[str, Any] = {"dest": parameter.name}
    if parameter.default is parameter.empty:
        settings["required"] = True
    else:
        settings["default"] = parameter.default
        settings["help"] = f"default: {parameter.default!r}".replace("%", "%%")
    if kind is bool:
        settings["action"] = argparse.BooleanOptionalAction
    else:
        settings["type"] = kind
    flags = dict.fromkeys((f"--{parameter.name.replace('_', '-')}", f"--{parameter.name}"))
    parser.add_argument(*flags, **settings)


def _kind(name: str, annotation: Any) -> Callable[[str], Any]:
    options = [one for one in typing.get_args(annotation) if one is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, getattr(types, "UnionType", None)):
        annotation = options[0] if len(options) == 1 else annotation
    if annotation in (str, int, float, bool, Path):
        return annotation  # type: ignore[no-any-return]
    if annotation is Any:
        return str
    shown = getattr(annotation, "__name__", annotation)
    raise InvalidError(
        f"the entry point's parameter {name} is a {shown}, which can't be written on the command "
        "line: use str, int, float, bool or Path, and make the rest of it in the function"
    )


def call(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call the entry point, sync or async. Raises what it raises."""
    from lifecycle_magic.app import run_entrypoint

    run_entrypoint(function, arguments)


def report(error: BaseException, script: Path) -> str:
    """The traceback of ``error`` with the script's own and the remote frames, and none of ours."""
    from lifecycle_magic.failure import strip

    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        strip(chain)
        _begin_at(chain, str(script))
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, Error) and error.__traceback__ is None:
        return f"lifecycle-magic: {error}\n"  # it happened in no line of the script
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _begin_at(error: BaseException, filename: str) -> None:
    """Drop the frames above the script's first: importlib's, or the event loop's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
