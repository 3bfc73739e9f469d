"""Telling a kill for lack of memory from any other kill."""

from __future__ import annotations

_COUNTERS = (
    "/sys/fs/cgroup/memory.events",  # cgroup v2
    "/sys/fs/cgroup/memory/memory.oom_control",  # cgroup v1
)


def kills() -> int:
    """How often the kernel killed a process of this cgroup for lack of memory; 0 where unknown.

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


def prefer_this_process() -> None:
    """Make this process the one that is killed when memory runs out. Raising one's own score
    needs no privilege.
    """
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # no Linux procfs: then the kernel's own choice stands
