"""Memory of the container: kills for lack of it, its limit, and the size of ``/dev/shm``."""

from __future__ import annotations

import os

SHM = "/dev/shm"
"""The folder whose size limits the memory that processes share or map from there."""

_COUNTERS = (
    "/sys/fs/cgroup/memory.events",  # cgroup v2
    "/sys/fs/cgroup/memory/memory.oom_control",  # cgroup v1
)
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60  # cgroup v1 writes the largest multiple of a page


def count_oom_kills() -> int:
    """Return how often the kernel killed a process of this cgroup for lack of memory; 0 if unknown.

    Source: the ``oom_kill`` counter, Documentation/admin-guide/cgroup-v2.rst and
    cgroup-v1/memory.rst.
    """
    for path in _COUNTERS:
        try:
            with open(path) as file:
                for entry in file:
                    name, _, count = entry.partition(" ")
                    if name == "oom_kill":
                        return int(count)
        except (OSError, ValueError):
            continue
    return 0


def limit_mib() -> int | None:
    """Return the memory that this cgroup may use, in MiB; None if there is no limit."""
    for path in _LIMITS:
        try:
            with open(path) as file:
                found = int(file.read())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return found >> 20 if found < _NO_LIMIT else None
    return None


def prefer_this_process() -> None:
    """Make the kernel kill this process first when memory runs out.

    Raising one's own score needs no privilege.
    """
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # no Linux procfs: the kernel chooses by itself


def shm_size_mib() -> int:
    """Return the size of ``/dev/shm`` in MiB; 0 if there is none."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize >> 20
