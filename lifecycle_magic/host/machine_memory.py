"""The memory of this machine."""

from __future__ import annotations

__all__ = ["of_this_machine"]


def of_this_machine() -> tuple[int | None, int | None]:
    """Return the bytes of memory of this machine, and of those the ones that programs can have."""
    found: dict[str, int] = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = int(value.split()[0]) << 10
    except (OSError, ValueError, IndexError):
        return None, None
    return found.get("MemTotal"), found.get("MemAvailable")
