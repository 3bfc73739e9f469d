"""All containers of this process."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["add", "close_in_fork", "running_in"]

_every: weakref.WeakSet[Container] = weakref.WeakSet()


def add(container: Container) -> None:
    """Add a container, for as long as anything refers to it."""
    _every.add(container)


def running_in(folder: Path) -> list[Container]:
    """Return the containers with a run folder in ``folder`` that were launched and have not
    exited.
    """
    return [
        one
        for one in list(_every)
        if one.plan.launch.run_dir.parent == folder
        and one.id is not None
        and not one.exited.is_set()
    ]


def close_in_fork() -> None:
    """Close, in a forked child, the connections of every container of this process."""
    for container in list(_every):
        container.connections.close_in_fork()
