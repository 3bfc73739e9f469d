"""The report about the scripts: a line for each name that needs one, and how many run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.modal_check.name_use import NameUse
from lifecycle_magic.ui.modal_check.script import Script

__all__ = ["CheckedFile", "check", "text"]

_LABELS = {
    "ignored": "ignored",
    "refused": "change",
    "renamed": "old",
    "unknown": "change",
    "import": "import",
}
_MAGIC = re.compile(r"^(\s*)[%!?]")


class CheckedFile(NamedTuple):
    """A file and the uses of Modal's names in it."""

    path: Path
    uses: tuple[NameUse, ...]

    @property
    def changes(self) -> int:
        """The number of names that have to be changed, besides the import of Modal itself."""
        return sum(one.verdict in ("refused", "unknown") for one in self.uses)


def check(path: Path) -> CheckedFile:
    """Read a script or a notebook, without running it.

    Raises `InvalidError` for a file that can't be read as Python.
    """
    script = Script()
    try:
        if path.suffix == ".ipynb":
            for number, code in enumerate(_cells(path), 1):
                script.read(code, number)
        else:
            script.read(path.read_bytes().decode("utf-8-sig"))
    except SyntaxError as error:
        raise InvalidError(f"{path}, line {error.lineno} is no Python: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} can't be read: {error}") from None
    return CheckedFile(path, tuple(script.uses))


def _cells(path: Path) -> list[str]:
    """Return the code cells of a notebook, with a comment for each line that is not Python."""
    found = json.loads(path.read_text())
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it is no notebook")
    codes = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        lines = "".join(source if isinstance(source, list) else [str(source)]).splitlines()
        foreign = bool(lines) and lines[0].startswith("%%") and not _is_python(lines[0])
        codes.append("\n".join("#" if foreign else _python(line) for line in lines))
    return codes


def _is_python(magic: str) -> bool:
    return magic.split()[0] in ("%%lifecycle_cls", "%%time", "%%timeit", "%%capture")


def _python(line: str) -> str:
    return _MAGIC.sub(r"\1pass  # \g<0>", line)


def text(checked: CheckedFile) -> str:
    """Return the lines for one file."""
    runs = sum(one.verdict in ("runs", "renamed") for one in checked.uses)
    shown = [one for one in checked.uses if one.verdict != "runs"]
    ignored = sum(one.verdict == "ignored" for one in shown)
    lines = [
        f"{checked.path}: {runs} run as they stand, {ignored} ignored, {checked.changes} to change"
    ]
    width = max((len(_place(one)) for one in shown), default=0)
    lines += [
        f"  {_place(one):<{width}}  {_LABELS[one.verdict]:<7}  {one.name}: {one.note}"
        for one in dict.fromkeys(shown)
    ]
    return "\n".join(lines)


def _place(use: NameUse) -> str:
    line = f"line {use.line}"
    return line if use.cell is None else f"cell {use.cell}, {line}"
