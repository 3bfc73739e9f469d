"""Programs of the corpus as exported scripts: export, run, and compare what the cells show.

The program becomes a saved notebook, ``lifecycle-magic export`` writes its script, and an entry
point below it runs the cells that use the classes, under ``lifecycle-magic run``.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from corpus.program import Cell, Program
from corpus.runner import TESTS, raised, same, told

SECONDS = 120

_MAIN = """


def _main():
    import sys

    sys.path.insert(0, {tests!r})
    from corpus import exported_cells

    exported_cells.run(globals(), {cells!r})


{app}.local_entrypoint()(_main)
"""


class NotComparable(Exception):
    """Why a program's cells can't be compared with those of a script."""


class Refused(Exception):
    """The message with which the export refused a program."""


@dataclass(frozen=True)
class _Parts:
    cells: list[str]  # of the notebook
    after: list[tuple[str, str]]  # what the entry point does: define or use, and the source
    used: list[Cell]


def compare(program: Program, folder: Path, state: Path) -> list[str]:
    """Return how what an exported program shows differs from what the program says.

    Raises `NotComparable` or `Refused`.
    """
    parts = _parts(program)
    for name, text in program.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    book = {"cells": [_code("import lifecycle_magic as lm"), *map(_code, parts.cells)]}
    (folder / "book.ipynb").write_text(json.dumps(book))
    env = {
        **os.environ,
        "LIFECYCLE_MAGIC_ENGINE": "process",
        "LIFECYCLE_MAGIC_STATE": str(state),
    }
    exported = _command(folder, env, "export", "book.ipynb", "script.py")
    if exported.returncode:
        raise Refused(exported.stderr.strip())
    script = folder / "script.py"
    text = script.read_text()
    app = re.findall(r"^(\w+) = \w+\.App\(", text, re.MULTILINE)[0]
    script.write_text(text + _MAIN.format(tests=str(TESTS), cells=parts.after, app=app))
    ran = _command(folder, env, "run", "-q", "script.py")
    if ran.returncode or not (folder / "found.json").exists():
        return [f"run ended with {ran.returncode}:\n{ran.stderr[-3000:]}\nthe script is\n{text}"]
    found = json.loads((folder / "found.json").read_text())
    differences = []
    loose = program.headers.get("order") == "any"
    for cell, one in zip(parts.used, found, strict=True):
        shown = cell.shown
        sides = [(shown.product, shown.product_error), (shown.plain, shown.plain_error)]
        if not any(
            same(text or "", one["text"], loose) and raised(error, one["error"])
            for text, error in sides
        ):
            text, error = sides[0]
            differences.append(
                f"cell {cell.name!r}: wanted\n{text}\n{error or ''}\ngot\n{told(one)}"
            )
    return [*differences, f"the script is\n{text}"] if differences else []


def _parts(program: Program) -> _Parts:
    if any("$packages" in cell.text for cell in program.cells):
        raise NotComparable("its image has packages")
    if "process" not in (program.words("engines") or ("process",)):
        raise NotComparable("it runs on Docker alone")
    if any("interrupt_when" in cell.text for cell in program.cells):
        raise NotComparable("it interrupts cells")
    after: list[tuple[str, str]] = []
    cells, used = [], []
    for cell in program.cells:
        if cell.declares:
            cells.append(cell.text)
            rest = cell.text.partition("%%lifecycle_cls")[2].partition("\n")[2]
            after.append(("rest", rest))
            continue
        _check(cell)
        if cell.shown.product is None and cell.shown.product_error is None:
            cells.append(cell.text)
            after.append(("define", cell.text))
        else:
            used.append(cell)
            after.append(("use", cell.text))
    if not used:
        raise NotComparable("no cell says what it shows")
    if not any("lifecycle_cls" in text or ".cls(" in text for text in cells):
        raise NotComparable("no cell declares a class")
    return _Parts(cells, after, used)


def _check(cell: Cell) -> None:
    try:
        ast.parse(cell.text)
    except SyntaxError:
        raise NotComparable(f"cell {cell.name!r} has magics, or an error of syntax") from None
    for node in ast.walk(ast.parse(cell.text)):
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            raise NotComparable(f"cell {cell.name!r} awaits")


def _code(text: str) -> dict[str, str]:
    return {"cell_type": "code", "source": text}


def _command(folder: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
