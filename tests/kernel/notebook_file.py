"""A notebook of this repository, run from top to bottom in a kernel of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kernel.harness import kernel_environment

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CELL_SECONDS = 300


def run_notebook(name: str, folder: Path, **environment: str) -> Any:
    """Run a notebook in ``folder`` and return it with its outputs, as it would be saved.

    ``environment`` are variables of its kernel, whose temporary files are in ``folder`` too.
    """
    import nbclient  # takes a second, which no test that is only collected should cost
    import nbformat

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    tmp = folder / "tmp"
    tmp.mkdir(exist_ok=True)
    client.execute(env={**kernel_environment(tmp), **environment})
    return notebook


def shown_by(cell: Any) -> str:
    """Return what a cell printed and its results as text."""
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return "\n".join(texts)


def shown_text(notebook: Any) -> str:
    """Return what all cells of a notebook show as text."""
    return "\n".join(shown_by(cell) for cell in notebook.cells if cell.cell_type == "code")
