"""The options of ``%%lifecycle_cls``, read from `Options` so that the two can't drift apart.

Every field of `Options` that is one value has the flag of its name. Four fields that are lists or
objects in Python (image, env, secrets, volumes) are written with flags of their own. A value is
only turned into a number here; whether it can work is `Options.make`'s to say, in the same words
as for ``@app.cls``.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.options import Options

__all__ = ["WHERE", "Parser", "Request", "describe", "parse"]

WHERE = "%%lifecycle_cls"


@dataclass(frozen=True)
class Request:
    """What the line after ``%%lifecycle_cls`` asks for.

    ``lazy``: declare, and let the first call build and start. ``fresh``: new containers although
    nothing changed. ``rebuild``: that, and the build hooks run again.
    """

    options: Options
    lazy: bool = False
    fresh: bool = False
    rebuild: bool = False


@dataclass(frozen=True)
class _Flag:
    flag: str
    value: str  # how the value is called in the help; "" is a switch, "X..." takes several
    help: str


# One line for each plain field of `Options`; a test finds one that is missing.
_PLAIN = {
    "cpu": ("CORES", "cores, at most those of this machine"),
    "memory": ("MIB", "memory limit in MiB"),
    "gpu": ("GPU", "a count, 'any', or a name such as 'A100:2'"),
    "shm_size": ("MIB", "size of /dev/shm in MiB"),
    "timeout": ("SECONDS", "how long one attempt of a call may take"),
    "startup_timeout": ("SECONDS", "how long start and enter may take"),
    "retries": ("COUNT", "how often a failed call is tried again"),
    "min_containers": ("COUNT", "containers that are kept although idle"),
    "max_containers": ("COUNT", "containers there may be at once"),
    "buffer_containers": ("COUNT", "spare containers above what is busy"),
    "scaledown_window": ("SECONDS", "idle time before a container goes (default: it stays)"),
    "block_network": ("", "no network in the container"),
    "exit_grace": ("SECONDS", "how long exit hooks may take"),
    "engine": ("ENGINE", "auto, docker or process"),
}
_IMAGE = (
    _Flag("--image", "REF", "base image by name, instead of Debian with this kernel's Python"),
    _Flag("--python", "VERSION", "Python of the default base: this kernel's minor version"),
    _Flag("--pip", "PKG...", "install Python packages with pip"),
    _Flag("--uv-pip", "PKG...", "install Python packages with uv"),
    _Flag("--apt", "PKG...", "install Debian packages"),
    _Flag("--run", "COMMAND", "run a shell command (in quotes)"),
)
_LISTS = (
    _Flag("--env", "NAME=VALUE...", "environment variables"),
    _Flag("--secret", "NAME...", "secret variables, with the values they have in this kernel"),
    _Flag("--dotenv", "FILE", "secret variables from a .env file"),
    _Flag("--volume", "SOURCE:PATH...", "a named volume (weights:/weights) or folder (./d:/d)"),
)
_CELL = (
    _Flag("--lazy", "", "only declare: the first call builds and starts"),
    _Flag("--fresh", "", "new containers although nothing changed"),
    _Flag("--rebuild", "", "run the build hooks again, in new containers"),
)
_STEPS = ("--pip", "--uv-pip", "--apt", "--run")


def _plain() -> tuple[_Flag, ...]:
    return tuple(_of(field) for field in dataclasses.fields(Options) if field.name in _PLAIN)


def _of(field: dataclasses.Field[Any]) -> _Flag:
    value, told = _PLAIN[field.name]
    if isinstance(field.default, float):
        told = f"{told} (default: {field.default:g})"
    return _Flag("--" + field.name.replace("_", "-"), value, told)


GROUPS = (
    ("Image, step by step in the order given", _IMAGE),
    ("Environment, secrets and volumes", _LISTS),
    ("Container", _plain()),
    ("This run of the cell", _CELL),
)


def parse(line: str, cwd: Path | None = None) -> Request:
    """Read the magic's line. ``cwd`` (default: the current folder) is where relative paths start.

    Raises `InvalidError` that names the option and the mend.

    >>> parse("--pip numpy pandas --cpu 2").options.cpu
    2.0
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidError(f"{WHERE} {line}: {error}; close the quotes") from None
    given, extra = _parser().parse_known_args([_dashes(word) for word in words])
    if extra:
        raise InvalidError(f"{WHERE}: {_unknown(extra[0])}")
    options = {name: getattr(given, name) for name in _PLAIN}
    options["image"] = _image(given)
    options["env"] = dict(_pair(text) for text in given.env) or None
    options["secrets"] = _secrets(given)
    options["volumes"] = _volumes(given.volume, cwd or Path.cwd())
    return Request(
        Options.make(WHERE, **{k: v for k, v in options.items() if v is not None}),
        lazy=bool(given.lazy),
        fresh=bool(given.fresh),
        rebuild=bool(given.rebuild),
    )


