"""Why a step of an image runs again: two builds of a class compared, part by part.

Of each class the layers of its last build are kept below the state root, as names and digests: the
base, the steps of the recipe, and for every build hook what it reads. No value is ever in it. A
class is known by its name, its app and its notebook: another notebook's may be called the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.paths import private_folder, state_root

__all__ = ["Layer", "Record", "explain", "keep", "last", "notebook", "told"]

_MOST = 4  # names in one reason


@dataclass(frozen=True)
class Layer:
    """One layer of an image: its name for people, and a digest of each thing it is made from."""

    title: str
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A build: when it was (seconds since the epoch), its layers, and why they were made."""

    at: float
    layers: tuple[Layer, ...]
    reasons: tuple[str, ...]


def explain(old: tuple[Layer, ...] | None, new: tuple[Layer, ...]) -> tuple[str, ...]:
    """A line for each layer of ``new`` that is not as in ``old``, lowest first.

    >>> was, now = Layer("bake()", {"LIMIT (constant)": "1"}), Layer("bake()", {})
    >>> explain((was,), (now,))
    ('bake() runs again: LIMIT changed',)
    """
    if old is None:
        return ("this is its first build",)
    before = {layer.title: layer for layer in old}
    lines: list[str] = []
    below = ""
    for number, layer in enumerate(new):
        known = before.get(layer.title)
        moved = number >= len(old) or old[number].title != layer.title
        if known is None:
            lines.append(f"{layer.title} runs: it is new")
        elif names := _changed(known.parts, layer.parts):
            verb = "is another one" if layer.parts.keys() == {"id"} else "runs again"
            because = "" if layer.parts.keys() == {"id"} else f": {_listed(names)} changed"
            lines.append(f"{layer.title} {verb}{because}")
        elif below:
            lines.append(f"{layer.title} runs again: it lies on {below}")
        elif moved:
            lines.append(f"{layer.title} runs again: what lies below it is gone")
        else:
            continue
        below = below or layer.title
    gone = [layer.title for layer in old if layer.title not in {one.title for one in new}]
    return (*lines, *(f"{title} is gone" for title in gone))


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [*new, *(name for name in old if name not in new)]
    return [name.rpartition(" (")[0] or name for name in names if old.get(name) != new.get(name)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def told(record: Record | None, name: str) -> str:
    """The last build of a class, for people."""
    if record is None:
        return f"{name} was not built yet"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at))
    return "\n".join(
        [f"{name}: the image changed last on {when}", *map("  {}".format, record.reasons)]
    )


# --- kept on disk --------------------------------------------------------------------------------


@functools.cache
def notebook() -> str:
    """What tells this notebook or script from others, also in its next session.

    Its path, where what it runs in says so (Jupyter Server, VS Code), and the folder it began in.
    """
    space = vars(sys.modules["__main__"])
    told = space.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return f"{os.getcwd()}\n{told or space.get('__file__', '')}"


def last(engine: str, app: str, name: str) -> Record | None:
    """The last build of this notebook's class ``name``, of whatever session; None if unknown."""
    try:
        kept = json.loads(_path(engine, app, name).read_text())
        layers = tuple(Layer(title, parts) for title, parts in kept["layers"])
        return Record(kept["at"], layers, tuple(kept["reasons"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(engine: str, app: str, name: str, record: Record) -> None:
    """Make ``record`` the last build of this notebook's class ``name``."""
    path = _path(engine, app, name)
    content = {
        "at": record.at,
        "layers": [[layer.title, dict(layer.parts)] for layer in record.layers],
        "reasons": record.reasons,
    }
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    part.write_text(json.dumps(content))
    part.replace(path)


def _path(engine: str, app: str, name: str) -> Path:
    # A class may have a longer name than a file.
    whose = hashlib.sha256("\0".join((notebook(), app, name)).encode()).hexdigest()
    return private_folder(state_root() / "builds") / f"{engine}-{name[:80]}-{whose[:16]}.json"
