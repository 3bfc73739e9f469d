"""The GPUs of containers in words: which a container has, and what all programs use of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.device import Gpu, GpuUse
from lifecycle_magic.gpus.leases import GpuLeases
from lifecycle_magic.ui.panel.text import size

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["of_containers", "of_leases", "of_use", "words"]


def of_containers(containers: Sequence[Container]) -> dict[str, str]:
    """Return the GPUs of those containers that have some, by the container's name."""
    found = [one for one in containers if one.gpus.devices]
    uses = inventory.uses() if found else {}
    return {one.name: words(one.gpus.devices, one.gpus.share, uses) for one in found}


def of_leases(root: Path) -> dict[str, str]:
    """Return the leased GPUs of every session in the state folder, by the container's name."""
    leases = GpuLeases(root).held()
    if not leases:
        return {}
    known, uses = {gpu.id: gpu for gpu in inventory.find()}, inventory.uses()
    return {
        one.container: words([known[id] for id in one.gpus if id in known], one.memory, uses)
        for one in leases
    }


def words(gpus: Sequence[Gpu], share: int | None, uses: Mapping[str, GpuUse]) -> str:
    """Return the GPUs of a container, and what is used of each by all programs.

    >>> words([Gpu("GPU-a", 0)], 8000, {"GPU-a": GpuUse(1 << 30, 4 << 30, 0.5)})
    'GPU 0: 1.0 GiB of 4.0 GiB, 50 % (8000 MiB of it)'
    """
    of_it = "" if share is None else f" ({share} MiB of it)"
    return "; ".join(f"GPU {gpu.index}{of_use(uses.get(gpu.id))}{of_it}" for gpu in gpus)


def of_use(use: GpuUse | None) -> str:
    """Return a GPU's use, with a colon in front; "" if it is unknown."""
    if use is None:
        return ""
    load = "" if use.load is None else f", {100 * use.load:.0f} %"
    return f": {size(use.memory)} of {size(use.total)}{load}"
