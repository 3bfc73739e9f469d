"""New containers in the place of those that run: all of a class's pools get theirs, or none."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_magic.containers.container import Container
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.pools.wish import Wish, wait_for

__all__ = ["replace"]


def replace(pools: Sequence[Pool], why: str) -> None:
    """Bring up a container of the current version in each pool, then drain those that were there.

    Raises why one does not come up; all the old ones then stay, and none of the new. An interrupt
    of the wait gives up the new ones.
    """

    def start(wish: Wish) -> None:
        brought: list[tuple[Pool, Container, list[Container]]] = []
        try:
            for pool in pools:
                brought.append((pool, *pool.bring_replacement(wish)))
        except BaseException:
            for _, new, _ in brought:
                new.drain("the new version did not come up with all arguments")
            raise
        for pool, new, old in brought:
            pool.take_over(new, old, why)

    wait_for(start)
