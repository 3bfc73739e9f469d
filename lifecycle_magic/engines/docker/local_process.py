"""The process of a container, where kernel and engine see the same processes."""

from __future__ import annotations

from pathlib import Path

from lifecycle_magic.engines.docker.launch import RUN
from lifecycle_magic.engines.process import process_table
from lifecycle_magic.host.owner import Owner

__all__ = ["local_process"]


def local_process(pid: int, container: str) -> Owner | None:
    """Return the identity of the process that an engine reports as process 1 of ``container``.

    None if the pid means another process here, or none: the kernel may be in a container itself.
    """
    folder = Path(f"/proc/{pid}")
    found = process_table.identify(pid)
    try:
        # Until the runtime starts it, the command is the runtime's own, in the right control group.
        is_ours = (
            container in (folder / "cgroup").read_text(errors="replace")
            or RUN.encode() in (folder / "cmdline").read_bytes()
        )
    except OSError:
        return None
    return found if is_ours else None
