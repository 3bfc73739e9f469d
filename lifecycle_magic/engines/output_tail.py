"""The last lines of what a build step printed, for its error and for its row."""

from __future__ import annotations

__all__ = ["OutputTail"]

MAX_LINES = 20
MAX_CHARACTERS = 8000


class OutputTail:
    """The end of a text that arrives in parts: at most 20 lines, and about 8,000 characters.

    >>> tail = OutputTail()
    >>> tail.add("collecting\\n10 %\\r20 %")
    >>> tail.add("\\r30 %\\n\\n")
    >>> tail.lines(), tail.last_line()
    (['collecting', '30 %', ''], '30 %')
    """

    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        """Add a part, which may end in the middle of a line."""
        self.text = (self.text + text)[-MAX_CHARACTERS:]

    def clear(self) -> None:
        """Begin again."""
        self.text = ""

    def lines(self) -> list[str]:
        """Return the last lines. Of a line that was overwritten, this is its last state."""
        parts = self.text.split("\n")
        if not parts[-1].strip():
            parts.pop()  # nothing was printed behind the last line end
        return [part.rstrip("\r").rsplit("\r", 1)[-1] for part in parts[-MAX_LINES:]]

    def last_line(self) -> str:
        """Return the last line that is not blank, or an empty string."""
        return next((line for line in reversed(self.lines()) if line.strip()), "")
