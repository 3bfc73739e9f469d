"""What the panel's buttons do. Each may block and may raise; the panel gives it a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pools.replacing import replace

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session import Session

__all__ = ["kill", "restart", "stop", "stop_container", "warm"]

WHY = "stopped in the panel"


def stop(session: Session, key: str) -> None:
    """Drain every container of a class; a later call starts afresh."""
    _service(session, key)
    session.stop([key], WHY)


def stop_container(container: Container) -> None:
    """Drain one container. One that is not warm yet has nothing to let go of in order, and what a
    build hook has made so far is of no use.
    """
    container.end(WHY)


def kill(container: Container) -> None:
    """End a container now, in the middle of whatever it does."""
    container.kill("killed in the panel")


def restart(session: Session, key: str) -> None:
    """New containers first, then the former ones go; one container where there was none."""
    service = _service(session, key)
    pools = [pool for pool in list(service.pools.values()) if pool.containers]
    replace(pools, "restarted in the panel")
    if not pools:
        warm(session, key)


def warm(session: Session, key: str) -> None:
    """Have one container up for each set of arguments that the class was used with, or for none."""
    service = _service(session, key)
    for pool in list(service.pools.values()) or [service.pool((), {})]:
        pool.warm()


def _service(session: Session, key: str) -> Service:
    service = session.services.get(key)
    if service is None:
        raise InvalidError("this class is not in the session any more")
    return service
