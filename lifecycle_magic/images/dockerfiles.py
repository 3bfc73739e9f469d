"""A Dockerfile of the user's as the base of an image: its context, and the images it starts from.

Only the classic builder's syntax is read: ``ARG`` before the first ``FROM``, stages, ``COPY
--from``. See https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.checks import refuse_credentials
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.local_files import Ignore, digests, found_below, names_below

__all__ = ["PRIVATE_DOCKERFILE", "Dockerfile", "SetupCommands", "images_in"]

PRIVATE_DOCKERFILE = ".lifecycle-magic.dockerfile"
"""The name of the user's Dockerfile, which may lie anywhere, in the context that the engine
gets.
"""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)

_MOST_TEXT = 1 << 20  # bytes of a Dockerfile
_MOST_WORD = 1 << 12  # characters of an image's name, or of an argument's value


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile with its build context, as they are when the image is needed.

    What the ``.dockerignore`` of the context excludes is no part of it, unless ``ignore`` says
    what is excluded instead.
    """

    path: Path
    context: Path
    args: tuple[tuple[str, str], ...] = ()
    ignore: Ignore | None = None

    def __post_init__(self) -> None:
        call = "Image.from_dockerfile"
        if not self.path.is_file():
            raise InvalidError(f"{call}: there is no file {str(self.path)!r}. Fix: check the path")
        if not self.context.is_dir():
            raise InvalidError(
                f"{call}: the context {str(self.context)!r} is no folder. Fix: check context_dir"
            )
        refuse_credentials(call, *(value for _, value in self.args))
        _refuse_mounts(self.text())

    def text(self) -> str:
        """Return the Dockerfile itself. Raises `InvalidError` if it can't be read."""
        return _read(self.path)

    def written(self) -> str:
        """Return the arguments of the call on `Image` that it comes from."""
        return f"Image.from_dockerfile({str(self.path)!r}"

    def files(self) -> list[str]:
        """Return the sorted relative paths of the context's files."""
        if self.ignore is not None:
            return names_below(self.context, self.ignore)
        from docker.utils import exclude_paths

        ignore = self.context / ".dockerignore"
        lines = _read(ignore).splitlines() if ignore.is_file() else []
        patterns = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
        return sorted(exclude_paths(str(self.context), patterns, dockerfile=PRIVATE_DOCKERFILE))

    def images(self) -> tuple[str, ...]:
        """Return the references of the images that the Dockerfile starts from or copies from."""
        text = self.text()
        _refuse_mounts(text)
        return images_in(text, dict(self.args))

    def key(self) -> str:
        """Return a digest (hex) of all that goes into the build, except `images`."""
        found = (found_below(self.context, name) for name in self.files())
        files = digests(file for file in found if file is not None)
        parts = [self.text(), repr(self.args), *files]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class SetupCommands(Dockerfile):
    """The instructions of ``setup_dockerfile_commands``, on top of the image ``base``.

    They run before the image is asked for its Python, which they may install.
    """

    base: str = ""
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        call = "Image.from_registry(setup_dockerfile_commands=...)"
        refuse_credentials(call, *self.commands)
        for name, rest in _instructions("\n".join(self.commands)):
            if name in ("ADD", "COPY", "FROM", "CMD", "ENTRYPOINT"):
                raise InvalidError(
                    f"{call}: {f'{name} {rest}'[:80]!r} can't be one of them. Fix: write it as "
                    ".dockerfile_commands(...) after it, or use Image.from_dockerfile(path)"
                )
        _refuse_mounts(self.text())

    def text(self) -> str:
        """Return the Dockerfile itself."""
        return "\n".join([f"FROM {self.base}", *self.commands]) + "\n"

    def written(self) -> str:
        """Return the arguments of the call on `Image` that it comes from."""
        commands = f"setup_dockerfile_commands={list(self.commands)!r}"
        return f"Image.from_registry({self.base!r}, {commands}"

    def files(self) -> list[str]:
        """Return an empty list: there is no context."""
        return []


def images_in(text: str, args: Mapping[str, str]) -> tuple[str, ...]:
    """Return the references of the images that the Dockerfile ``text`` needs, in order, each once.

    ``args`` are build arguments. Stages of the file itself and ``scratch`` do not count.

    >>> images_in("ARG V=3\\nFROM python:$V AS one\\nFROM one\\nCOPY --from=tools:2 /a /b", {})
    ('python:3', 'tools:2')
    """
    known: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    found: dict[str, None] = {}
    count = 0

    def refer(reference: str) -> None:
        if reference and reference.lower() not in stages:
            found[reference] = None

    for instruction, rest in _instructions(text):
        words = rest.split()
        if instruction == "ARG" and not count:
            for word in words:
                name, _, default = word.partition("=")
                known[name] = args.get(name, _expand(default.strip("\"'"), known))
        elif instruction == "FROM":
            plain = [word for word in words if not word.startswith("--")]
            refer(_expand(plain[0].strip("\"'"), known) if plain else "")
            stages.add(str(count))
            count += 1
            if len(plain) == 3 and plain[1].upper() == "AS":
                stages.add(plain[2].lower())
        elif instruction == "COPY":
            for word in words:
                if word.startswith("--from="):
                    refer(word.removeprefix("--from="))
    return tuple(found)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction's name in capitals and its arguments, without comments and line
    breaks.
    """
    directive = _ESCAPE.match(text)
    escape = directive[1] if directive else "\\"
    parts: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#") or (parts and not line):
            continue
        if line.endswith(escape):
            parts.append(line[:-1])
            continue
        name, *rest = " ".join([*parts, line]).split(None, 1) or [""]
        yield name.upper(), "".join(rest)
        parts.clear()


def _refuse_mounts(text: str) -> None:
    for instruction, rest in _instructions(text):
        if instruction == "RUN" and rest.startswith("--mount"):
            raise InvalidError(
                f"Image.from_dockerfile: RUN {rest.split()[0]} needs BuildKit, which is not used "
                "here. Fix: leave the instruction out, and write it as .run_commands(..., "
                "secrets=[...], volumes={...}) after Image.from_dockerfile(...)"
            )


def _read(path: Path) -> str:
    """Raise `InvalidError` unless it is a text file of a reasonable size."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_TEXT + 1)
        if len(data) <= _MOST_TEXT:
            return data.decode()
        why = f"it has more than {_MOST_TEXT} bytes"
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    raise InvalidError(f"Image.from_dockerfile: {str(path)!r} can't be read: {why}")


def _expand(text: str, known: Mapping[str, str]) -> str:
    if len(text) > _MOST_WORD:
        raise InvalidError(f"Image.from_dockerfile: a name of {len(text)} characters: {text[:80]}…")

    def value(found: re.Match[str]) -> str:
        name, how, other = found[1] or found[2], found[3], found[4]
        given = known.get(name, "")
        if how == "-":
            return given or other
        return (other if given else "") if how == "+" else given

    expanded = _VARIABLE.sub(value, text)
    if len(expanded) > _MOST_WORD:  # variables that hold each other grow without end
        raise InvalidError(
            f"Image.from_dockerfile: {text[:80]!r} stands for {len(expanded)} characters: "
            f"at most {_MOST_WORD} can be a name"
        )
    return expanded
