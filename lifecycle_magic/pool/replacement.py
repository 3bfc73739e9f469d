"""The replacement of a class's running containers: in all of its pools, or in none."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.gpus import end_holders
from lifecycle_magic.pool.pending_start import PendingStart, wait_for
from lifecycle_magic.pool.pool import Pool

__all__ = ["replace"]


def replace(pools: Sequence[Pool], why: str) -> None:
    """Start a container of the current version in each pool, then drain the previous ones.

    Where a new one has to wait for a GPU, previous containers that hold some exit first. If one
    start fails, its error is raised, all old containers stay and no new one does. An
    interrupt of the wait gives up the new ones.
    """

    def start(pending: PendingStart) -> None:
        brought: list[tuple[Pool, Container, list[Container]]] = []
        try:
            for pool in pools:
                started = [one for _, one, _ in brought]
                make_room = functools.partial(_end_gpu_holders, [pool, *pools], started, why)
                brought.append((pool, *pool.start_replacement(pending, make_room)))
        except BaseException:
            for _, new, _ in brought:
                failed = "the new version did not start with all arguments"
                new.end(Ending(EndKind.DRAIN, failed))
            raise
        for pool, new, old in brought:
            pool.install_replacement(new, old, why)

    wait_for(start)


def _end_gpu_holders(pools: Sequence[Pool], new: Sequence[Container], why: str) -> bool:
    """Drain the previous containers with GPUs of the first pool that has some.

    Return whether any has.
    """
    return any(
        end_holders([one for one in pool.containers if one not in new], why) for pool in pools
    )
