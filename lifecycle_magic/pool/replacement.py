"""The replacement of a class's running containers: in all of its pools, or in none."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.pool.pending_start import PendingStart, wait_for
from lifecycle_magic.pool.pool import Pool

__all__ = ["replace"]


def replace(pools: Sequence[Pool], why: str) -> None:
    """Start a container of the current version in each pool, then drain the previous ones.

    If one start fails, its error is raised, all old containers stay and no new one does. An
    interrupt of the wait gives up the new ones.
    """

    def start(pending: PendingStart) -> None:
        brought: list[tuple[Pool, Container, list[Container]]] = []
        try:
            for pool in pools:
                brought.append((pool, *pool.start_replacement(pending)))
        except BaseException:
            for _, new, _ in brought:
                failed = "the new version did not start with all arguments"
                new.end(Ending(EndKind.DRAIN, failed))
            raise
        for pool, new, old in brought:
            pool.install_replacement(new, old, why)

    wait_for(start)
