"""``demo``: the quickstart notebook, run headless, with what each cell printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.panel.text import plain

__all__ = ["executed_path", "find", "run"]

NAME = "quickstart.ipynb"
CELL_TIMEOUT = 900  # seconds: a first image with its packages, on a slow line


def find() -> Path:
    """The notebook: in the source tree, else as it came with the package."""
    here = Path(__file__).resolve().parent
    for path in (here.parent / "notebooks" / NAME, here / NAME):
        if path.is_file():
            return path
    raise InvalidError(f"{NAME} did not come with this installation: install lifecycle-magic again")


def executed_path(output: Path | None) -> Path:
    """Where the executed notebook lies: ``output``, else the current folder, else the state."""
    from lifecycle_magic.paths import state_root

    if output is not None:
        return output.absolute()
    folder = Path.cwd() if os.access(Path.cwd(), os.W_OK) else state_root()
    return folder / NAME.replace(".ipynb", ".executed.ipynb")


def run(output: Path | None = None, source: Path | None = None) -> int:
    """Execute the notebook and print each cell's output as it ends; 1 if a cell fails.

    ``source`` is another notebook than the quickstart; ``output`` is where the executed one lies.
    """
    try:
        import nbclient
        import nbformat
    except ImportError:
        raise InvalidError("the demo needs nbclient: pip install 'lifecycle-magic[demo]'") from None
    source, target = source or find(), executed_path(output)
    notebook: Any = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        # It warns of TCP on the loopback, which everybody has who runs a notebook.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(target.parent)}},
        on_cell_execute=_announce,
        on_cell_executed=_print_outputs,
    )
    try:
        client.execute()
        code = 0
    except nbclient.exceptions.CellExecutionError:
        print("\nThe cell above failed, and the ones after it were not run.", file=sys.stderr)
        code = 1
    except nbclient.exceptions.CellTimeoutError:
        print(f"\nThe cell above was not done after {CELL_TIMEOUT} s.", file=sys.stderr)
        code = 1
    finally:
        nbformat.write(notebook, target)  # type: ignore[no-untyped-call]
        print(f"\nThe executed notebook: {target}")
    return code


def _announce(cell: Any, cell_index: int) -> None:
    lines = [line for line in cell.source.splitlines() if line.strip()]
    if cell.cell_type == "code" and lines:
        print(f"\n── cell {cell_index + 1}: {lines[0]}{' …' if len(lines) > 1 else ''}", flush=True)


def _print_outputs(cell: Any, cell_index: int, execute_reply: Any) -> None:
    for output in cell.outputs:
        print(plain(_text(output)).rstrip(), flush=True)


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return "\n".join(output.traceback)
    if "image/png" in output.data:
        return f"[a picture: {output.data.get('text/plain', 'image/png')}]"
    return str(output.data.get("text/plain", f"[{', '.join(output.data)}]"))
