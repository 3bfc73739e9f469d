"""The options of ``%%lifecycle_cls``, derived from `Options`.

Every field of `Options` that is a single value has a flag of the same name. The four fields that
are lists or objects in Python (image, env, secrets, volumes) have their own flags. This module only
converts values to numbers; `Options.make` checks them, with the same messages as for ``@app.cls``.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.options import DeclaredOption, Options, declared
from lifecycle_magic.spec.unknown_options import explain_unknown

__all__ = [
    "WHERE",
    "MagicParser",
    "Request",
    "describe",
    "env_pair",
    "merged_steps",
    "parse",
    "plain_options",
    "read",
]

WHERE = "%%lifecycle_cls"
_APP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Request:
    """The parsed line after ``%%lifecycle_cls``.

    ``lazy``: only declare; the first call builds and starts. ``fresh``: start new containers even
    if nothing changed. ``rebuild``: run the build hooks again, in new containers. ``app``: the name
    under which other notebooks call the classes, with their own names; empty for none.
    """

    options: Options
    lazy: bool = False
    fresh: bool = False
    rebuild: bool = False
    app: str = ""


@dataclass(frozen=True)
class _Flag:
    flag: str
    value: str  # the name of the value in the help; "" is a switch, "X..." takes several values
    help: str


_IMAGE = (
    _Flag("--image", "REF", "base image, by name (default: Debian with this kernel's Python)"),
    _Flag(
        "--python", "VERSION", "Python version of the default base image (default: this kernel's)"
    ),
    _Flag("--pip", "PKG...", "install Python packages with pip"),
    _Flag("--uv-pip", "PKG...", "install Python packages with uv"),
    _Flag("--apt", "PKG...", "install Debian packages"),
    _Flag("--run", "COMMAND", "run a shell command, in quotes"),
)
_LISTS = (
    _Flag("--env", "NAME=VALUE...", "environment variables"),
    _Flag("--secret", "NAME...", "secret environment variables, with their values in this kernel"),
    _Flag("--dotenv", "FILE", "secret environment variables from a .env file"),
    _Flag("--volume", "SOURCE:PATH...", "a named volume (weights:/weights) or a folder (./d:/d)"),
)
_CELL = (
    _Flag("--lazy", "", "only declare; the first call builds the image and starts a container"),
    _Flag("--fresh", "", "start new containers even if nothing changed"),
    _Flag("--rebuild", "", "run the build hooks again, in new containers"),
)
_APP = (_Flag("--app", "NAME", 'let other notebooks call it: lm.Cls.from_name("NAME", "Model")'),)
_STEPS = ("--pip", "--uv-pip", "--apt", "--run")


def _plain() -> tuple[_Flag, ...]:
    return tuple(_of(name, one) for name, one in declared().items() if one.value is not None)


def _of(name: str, one: DeclaredOption) -> _Flag:
    default = getattr(Options(), name)
    shown = f" (default: {default:g})" if isinstance(default, float) else ""
    return _Flag("--" + name.replace("_", "-"), one.value or "", one.help + shown)


GROUPS = (
    ("Image (steps run in the given order)", _IMAGE),
    ("Environment, secrets and volumes", _LISTS),
    ("Container", _plain()),
    ("Other notebooks", _APP),
    ("This run of the cell", _CELL),
)


def parse(line: str, cwd: Path | None = None) -> Request:
    """Parse the magic's line. Relative paths are relative to ``cwd`` (default: the current folder).

    Raises `InvalidError` that names the option and the fix.

    >>> parse("--pip numpy pandas --cpu 2").options.cpu
    2.0
    """
    given = read(line)
    options = plain_options(given)
    options["image"] = _image(given)
    options["env"] = dict(env_pair(text) for text in given.env) or None
    options["secrets"] = _secrets(given)
    options["volumes"] = _volumes(given.volume, cwd or Path.cwd())
    return Request(
        Options.make(WHERE, **{k: v for k, v in options.items() if v is not None}),
        lazy=bool(given.lazy),
        fresh=bool(given.fresh),
        rebuild=bool(given.rebuild),
        app=_app(given.app),
    )


def read(line: str) -> argparse.Namespace:
    """Return the flags of the magic's line with their words. Raises `InvalidError`."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidError(f"{WHERE} {line}: {error}. Fix: close the quotes") from None
    given, extra = _parser().parse_known_args([_dashes(word) for word in words])
    if extra:
        raise InvalidError(f"{WHERE}: {_unknown(extra[0])}")
    return given


def plain_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are single values, None for those that the line does not have."""
    values = {
        name: getattr(given, name) for name, one in declared().items() if one.value is not None
    }
    return {name: None if value == [] else value for name, value in values.items()}


def describe() -> str:
    """Return every option with its help, as ``%%lifecycle_cls?`` shows it."""
    parts = []
    for title, flags in GROUPS:
        rows = [(f"{f.flag} {f.value}".rstrip(), f.help) for f in flags]
        width = max(len(left) for left, _ in rows)
        parts.append("\n".join([f"{title}:", *(f"  {a:<{width}}  {b}" for a, b in rows)]))
    return "\n\n".join(parts)


def _app(name: str | None) -> str:
    if name is not None and not _APP_NAME.fullmatch(name):
        raise InvalidError(
            f"{WHERE} --app {name}: this can't be the name of an app. "
            "Fix: use letters, digits, '_', '-' and '.', as in --app demo"
        )
    return name or ""


# --- the parser --------------------------------------------------------------------------------


class MagicParser(argparse.ArgumentParser):
    """An `ArgumentParser` for a magic: it raises `InvalidError` instead of ending the process."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print."""
        raise InvalidError(f"{self.prog}: {message.removeprefix('argument ')}")


