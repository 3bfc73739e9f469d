"""The command ``export``: write the script, and say what runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.statements import Cell
from lifecycle_magic.ui.export.for_modal import for_modal
from lifecycle_magic.ui.export.script import script

__all__ = ["write"]

_HERE = "lifecycle-magic run, serve and deploy"
_MODAL = "modal run, serve and deploy"

_MARK = "# Exported by lifecycle_magic"


def write(
    cells: Sequence[Cell],
    names: Sequence[str],
    target: Path,
    namespace: Mapping[str, object] | None = None,
    folder: str | None = None,
    *,
    modal: bool = False,
) -> str:
    """Write the script of these classes to ``target``, and return what to print.

    ``folder`` is for a Dockerfile with a server, ``modal`` for a script that runs on Modal. Raises
    `InvalidError` if it can't be written, or if another file is there.
    """
    if target.suffix != ".py":
        raise InvalidError(
            f"export: {target} is no name of a script. Fix: %lifecycle export Model app.py"
        )
    if modal and folder is not None:
        raise InvalidError("export: --modal and --dockerfile exclude each other. Fix: export twice")
    exported = script(cells, names, target.stem, namespace)
    text = for_modal(exported.text) if modal else exported.text
    try:
        if target.exists() and not target.read_text(errors="replace").startswith(_MARK):
            raise InvalidError(
                f"export: {target} is there already, and was not exported. "
                "Fix: name another file, or remove it"
            )
        target.write_text(f"{_MARK}; the next export replaces it.\n{text}")
    except OSError as error:
        raise InvalidError(f"export: {target} can't be written: {error.strerror}") from None
    names = ", ".join(exported.names)
    text = f"wrote {target}: {names}. For {_MODAL if modal else _HERE}"
    if folder is None:
        return text
    from lifecycle_magic.ui.export import docker_folder

    return f"{text}\n{docker_folder.write(target, Path(folder).expanduser())}"
