"""Room for a container's connections among the file descriptors that a process may have."""

from __future__ import annotations

import os
import resource

EACH = 3
"""Descriptors that a data connection takes: its socket, the one for memory, its turns."""

SPARE = 64  # for everything else that is opened meanwhile


def make_room(connections: int) -> None:
    """Raise this process's soft limit of open files if ``connections`` more need it.

    Raises `OSError`, which names both limits, if the hard one is too low as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = _open() + EACH * connections + SPARE
    if wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise OSError(
            f"it takes {connections} inputs at once, for which this process needs up to {wanted} "
            f"open files, and it may have {hard} (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open() -> int:
    """How many descriptors are open, or, where that can't be counted, how many may well be."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 256
