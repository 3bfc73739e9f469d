"""The reasons why a step of an image runs again, from comparing two builds of a class part by part.

The layers of each class's last build are kept below the state root, as names and digests: the base,
the steps of the recipe, and what every build hook reads. No value is stored. A class is identified
by its name, its app and its notebook, because another notebook may use the same name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.host.paths import file_name, private_folder, state_root
from lifecycle_magic.host.private_file import write_private

__all__ = ["Layer", "Record", "describe", "explain", "keep", "last", "notebook"]

_MAX_NAMES = 4  # names in one reason


@dataclass(frozen=True)
class Layer:
    """One layer of an image: its human-readable title, and a digest of each part that it is made
    from.
    """

    title: str
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A build: its time (seconds since the epoch), its layers, and why they were built."""

    at: float
    layers: tuple[Layer, ...]
    reasons: tuple[str, ...]


def explain(old: tuple[Layer, ...] | None, new: tuple[Layer, ...]) -> tuple[str, ...]:
    """Return a line for each layer of ``new`` that differs from ``old``, lowest first.

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
            verb = "is a different one" if layer.parts.keys() == {"id"} else "runs again"
            because = "" if layer.parts.keys() == {"id"} else f": {_listed(names)} changed"
            lines.append(f"{layer.title} {verb}{because}")
        elif below:
            lines.append(f"{layer.title} runs again: it is built on {below}")
        elif moved:
            lines.append(f"{layer.title} runs again: the layer below it was removed")
        else:
            continue
        below = below or layer.title
    gone = [layer.title for layer in old if layer.title not in {one.title for one in new}]
    return (*lines, *(f"{title} was removed" for title in gone))


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [*new, *(name for name in old if name not in new)]
    return [name.rpartition(" (")[0] or name for name in names if old.get(name) != new.get(name)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def describe(record: Record | None, name: str) -> str:
    """Return a human-readable description of the last build of a class."""
    if record is None:
        return f"{name} was not built yet"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at))
    return "\n".join(
        [f"{name}: the image changed last on {when}", *map("  {}".format, record.reasons)]
    )


# --- kept on disk --------------------------------------------------------------------------------


@functools.cache
def notebook() -> str:
    """Return a string that identifies this notebook or script across sessions.

    It holds the path of the notebook, if its environment provides it (Jupyter Server, VS Code), and
    the folder in which the process started.
    """
    space = vars(sys.modules["__main__"])
    path = space.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return f"{os.getcwd()}\n{path or space.get('__file__', '')}"


def last(engine: str, app: str, name: str) -> Record | None:
    """Return the last build of this notebook's class ``name`` in any session, None if unknown."""
    try:
        kept = json.loads(_path(engine, app, name).read_text())
        layers = tuple(Layer(title, parts) for title, parts in kept["layers"])
        return Record(kept["at"], layers, tuple(kept["reasons"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(engine: str, app: str, name: str, record: Record) -> None:
    """Store ``record`` as the last build of this notebook's class ``name``."""
    content = {
        "at": record.at,
        "layers": [[layer.title, dict(layer.parts)] for layer in record.layers],
        "reasons": record.reasons,
    }
    write_private(_path(engine, app, name), json.dumps(content))


def _path(engine: str, app: str, name: str) -> Path:
    # A class may have a longer name than a file.
    whose = hashlib.sha256("\0".join((notebook(), app, name)).encode()).hexdigest()
    return (
        private_folder(state_root() / "builds")
        / f"{file_name(engine)}-{name[:80]}-{whose[:16]}.json"
    )
