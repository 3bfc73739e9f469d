"""A requirements file as a list of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lifecycle_magic.exception import InvalidError

__all__ = ["read_requirements"]

_INCLUDES = ("-r ", "--requirement ", "-r=", "--requirement=")


def read_requirements(call: str, path: Path) -> tuple[str, ...]:
    """The packages that a requirements file names, those of files that it includes among them.

    Raises `InvalidError` for options, which belong to the step, and for hashes and editable
    installs, which only ``pip install -r`` itself takes.
    """
    return tuple(_read(call, path, ()))


def _read(call: str, path: Path, above: tuple[Path, ...]) -> Iterator[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{call}: {str(path)!r} can't be read: {error}") from None
    for raw in text.replace("\\\n", " ").splitlines():
        # As pip has it: a comment starts a line, or follows a blank.
        line = " ".join(f" {raw}".partition(" #")[0].split())
        included = next((line.removeprefix(p) for p in _INCLUDES if line.startswith(p)), None)
        if included is not None:
            inner = (path.parent / included.strip()).absolute()
            if inner not in (*above, path):
                yield from _read(call, inner, (*above, path))
        elif line.startswith("-") or " --" in line:
            raise InvalidError(
                f"{call}: {path.name} has {line!r}: give options of the index as index_url=, "
                "extra_index_url=, find_links= or pre=, and what else is no package with "
                f".add_local_file({path.name!r}, '/tmp/{path.name}')"
                f".run_commands('python3 -m pip install -r /tmp/{path.name}')"
            )
        elif line:
            yield line
