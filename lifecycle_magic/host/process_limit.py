"""Detection of a reached limit on processes and threads in any tool's message, and the fix."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["bound", "explain", "is_reached"]

_MESSAGE = re.compile(
    r"resource temporarily unavailable|can(?:no|')t (?:start new|spawn worker) thread|cannot fork",
    re.IGNORECASE,
)
_CGROUPS = ("sys/fs/cgroup/pids.max", "sys/fs/cgroup/pids/pids.max")  # cgroup v2, v1


def is_reached(message: str) -> bool:
    """Return whether a message says that no process or thread could be started.

    >>> is_reached("BlockingIOError: [Errno 11] Resource temporarily unavailable")
    True
    """
    return _MESSAGE.search(message) is not None


def explain(message: str, root: Path = Path("/")) -> str:
    """Return a sentence with the limit and the fix if ``message`` is about it, else ""."""
    if not is_reached(message):
        return ""
    limit = _of_group(root)
    if limit is not None:
        return (
            f"no further process or thread can be started: the container around this kernel allows "
            f"{limit}. Fix: raise that limit (docker run --pids-limit=, or systemd TasksMax=), or "
            "run fewer containers"
        )
    return (
        f"no further process or thread can be started: this user has {_of_user()}. Fix: raise that "
        "limit (ulimit -u), or run fewer containers"
    )


def bound(root: Path = Path("/")) -> str:
    """Return what limits the processes of this user or cgroup, in words, or "" if nothing does."""
    import resource

    group = _of_group(root)
    if group is not None:
        return f"at most {group} in the container or control group around this kernel"
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return ""
    return f"at most {limit} of this user"


def _of_group(root: Path) -> int | None:
    """Return the least limit of the groups around this process, as far as they can be seen."""
    found = []
    for path in (*(root / name for name in _CGROUPS), *_own_groups(root)):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return min(found, default=None)


def _own_groups(root: Path) -> Iterator[Path]:
    """Yield the file with the limit of this process's group, and of each group around that."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "pids"):
            continue
        mounted = root / "sys/fs/cgroup" / kinds
        group = PurePosixPath(path)
        for one in (group, *group.parents):
            yield mounted / str(one).lstrip("/") / "pids.max"


def _of_user() -> str:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY:
        return "no limit of its own, so the machine's is reached"
    return f"a limit of {limit}" + (" (root ignores it)" if os.geteuid() == 0 else "")
