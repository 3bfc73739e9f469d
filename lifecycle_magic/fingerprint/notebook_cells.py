"""The Python source of a notebook's cells."""

from __future__ import annotations

from collections.abc import Iterable

from lifecycle_magic.fingerprint.statements import Cell

__all__ = ["MAGIC", "cells_of"]

MAGIC = "%%lifecycle_cls"
_RUN_THE_CELL = ("%%time", "%%capture")
"""Cell magics that run the rest of the cell as Python in the notebook's namespace."""


def cells_of(texts: Iterable[str]) -> list[Cell]:
    """Return the cells with Python in them, as the Python that IPython runs."""
    from IPython.core.inputtransformer2 import TransformerManager

    cells = []
    for text in texts:
        options, source = _parted(text)
        if source is not None:
            try:
                transformed = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
            except SyntaxError:
                continue  # it could not run
            cells.append(Cell(transformed, options))
    return cells


def _parted(text: str) -> tuple[str | None, str | None]:
    """Return the options of `%%lifecycle_cls` and the Python source; no source if it is none."""
    options = None
    lines = text.splitlines()
    while lines:
        first = lines[0].strip()
        if first == MAGIC or first.startswith(MAGIC + " "):
            options = first.removeprefix(MAGIC).strip()
        elif first and not (first.startswith(_RUN_THE_CELL) and len(lines) > 1):
            break
        lines.pop(0)
    if lines and lines[0].startswith("%%"):
        return None, None  # another language, or a magic that is not known here
    return options, "\n".join(lines) + "\n"
