"""A requirements file, read as a list of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lifecycle_magic.exception import InvalidError

__all__ = ["read_requirements"]

_MOST_FILES = 200
_MOST_BYTES = 1 << 20  # of one file
_INCLUDES = ("-r ", "--requirement ", "-r=", "--requirement=")


def read_requirements(call: str, path: Path) -> tuple[str, ...]:
    """Return the packages of a requirements file, including those of the files that it includes.

    Raises `InvalidError` for options, which belong to the step, and for hashes and editable
    installs, which only ``pip install -r`` itself supports.
    """
    return tuple(_read(call, path, set()))


def _read(call: str, path: Path, seen: set[Path]) -> Iterator[str]:
    text = _text(call, path, seen)
    for raw in text.replace("\\\n", " ").splitlines():
        # As pip has it: a comment starts a line or follows a blank.
        line = " ".join(f" {raw}".partition(" #")[0].split())
        included = next((line.removeprefix(p) for p in _INCLUDES if line.startswith(p)), None)
        if included is not None:
            inner = path.parent / included.strip()
            if _resolved(call, inner) not in seen:
                yield from _read(call, inner, seen)
        elif line.startswith("-") or " --" in line:
            raise InvalidError(
                f"{call}: {path.name} has {line!r}. Fix: give options of the index as index_url=, "
                "extra_index_url=, find_links= or pre=, and anything else that is no package with "
                f".add_local_file({path.name!r}, '/tmp/{path.name}')"
                f".run_commands('python3 -m pip install -r /tmp/{path.name}')"
            )
        elif line:
            yield line


def _text(call: str, path: Path, seen: set[Path]) -> str:
    """Return the text of a file that was not read yet, and add the file to ``seen``."""
    seen.add(_resolved(call, path))
    try:
        if len(seen) > _MOST_FILES:
            raise OSError(f"more than {_MOST_FILES} files include each other")
        if not path.is_file():
            raise OSError("there is no such file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OSError(f"it has more than {_MOST_BYTES} bytes")
        return data.decode()
    except (OSError, ValueError) as error:
        raise InvalidError(f"{call}: {str(path)!r} can't be read: {error}") from None


def _resolved(call: str, path: Path) -> Path:
    """Return the path without links and dots: a file has only one such path."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidError(f"{call}: {str(path)!r} can't be read: {error}") from None
