"""The pools of one class: one for each set of constructor arguments."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.sizing import Limits
from lifecycle_magic.services.constructor_change import MatchedPools, match_pools
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.constructor import Arguments
from lifecycle_magic.threads.sigint import run_forwarding
from lifecycle_magic.wire.messages import Swap

__all__ = ["ClassPools"]


class ClassPools:
    """The pools by the key of their arguments, and what those arguments are.

    Both are read and changed under ``lock``, which is the service's. ``make`` returns a new pool
    for a declaration and arguments.
    """

    def __init__(self, lock: threading.RLock, make: Callable[[ClassSpec, Arguments], Pool]) -> None:
        self.by_key: dict[str, Pool] = {}
        self._arguments: dict[Pool, Arguments] = {}
        self._lock = lock
        self._make = make

    def find(self, spec: ClassSpec, arguments: Arguments) -> Pool:
        """Return the pool for these arguments, made if need be, as found by ``spec``."""
        with self._lock:
            pool = self.by_key.get(arguments.key)
            if pool is None:
                pool = self.by_key[arguments.key] = self._make(spec, arguments)
                self._arguments[pool] = arguments
            pool.stale, pool.declared = False, spec
            return pool

    def arguments(self, pool: Pool, otherwise: Arguments) -> Arguments:
        """Return the arguments of a pool, as its class takes them now."""
        return self._arguments.get(pool, otherwise)

    def mark_stale(self) -> None:
        """Have each handle look up its pool before its next call."""
        with self._lock:
            for pool in self.by_key.values():
                pool.stale = True

    def set_limits(self, spec: ClassSpec) -> None:
        """Give all pools the scaling options of ``spec``."""
        limits, options = Limits.of(spec), spec.options
        for pool in list(self.by_key.values()):
            pool.set_limits(limits=limits, timeout=options.timeout, retries=options.retries)

    def swap(self, swap: Swap) -> None:
        """Load new code into every live instance. An interrupt ends the wait for one.

        Raises what `Pool.swap` raises.
        """
        pools = list(self.by_key.values())

        def swap_all(swap: Swap) -> None:
            for pool in pools:
                pool.swap(swap)

        def interrupt() -> None:
            for pool in pools:
                pool.interrupt_swap()

        run_forwarding(interrupt, swap_all, swap)

    @contextlib.contextmanager
    def matched_to(self, spec: ClassSpec) -> Iterator[MatchedPools]:
        """Find the pools by the arguments that ``spec`` takes; as before if the block raises."""
        with self._lock:
            former = self.by_key, self._arguments
            matched = match_pools(self._arguments, spec)
            self.by_key, self._arguments = matched.pools, matched.arguments
        try:
            yield matched
        except BaseException:
            with self._lock:
                self.by_key, self._arguments = former
            raise

    def take_all(self) -> list[Pool]:
        """Remove and return all pools."""
        with self._lock:
            pools, self.by_key = list(self.by_key.values()), {}
            self._arguments = {}
        return pools
