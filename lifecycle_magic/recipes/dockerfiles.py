"""A Dockerfile of the user's as the base of an image: its context, and what it starts from.

Of its text only what the classic builder knows is read: ``ARG`` before the first ``FROM``, stages,
``COPY --from``. See https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.checks import refuse_credentials
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.recipes.localfiles import LocalFile, kind_of

__all__ = ["PRIVATE_DOCKERFILE", "Dockerfile", "images_in"]

PRIVATE_DOCKERFILE = ".lifecycle-magic.dockerfile"
"""Where a user's Dockerfile, which may lie anywhere, is in the context that the engine gets."""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile with its build context, as they are when the image is needed.

    What the ``.dockerignore`` of the context leaves out is no part of it.
    """

    path: Path
    context: Path
    args: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        call = "Image.from_dockerfile"
        if not self.path.is_file():
            raise InvalidError(f"{call}: there is no file {str(self.path)!r}: check the path")
        if not self.context.is_dir():
            raise InvalidError(
                f"{call}: the context {str(self.context)!r} is no folder: check context_dir"
            )
        refuse_credentials(call, *(value for _, value in self.args))

    def files(self) -> list[str]:
        """The paths of the context's files below it, sorted."""
        from docker.utils import exclude_paths

        ignore = self.context / ".dockerignore"
        lines = ignore.read_text().splitlines() if ignore.is_file() else []
        patterns = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
        return sorted(exclude_paths(str(self.context), patterns, dockerfile=PRIVATE_DOCKERFILE))

    def images(self) -> tuple[str, ...]:
        """The references of the images that it starts from or copies from."""
        return images_in(self.path.read_text(), dict(self.args))

    def key(self) -> str:
        """A digest (hex) of all that goes into its build, but for `images`."""
        told = [self.path.read_text(), repr(self.args)]
        for name in self.files():
            path = self.context / name
            mode = path.lstat().st_mode
            kind = kind_of(mode)
            if kind is not None:
                told.append(LocalFile(path, name, kind, stat.S_IMODE(mode)).digest())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def images_in(text: str, args: Mapping[str, str]) -> tuple[str, ...]:
    """The references of the images that the Dockerfile ``text`` needs, in order, each once.

    ``args`` are build arguments. Stages of the file itself and ``scratch`` are none.

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
    """Each instruction's name in capitals and what follows, without comments and line breaks."""
    directive = _ESCAPE.match(text)
    escape = directive[1] if directive else "\\"
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or (pending and not line.strip()):
            continue
        pending += line.strip()
        if pending.endswith(escape):
            pending = pending[:-1] + " "
            continue
        name, *rest = pending.split(None, 1) or [""]
        yield name.upper(), "".join(rest)
        pending = ""


def _expand(text: str, known: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, how, other = found[1] or found[2], found[3], found[4]
        given = known.get(name, "")
        if how == "-":
            return given or other
        return (other if given else "") if how == "+" else given

    return _VARIABLE.sub(value, text)
