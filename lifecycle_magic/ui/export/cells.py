"""The cells that a notebook has run: those of a live IPython, or those of a saved notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.notebook_cells import MAGIC, cells_of
from lifecycle_magic.fingerprint.statements import Cell

__all__ = ["of_file", "of_shell", "read"]


def of_shell(shell: Any) -> list[Cell]:
    """Return the cells that ran in this IPython, in their order; a cell that ran twice, twice."""
    found = cells_of(shell.history_manager.input_hist_raw[1:])
    return [
        cell if cell.options is None else Cell(cell.source, shell.var_expand(cell.options))
        for cell in found
    ]


def of_file(path: Path) -> list[Cell]:
    """Return the code cells of a saved notebook, as if they had run from top to bottom.

    Raises `InvalidError` if the file can't be read, or if the line of a ``%%lifecycle_cls`` has
    values of the notebook in it.
    """
    found = read(path, "export")
    for cell in found:
        if cell.options and ("$" in cell.options or "{" in cell.options):
            raise InvalidError(
                f"export: {MAGIC} {cell.options} has values of the running notebook in it. "
                "Fix: write them into the line, or export it there: %lifecycle export"
            )
    return found


def read(path: Path, command: str) -> list[Cell]:
    """Return the code cells of a saved notebook. Raises `InvalidError` if it can't be read.

    ``command`` is the command that reads it.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        texts = [
            "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"
        ]
    except FileNotFoundError:
        raise InvalidError(f"{command}: there is no file {path}. Fix: check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(
            f"{command}: {path} is no notebook that can be read ({type(error).__name__}: {error}). "
            "Fix: give the path of an .ipynb file"
        ) from None
    return cells_of(texts)