class _Step(argparse.Action):
    """The argparse action that collects image steps in one list, in their order."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        words = values if isinstance(values, list) else [values]
        namespace.steps = [*namespace.steps, (self.option_strings[0], words)]


@functools.cache
def _parser() -> MagicParser:
    parser = MagicParser(WHERE)
    parser.set_defaults(steps=[])
    for _, flags in GROUPS:
        for flag in flags:
            _add(parser, flag)
    return parser


def _add(parser: MagicParser, flag: _Flag) -> None:
    several = flag.value.endswith("...")
    if not flag.value:
        parser.add_argument(flag.flag, action="store_true", default=None)
    elif flag.flag in _STEPS:
        parser.add_argument(flag.flag, action=_Step, nargs="+" if several else None)
    elif several:
        parser.add_argument(flag.flag, action="extend", nargs="+", default=[])
    elif flag.flag == "--dotenv":
        parser.add_argument(flag.flag, action="append", default=[])
    elif flag in _IMAGE:
        parser.add_argument(flag.flag)
    else:
        parser.add_argument(flag.flag, type=_number)


def _number(text: str) -> int | float | str:
    """Return the value as a number if it is one; `Options.make` checks it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _dashes(word: str) -> str:
    """Return ``--exit_grace`` as ``--exit-grace``, which means the same."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _unknown(word: str) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"{word!r} belongs to no option. Fix: put a value with spaces in quotes"
    known = [flag.flag[2:] for _, flags in GROUPS for flag in flags]
    meant = name.strip("-")
    near = [flag for flag in known if meant and flag.startswith(meant)]
    near = near or difflib.get_close_matches(meant, known, n=1, cutoff=0.7)
    if near:
        return f"no option {name}: did you mean --{near[0]}?"
    option = meant.replace("-", "_")
    from lifecycle_magic.modal_api.table import find

    entry = find("options", f"{option}=")
    if entry is not None and entry.verdict == "renamed":
        return f"{name} is an old spelling: write {entry.note}"
    if entry is not None and entry.verdict == "ignored":
        return f"{name} does nothing here: {entry.note}. Fix: leave it out"
    # An option that Modal has, or had, is explained as for @app.cls.
    message = explain_unknown(option, declared())
    if "it takes" not in message and "did you mean" not in message:
        return f"{name}: {message}"
    return f"no option {name}: {WHERE}? lists them"


# --- lists and objects --------------------------------------------------------------


def _image(given: argparse.Namespace) -> Any:
    if not (given.image or given.python or given.steps):
        return None
    from lifecycle_magic.images.image import Image

    if given.image and given.python:
        raise InvalidError(
            f"{WHERE}: --python applies to the default base image only. "
            f"Fix: remove --python; {given.image} has its own Python"
        )
    image = (
        Image.from_registry(given.image) if given.image else Image.debian_slim(given.python or None)
    )
    for flag, words in merged_steps(given.steps):
        if flag == "--pip":
            image = image.pip_install(*words)
        elif flag == "--uv-pip":
            image = image.uv_pip_install(*words)
        elif flag == "--apt":
            image = image.apt_install(*words)
        else:
            image = image.run_commands(*words)
    return image


def merged_steps(steps: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Merge equal neighbours: ``--pip a --pip b`` is one step, like ``--pip a b``."""
    merged: list[tuple[str, list[str]]] = []
    for flag, words in steps:
        if merged and merged[-1][0] == flag:
            merged[-1][1].extend(words)
        else:
            merged.append((flag, list(words)))
    return merged


def env_pair(text: str) -> tuple[str, str]:
    """Return the name and the value of ``--env NAME=VALUE``. Raises `InvalidError`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidError(
            f"{WHERE}: --env {name} has no value. Fix: write --env {name}=value, "
            f"or --secret {name} to pass this kernel's value"
        )
    return name, value


def _secrets(given: argparse.Namespace) -> list[Any] | None:
    if not (given.secret or given.dotenv):
        return None
    from lifecycle_magic.secret import Secret

    for name in given.secret:
        if "=" in name:  # the string may be the secret itself: it must not be shown
            raise InvalidError(
                f"{WHERE}: --secret takes a name, not NAME=value: a value would stay in the saved "
                "notebook. Fix: set the variable in the kernel's environment and pass its name"
            )
    found = [Secret.from_dotenv(file) for file in given.dotenv]
    return [*found, Secret.from_local_environ(given.secret)] if given.secret else found


def _volumes(texts: Sequence[str], cwd: Path) -> dict[str, Any] | None:
    if not texts:
        return None
    from lifecycle_magic.volume import parse_mount

    mounts: dict[str, Any] = {}
    for text in texts:
        path, volume = parse_mount(text, cwd)
        if path in mounts:
            raise InvalidError(
                f"{WHERE}: two volumes at {path}. Fix: give one of them another path"
            )
        mounts[path] = volume
    return mounts
