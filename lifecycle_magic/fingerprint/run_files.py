"""Files that code runs besides the modules that it imports: ``%run setup.py``, for example."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from lifecycle_magic.fingerprint import origin

__all__ = ["changed_at", "text_of", "texts"]

_NAMED = re.compile(r"[\w./~-]+\.(?:py|ipy|ipynb)\b")
# A magic's line, and the call that IPython makes of it, also inside of a string.
_RUN = re.compile(r"""(?:%run\s+|\(\W?'run\W+)([^'"\n)]*)""")
_LIMIT = 4 << 20  # characters of a file that are read


def texts(text: str) -> Iterator[str]:
    """Yield the texts of the files that ``text`` names as Python does or runs with ``%run``, and of
    the files that these name.
    """
    seen: set[str] = set()
    waiting = [text]
    while waiting:
        for path in _paths(waiting.pop()):
            if path not in seen and os.path.isfile(path):
                seen.add(path)
                found = text_of(path)
                waiting.append(found)
                yield found


def text_of(path: str) -> str:
    """Return the text of a source file; empty if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LIMIT)
    except OSError:
        return ""


def changed_at(path: str) -> int:
    """Return when a file was changed, in nanoseconds; -1 if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return -1


def _paths(text: str) -> Iterator[str]:
    """Yield the paths that a text may mean."""
    for name in _NAMED.findall(text):
        yield os.path.expanduser(name)
    for found in _RUN.findall(text):
        words = found.split()
        for word in words:
            yield os.path.expanduser(f"{word}.py")  # as `%run` completes it
        if "-m" in words[:-1]:
            yield origin.file_of(words[words.index("-m") + 1]) or ""
