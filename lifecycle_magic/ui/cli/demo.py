"""``demo``: run the quickstart notebook without a browser and print each cell's output."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lifecycle_magic
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.panel.text import plain

__all__ = ["executed_path", "find", "run"]

NAME = "quickstart.ipynb"
CELL_TIMEOUT_SECONDS = 900  # enough to build a first image with its packages on a slow connection


def find() -> Path:
    """Return the path of the notebook: in the source tree, otherwise inside the package."""
    package = Path(lifecycle_magic.__file__).resolve().parent
    for path in (package.parent / "notebooks" / NAME, package / NAME):
        if path.is_file():
            return path
    raise InvalidError(
        f"{NAME} is not part of this installation. "
        "Fix: pip install --force-reinstall lifecycle-magic"
    )


def executed_path(output: Path | None) -> Path:
    """Return the path of the executed notebook.

    It is ``output`` if given, otherwise in the current folder, or in the state folder if the
    current one is read-only.
    """
    from lifecycle_magic.host.paths import state_root

    if output is not None:
        return output.absolute()
    folder = Path.cwd() if os.access(Path.cwd(), os.W_OK) else state_root()
    return folder / NAME.replace(".ipynb", ".executed.ipynb")


def run(output: Path | None = None, source: Path | None = None) -> int:
    """Execute the notebook, print each cell's output, and return 1 if a cell fails, otherwise 0.

    ``source`` replaces the quickstart; ``output`` is the path of the executed notebook.
    """
    try:
        import nbclient
        import nbformat
    except ImportError:
        raise InvalidError(
            "the demo needs nbclient. Fix: pip install 'lifecycle-magic[demo]'"
        ) from None
    source, target = source or find(), executed_path(output)
    notebook: Any = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        # The kernel warns about TCP on the loopback interface, which is normal for notebooks.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(target.parent)}},
        on_cell_execute=_announce,
        on_cell_executed=_print_outputs,
    )
    try:
        client.execute()
        code = 0
    except nbclient.exceptions.CellExecutionError:
        print("\nThe cell above failed; the cells after it were not run.", file=sys.stderr)
        code = 1
    except nbclient.exceptions.CellTimeoutError:
        print(f"\nThe cell above did not end within {CELL_TIMEOUT_SECONDS} s.", file=sys.stderr)
        code = 1
    finally:
        nbformat.write(notebook, target)  # type: ignore[no-untyped-call]
        print(f"\nExecuted notebook: {target}")
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
