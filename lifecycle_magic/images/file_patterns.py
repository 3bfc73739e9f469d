"""Patterns that select files, as in a ``.dockerignore`` file."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from lifecycle_magic.checks import flatten, host_path
from lifecycle_magic.exception import InvalidError

__all__ = ["FilePatternMatcher"]


class FilePatternMatcher:
    """A function of a path that returns whether one of the patterns matches it.

    The patterns are those of a ``.dockerignore`` file: ``**`` is any number of folders, a pattern
    that begins with ``!`` takes back what earlier ones match. ``~matcher`` is its opposite. Paths
    are relative to the folder that is added.

    >>> matcher = FilePatternMatcher("**/*.py", "!setup.py")
    >>> matcher(Path("a/b.py")), matcher(Path("setup.py")), (~matcher)(Path("a/b.py"))
    (True, False, False)
    """

    def __init__(self, *pattern: str) -> None:
        self.patterns = flatten("FilePatternMatcher", pattern)
        self.inverted = False

    @classmethod
    def from_file(cls, file_path: str | os.PathLike[str]) -> FilePatternMatcher:
        """Return a matcher for the patterns of a file, one a line; ``#`` begins a comment.

        Raises `InvalidError` if the file can't be read.
        """
        path = host_path("FilePatternMatcher.from_file", file_path)
        try:
            lines = path.read_text().splitlines()
        except (OSError, ValueError) as error:
            raise InvalidError(
                f"FilePatternMatcher.from_file: {str(path)!r} can't be read: {error}"
            ) from None
        kept = (line.strip() for line in lines if not line.startswith("#"))
        return cls(*(line for line in kept if line))

    @cached_property
    def _matcher(self) -> Any:
        # Docker's own rules for these patterns, as implemented by its Python client.
        from docker.utils.build import PatternMatcher

        return PatternMatcher(list(self.patterns))

    def __call__(self, path: Path) -> bool:
        matches = bool(self.patterns) and bool(self._matcher.matches(str(path)))
        return matches != self.inverted

    def __invert__(self) -> FilePatternMatcher:
        made = FilePatternMatcher(*self.patterns)
        made.inverted = not self.inverted
        return made

    def __repr__(self) -> str:
        given = ", ".join(map(repr, self.patterns))
        return f"{'~' if self.inverted else ''}FilePatternMatcher({given})"
