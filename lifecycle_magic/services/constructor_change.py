"""Running pools matched to a class's changed constructor.

A pool is found by a key made from its constructor arguments, defaults included. When a default
changes or a parameter is renamed, the same arguments have another key, or are no longer accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_spec import ClassSpec

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.spec.constructor import Arguments

__all__ = ["MatchedPools", "match_pools"]


@dataclass(frozen=True)
class MatchedPools:
    """Pools by their new keys, with their arguments; ``unmatched`` accept no call any more."""

    pools: dict[str, Pool]
    arguments: dict[Pool, Arguments]
    unmatched: list[Pool]


def match_pools(arguments: dict[Pool, Arguments], spec: ClassSpec) -> MatchedPools:
    """Return the pools made with ``arguments``, under the keys that ``spec`` gives them."""
    found = MatchedPools({}, {}, [])
    for pool, given in arguments.items():
        try:
            new = spec.arguments(given.args, given.kwargs)
        except InvalidError:
            found.unmatched.append(pool)
            continue
        if new.key in found.pools:
            found.unmatched.append(pool)  # two sets of arguments that mean the same now
            continue
        found.pools[new.key] = pool
        found.arguments[pool] = new
    return found
