"""Shortages of this machine, as sentences with a fix, for the start and for doctor."""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_magic.host.paths import chosen_root
from lifecycle_magic.wire import descriptors

__all__ = ["FULL_DISK", "SMALL_SHM", "shared_memory", "state_folder", "warnings"]

FULL_DISK = 16 << 20
"""Free bytes that are too few for a container's log and the guest's code."""

SMALL_SHM = 32 << 20
"""Free bytes of ``/dev/shm`` below which sharing memory between processes fails early."""

SHM = Path("/dev/shm")


def warnings() -> list[str]:
    """Return a sentence for each shortage that will affect containers."""
    found = (state_folder(chosen_root()), descriptors.few(), shared_memory())
    return [text for text in found if text]


def state_folder(root: Path) -> str:
    """Return what prevents containers from writing in the state folder, or ""."""
    try:
        found = os.statvfs(next(one for one in (root, *root.parents) if one.is_dir()))
    except (OSError, StopIteration) as error:
        return (
            f"the state folder {root} can't be looked at: {error}. Fix: choose another one with "
            "LIFECYCLE_MAGIC_STATE"
        )
    if found.f_flag & os.ST_RDONLY or (root.is_dir() and not os.access(root, os.W_OK)):
        return (
            f"the state folder {root} can't be written. Fix: make it writable, or choose another "
            "one with LIFECYCLE_MAGIC_STATE"
        )
    if found.f_bavail * found.f_frsize < FULL_DISK:
        return (
            f"the disk of the state folder {root} is full. Fix: free some room, as with "
            "%lifecycle prune"
        )
    if found.f_files and found.f_favail < 1000:
        return (
            f"the disk of the state folder {root} has {found.f_favail} inodes left. Fix: remove "
            "files, as with %lifecycle prune"
        )
    return ""


def shared_memory(path: Path = SHM) -> str:
    """Return a sentence if this machine's shared memory is missing or nearly full, otherwise ""."""
    try:
        found = os.statvfs(path)
    except OSError:
        return f"{path} is missing, which multiprocessing needs. Fix: mount -t tmpfs tmpfs {path}"
    free = found.f_bavail * found.f_frsize
    if free >= SMALL_SHM:
        return ""
    return (
        f"{path} has {free >> 20} MiB free, which processes without a sandbox share. Fix: remove "
        "files there, or give it more (docker run --shm-size=1g)"
    )
