"""Times, sizes and tables as text and HTML, and text without control characters."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

__all__ = [
    "Table",
    "age",
    "cut",
    "describe",
    "error_summary",
    "escape",
    "last_lines",
    "plain",
    "seconds",
    "size",
]

MAX_LINE_CHARS = 400
"""Longest reason, step name or option that is shown in one line."""

ERROR_LINES = 8
"""Last lines of an error that `error_summary` keeps."""

# CSI sequences, OSC sequences with either end, and whatever else begins with an escape character.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Remove terminal escapes and all control characters except newline and tab.

    >>> plain("\\x1b[31mred\\x1b[0m\\r")
    'red'
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def cut(text: str, most: int = MAX_LINE_CHARS) -> str:
    """Return the text as `plain` text of at most ``most`` characters.

    >>> cut("a long reason", 7)
    'a long…'
    """
    text = plain(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def escape(text: str) -> str:
    """Return the text as `plain` text, escaped for HTML."""
    return html.escape(plain(text))


def seconds(value: float) -> str:
    """Return a duration, given in seconds, in human-readable form.

    >>> seconds(0.000042), seconds(0.0042), seconds(3.21), seconds(75)
    ('42 µs', '4.2 ms', '3.2 s', '1 min 15 s')
    """
    if value < 0.9995e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 9.995e-3:
        return f"{value * 1e3:.1f} ms"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def age(value: float) -> str:
    """Return a long duration, given in seconds, in its greatest unit.

    >>> age(12), age(3700), age(200000)
    ('12 s', '1 h', '2 d')
    """
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if value >= length:
            return f"{value // length:.0f} {unit}"
    return f"{max(0.0, value):.0f} s"


def size(value: float) -> str:
    """Return a number of bytes in human-readable form.

    >>> size(512), size(3 << 20), size(5 << 30)
    ('512 B', '3.0 MiB', '5.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def last_lines(text: str, count: int) -> str:
    """Return the last ``count`` lines of ``text``, with their line ends."""
    return "".join(text.splitlines(keepends=True)[-count:]) if count > 0 else ""


def describe(error: BaseException) -> str:
    """Return the type and the message of an error."""
    return f"{type(error).__name__}: {error}"


def error_summary(text: str) -> str:
    """Return the first line and the last `ERROR_LINES` lines of an error, as `plain` text.

    The first line names the failing step; the last ones are what the step printed.
    """
    lines = [cut(line) for line in text.splitlines() if line.strip()]
    if len(lines) <= ERROR_LINES + 1:
        return "\n".join(lines)
    return "\n".join([lines[0], "  …", *lines[-ERROR_LINES:]])


@dataclass(frozen=True)
class Table:
    """Rows of strings under headers: HTML in a notebook, aligned text in a terminal.

    ``right`` names the right-aligned columns. ``empty`` is shown instead of a table without rows;
    ``below`` has lines that follow the table.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()
    empty: str = ""
    below: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the table as aligned text."""
        if not self.rows:
            return "\n".join([self.empty, *map(plain, self.below)])
        lines = [self.headers, *(tuple(map(_one_line, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([*(self._line(cells, widths) for cells in lines), *map(plain, self.below)])

    def _line(self, cells: tuple[str, ...], widths: list[int]) -> str:
        padded = [
            cell.rjust(width) if header in self.right else cell.ljust(width)
            for header, cell, width in zip(self.headers, cells, widths, strict=True)
        ]
        return "  ".join(padded).rstrip()

    def html(self) -> str:
        """Return the table as HTML, with every cell escaped."""
        below = "".join(f"<div>{escape(line)}</div>" for line in self.below)
        if not self.rows:
            return f"<div>{escape(self.empty)}</div>{below}"
        head = "".join(self._cell("th", header, header) for header in self.headers)
        body = "".join(
            "<tr>"
            + "".join(self._cell("td", h, c) for h, c in zip(self.headers, row, strict=True))
            + "</tr>"
            for row in self.rows
        )
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return f"<table class='lm-table'>{table}</table>{below}"

    def _cell(self, tag: str, header: str, text: str) -> str:
        align = "right" if header in self.right else "left"
        return f"<{tag} style='text-align: {align}'>{escape(text)}</{tag}>"

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
