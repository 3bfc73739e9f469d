"""Restarting a class, for ``%lifecycle restart`` and for the panel's buttons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool.replacement import replace

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.services.service import Service

__all__ = ["restart", "running_pools", "start"]


def restart(services: Sequence[Service], why: str) -> int:
    """Replace the containers of these classes: start new ones, then drain the previous ones.

    If no container is running, start one for each set of arguments in use. Return how many
    containers were started that way, 0 if containers were replaced. Raises the error of a failed
    start; the previous containers then stay.
    """
    pools = [pool for service in services for pool in running_pools(service)]
    if pools:
        replace(pools, why)
        return 0
    return sum(start(service) for service in services)


def running_pools(service: Service) -> list[Pool]:
    """Return the pools of a class that have containers."""
    return [pool for pool in list(service.pools.values()) if pool.containers]


def start(service: Service) -> int:
    """Start a container for each set of arguments that the class was called with; count them.

    A class that was not called yet gets one container, made without arguments. Raises
    `InvalidError` if that class needs arguments.
    """
    service.retry_failed_build()
    pools = list(service.pools.values()) or [_pool_without_arguments(service)]
    for pool in pools:
        pool.warm()
    return len(pools)


def _pool_without_arguments(service: Service) -> Pool:
    try:
        return service.open_pool((), {})
    except InvalidError:
        spec = service.version.spec if service.version is not None else None
        needed = spec.constructor.needed() if spec is not None else []
        if spec is None or not needed:
            raise
        method = next(iter(spec.methods), "method")
        raise InvalidError(
            f"{spec.name}: no container is running, and {spec.name}(...) needs "
            f"{', '.join(needed)}. Fix: call a method, which starts a container: "
            f"{spec.name}({', '.join(f'{one}=...' for one in needed)}).{method}.remote(...)"
        ) from None
