"""Which images a Dockerfile's text refers to: what it starts from, and what it copies from.

Only what the classic builder knows: ``ARG`` before the first ``FROM``, stages, ``COPY --from``. See
https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

__all__ = ["images_in"]

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)


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
