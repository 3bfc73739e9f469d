"""Markdown pages whose code blocks run, in order, as cells of one notebook.

A ``text`` block after a code block is what that one shows; ``...`` stands for any text. A comment
before a block changes how it is run:

    <!-- raises NAME -->        the cell raises this; ``text`` is a part of the message or notes
    <!-- needs docker -->       the block, and its output, are for the Docker engine
    <!-- shown because ... -->  the block is not run

A Python block that begins with ``# NAME.py`` is that file. A ``sh`` block whose lines all begin
with ``lifecycle-magic run`` is run; other shell commands are shown.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

BLOCK = re.compile(
    r"(?:^<!-- (?P<note>(?:raises|needs|shown)[^\n]*) -->\n+)?"
    r"^```(?P<language>python|sh)\n(?P<code>.*?)^```\n"
    r"(?:\n*^```text\n(?P<shows>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"# (\w+\.py)\n")
COMMAND = "lifecycle-magic run "


@dataclass(frozen=True)
class Block:
    """One code block: its place on the page, how it is run, and what it shows."""

    page: str
    line: int
    language: str
    code: str
    note: str
    shows: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """Return the code blocks of a page, in order."""
    page = path.read_text()
    for found in BLOCK.finditer(page):
        line = page.count("\n", 0, found.start("code"))
        yield Block(
            path.name, line, found["language"], found["code"], found["note"] or "", found["shows"]
        )


def run(path: Path, shell: InteractiveShell, engine: str) -> int:
    """Run the blocks of a page in the current folder; return how many ran."""
    count = 0
    for block in blocks(path):
        word, _, rest = block.note.partition(" ")
        if word == "shown" or (word == "needs" and rest != engine):
            continue
        if block.language == "sh":
            if not all(line.startswith(COMMAND) for line in block.code.splitlines()):
                continue
            shown = _command(block)
        elif file := FILE.match(block.code):
            Path(file[1]).write_text(block.code)
            continue
        else:
            shown = _cell(block, shell, rest if word == "raises" else "")
        count += 1
        if block.shows is not None:
            _compare(block, shown, whole=word != "raises")
    return count


def _cell(block: Block, shell: InteractiveShell, raises: str) -> str:
    with capture_output(stderr=False) as captured:
        done = shell.run_cell(block.code, store_history=True)
    error = done.error_before_exec or done.error_in_exec
    if raises:
        assert error is not None, f"{block} raises nothing; it shows: {captured.stdout}"
        assert type(error).__name__ == raises, f"{block} raises {error!r}"
        return "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert error is None, f"{block}: {type(error).__name__}: {error}\n{captured.stdout}"
    return re.sub(r"^Out\[\d*\]: ?\n?", "", captured.stdout, flags=re.MULTILINE)


def _command(block: Block) -> str:
    printed = []
    for line in block.code.splitlines():
        command = [sys.executable, "-m", "lifecycle_magic", *shlex.split(line)[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    return "".join(printed)


def _compare(block: Block, shown: str, *, whole: bool) -> None:
    parts = [re.escape(part) for part in _squeezed(block.shows or "").split("...")]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    found = (pattern.fullmatch if whole else pattern.search)(_squeezed(shown))
    assert found, f"{block} shows:\n{shown}\nand the page says:\n{block.shows}"


def _squeezed(text: str) -> str:
    """Return the text with each run of white space as one blank."""
    return " ".join(text.split())
