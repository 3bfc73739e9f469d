"""Changes of a running pool's size: ``update_autoscaler`` of an instance or function."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.sizing import Limits

__all__ = ["CurrentStats", "current_stats", "update_autoscaler"]

NAMES = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")


def update_autoscaler(pool: Pool, changes: dict[str, Any]) -> None:
    """Change the limits of a pool until its class is declared again.

    ``changes`` are options by name; None leaves one as it is. They add to earlier changes. Missing
    containers are started, and idle ones above ``max_containers`` stopped. Raises `InvalidError`
    for an unknown option or an impossible value.
    """
    unknown = [name for name in changes if name not in NAMES]
    if unknown:
        raise InvalidError(
            f"update_autoscaler has no option {', '.join(unknown)}: it has "
            f"{', '.join(NAMES)}. Fix: use one of these"
        )
    spec = pool.declared
    assert spec is not None
    given = {name: value for name, value in changes.items() if value is not None}
    updates = {**pool.updates, **given}
    options = spec.options.replace(f"{spec.name}().update_autoscaler", **updates)
    limits = Limits.of(dataclasses.replace(spec, options=options))
    pool.set_limits(limits=limits, timeout=pool.timeout, retries=pool.retries, updates=updates)
    pool.fit_limits()


class CurrentStats(NamedTuple):
    """The load of a function or method: the inputs that wait, and the containers."""

    backlog: int
    num_total_runners: int


def current_stats(pool: Pool | None) -> CurrentStats:
    """Return how busy a pool is at this moment; None stands for one that was not used yet."""
    if pool is None:
        return CurrentStats(0, 0)
    return CurrentStats(len(pool.waiting), len(pool.containers))
