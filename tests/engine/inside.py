"""What the classes of the web tests use inside of their containers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.work import Folder

NOTES = "NOTES"
"""The environment variable with the folder of notes."""


def notes() -> Folder:
    """The folder of notes, in the container."""
    return Folder(os.environ[NOTES])


def peak() -> int:
    """The most memory that this process has had in use, in bytes; and begin to look again.

    Source: VmHWM and clear_refs, https://docs.kernel.org/filesystems/proc.html
    """
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if line
    )
    with contextlib.suppress(OSError):  # a container may not: then it is the peak since its start
        Path("/proc/self/clear_refs").write_text("5")
    return int(status["VmHWM"].split()[0]) << 10