def describe() -> str:
    """Every option with its meaning, as ``%%lifecycle_cls?`` shows it."""
    parts = []
    for title, flags in GROUPS:
        rows = [(f"{f.flag} {f.value}".rstrip(), f.help) for f in flags]
        width = max(len(left) for left, _ in rows)
        parts.append("\n".join([f"{title}:", *(f"  {a:<{width}}  {b}" for a, b in rows)]))
    return "\n\n".join(parts)


# --- the parser --------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse for a magic: it raises `InvalidError` where argparse would end the process."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        raise InvalidError(f"{self.prog}: {message.removeprefix('argument ')}")


class _Step(argparse.Action):
    """Image steps go into one list, because their order counts."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        words = values if isinstance(values, list) else [values]
        namespace.steps = [*namespace.steps, (self.option_strings[0], words)]


def _parser() -> Parser:
    parser = Parser(WHERE)
    parser.set_defaults(steps=[])
    for _, flags in GROUPS:
        for flag in flags:
            _add(parser, flag)
    return parser


def _add(parser: Parser, flag: _Flag) -> None:
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
    """A number if it is one; what it has to be is for `Options.make` to say."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _dashes(word: str) -> str:
    """``--exit_grace`` is as good as ``--exit-grace``."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _unknown(word: str) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"{word!r} belongs to no option; a value with spaces needs quotes"
    known = [flag.flag[2:] for _, flags in GROUPS for flag in flags]
    meant = name.strip("-")
    near = [flag for flag in known if meant and flag.startswith(meant)]
    near = near or difflib.get_close_matches(meant, known, n=1, cutoff=0.7)
    if near:
        return f"no option {name}: did you mean --{near[0]}?"
    try:  # a name that Modal has, or had, is told of as for @app.cls
        Options.make(name, **{name.strip("-").replace("-", "_"): None})
    except InvalidError as error:
        if "it takes" not in str(error) and "did you mean" not in str(error):
            return str(error)
    return f"no option {name}: {WHERE}? lists them"


# --- what takes more than one value --------------------------------------------------------------


def _image(given: argparse.Namespace) -> Any:
    if not (given.image or given.python or given.steps):
        return None
    from lifecycle_magic.image import Image

    if given.image and given.python:
        raise InvalidError(
            f"{WHERE}: --python is for the default base; {given.image} has the Python it has"
        )
    image = (
        Image.from_registry(given.image) if given.image else Image.debian_slim(given.python or None)
    )
    for flag, words in _merged(given.steps):
        if flag == "--pip":
            image = image.pip_install(*words)
        elif flag == "--uv-pip":
            image = image.uv_pip_install(*words)
        elif flag == "--apt":
            image = image.apt_install(*words)
        else:
            image = image.run_commands(*words)
    return image


def _merged(steps: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """``--pip a --pip b`` is one step, like ``--pip a b``."""
    merged: list[tuple[str, list[str]]] = []
    for flag, words in steps:
        if merged and merged[-1][0] == flag:
            merged[-1][1].extend(words)
        else:
            merged.append((flag, list(words)))
    return merged


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidError(
            f"{WHERE}: --env {name} has no value: write --env {name}=value, "
            f"or --secret {name} for the one it has in this kernel"
        )
    return name, value


def _secrets(given: argparse.Namespace) -> list[Any] | None:
    if not (given.secret or given.dotenv):
        return None
    from lifecycle_magic.secret import Secret

    for name in given.secret:
        if "=" in name:  # the text may be the secret itself: it must not be shown
            raise InvalidError(
                f"{WHERE}: --secret takes a name, not NAME=value: a value would stay in the saved "
                "notebook. Set it in the environment and name it here"
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
            raise InvalidError(f"{WHERE}: two volumes at {path}; give one of them another path")
        mounts[path] = volume
    return mounts
