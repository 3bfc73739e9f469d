"""The clock that all processes of one machine share, including those in containers.

The kernel sends the time at which a call began. If it sent how long ago that was, the value would
be wrong by the time that the message takes, which on a busy machine is longer than many a call.
"""

from __future__ import annotations

import functools
import os
import time

__all__ = ["from_monotonic", "name", "now"]


# Where a kernel has no such clock, its containers have none in common with it: see `name`.
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the seconds since the machine started. /proc gives the start of a process on this
    clock.
    """
    return time.clock_gettime(_CLOCK)


def from_monotonic(moment: float) -> float:
    """Convert a time of `time.monotonic` to this clock."""
    return moment + (now() - time.monotonic())


@functools.cache
def name() -> str:
    """Return a string that is equal in two processes which read the same clock; empty if
    unknown.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/time')}"
    except OSError:
        return ""
