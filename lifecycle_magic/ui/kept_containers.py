"""The containers that wait for the next kernel of their notebook, for ``%load_ext`` and doctor."""

from __future__ import annotations

import contextlib
import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.container import kept
from lifecycle_magic.container.kept import KeptContainer
from lifecycle_magic.engines.choose import choose
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import keep_record
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.ui.panel.snapshot import kept_state
from lifecycle_magic.ui.panel.text import plain, size

if TYPE_CHECKING:
    from lifecycle_magic.session.session import Session

__all__ = ["held", "prepare", "waiting"]


MODULES = (
    "lifecycle_magic.ui.notebook.cell",
    "lifecycle_magic.ui.notebook.card",
    "lifecycle_magic.services.packing",
    "lifecycle_magic.fingerprint.local_modules",
)
"""What the first cell loads, with all that these modules import."""


def waiting(root: Path) -> str:
    """Return a line for each kept container, and how to use or to end them; "" without any."""
    lines = [f"  {_named(one)}: {kept_state(one)}" for one in kept.find_all(root)]
    if not lines:
        return ""
    head = (
        "lifecycle_magic: containers of earlier kernels wait. Run the cell of a class again to go "
        "on with it, or end it with lifecycle-magic stop NAME:"
    )
    return "\n".join([head, *lines, ""])


def prepare(session: Session) -> None:
    """Load what the first cell needs to adopt a container, while the user reads.

    That is most of the time which the cell would take: the modules, and the engines' answers.
    """
    engines = {record.engine for record in keep_record.find_all(session.root)}

    def load() -> None:
        with contextlib.suppress(Exception):  # the cell reports what is wrong
            for name in MODULES:
                importlib.import_module(name)
            importlib.import_module("lifecycle_magic.services.bundle").guest_folder()
            for name in engines:
                session.engine(name, announce=False).containers()

    threading.Thread(target=load, name="lifecycle-prepare", daemon=True).start()


def held(root: Path) -> list[str]:
    """Return what each kept container holds of this machine: memory and GPUs."""
    found = []
    for one in kept.find_all(root):
        record = one.record
        facts = [kept_state(one), record.engine]
        if used := _memory(record):
            limit = f" of {record.memory} MiB" if record.memory is not None else ""
            facts.append(f"memory {size(used)}{limit}")
        if record.gpu is not None:
            facts.append(f"gpu {record.gpu}")
        found.append(f"{_named(one)}: {', '.join(facts)}")
    return found


def _named(one: KeptContainer) -> str:
    return plain(f"{one.record.cls} ({one.record.container})")


def _memory(record: KeepRecord) -> int:
    with contextlib.suppress(EngineError, ValueError):
        engine = choose(record.engine)[0]
        try:
            ids = [one.id for one in engine.containers() if one.name == record.container]
            usage = engine.usage(ids[0]) if ids else None
        finally:
            engine.close()
        return usage.memory if usage is not None else 0
    return 0
