"""The lock on a run folder whose container is reached through a relay process.

The relay holds the lock while it waits for the container's end. So a later session knows whether a
report may still come, without asking the engine, which may be far away or unreachable.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Literal

__all__ = ["hold", "state", "wait"]

_NAME = "relay"
_POLL_SECONDS = 0.01


def hold(run: str) -> int:
    """Take the lock and return the descriptor that holds it. Raises `OSError`."""
    fd = os.open(os.path.join(run, _NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def state(run_dir: Path) -> Literal["none", "held", "released"]:
    """Return whether a relay holds the lock, has held it, or never did."""
    try:
        fd = os.open(run_dir / _NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "none"
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return "released"
    except BlockingIOError:
        return "held"
    finally:
        os.close(fd)


def wait(run_dir: Path, seconds: float) -> None:
    """Wait until no relay holds the lock: the report of an ended container is there then."""
    deadline = time.monotonic() + seconds
    while state(run_dir) == "held" and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
