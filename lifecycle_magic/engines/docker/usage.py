"""The CPU and memory that a container uses, as the engine reports them."""

from __future__ import annotations

import time

from lifecycle_magic.engines.base import Usage
from lifecycle_magic.engines.cpu_meter import CpuMeter
from lifecycle_magic.engines.docker.api import epoch
from lifecycle_magic.engines.docker.client import Clients

__all__ = ["measure"]


def measure(clients: Clients, cpu: CpuMeter, container: str, machine_memory: int) -> Usage | None:
    """Return the CPU use since the previous call, or the start, and memory without page cache.

    ``machine_memory`` is the engine's, in bytes: a container without a limit reports that as its
    limit. Return None if the container does not exist or has ended.
    """
    import docker.errors

    with clients.use("measure what a container uses") as api:
        try:
            stats = api.stats(container, stream=False, one_shot=True)
            if not cpu.knows(container):
                started = api.inspect_container(container)["State"]["StartedAt"]
                cpu.begin(container, epoch(started))
        except docker.errors.NotFound:
            return None
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None  # it exists, and has ended
    used = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    # Page cache that can be dropped at once does not count. Versions 1 and 2 of control groups name
    # it differently.
    detail = memory.get("stats") or {}
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    limit = memory.get("limit", 0)
    return Usage(
        cpu=cpu.cores(container, time.time(), used),
        memory=max(0, memory["usage"] - cache),
        memory_limit=limit if 0 < limit < machine_memory else None,
    )
