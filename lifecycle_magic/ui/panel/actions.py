"""The actions of the panel's buttons. Each may block or raise; the panel runs it on a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_magic.container import kept
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui import restart as restarting

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session.session import Session

__all__ = ["kill", "restart", "stop", "stop_container", "stop_kept", "warm"]

WHY = "stopped in the panel"


def stop(session: Session, key: str) -> None:
    """Cancel the calls of a class and stop its containers; a later call starts a new one."""
    _service(session, key)
    session.stop([key], WHY)
    session.stop_kept(session.kept([key]), WHY)


def stop_container(container: Container) -> None:
    """Cancel the calls of one container and stop it; exit hooks run if its enter hooks ended."""
    container.end(Ending(EndKind.STOP, WHY))


def stop_kept(session: Session, name: str) -> None:
    """Have a container that waits for a kernel run its exit hooks, and wait for its end."""
    found = [one for one in kept.find_all(session.root) if one.record.container == name]
    if not found:
        raise InvalidError("it waits no more: a kernel has adopted it, or it has exited")
    session.stop_kept(found, WHY)


def kill(container: Container) -> None:
    """Kill a container at once, without waiting for its calls or hooks."""
    container.end(Ending(EndKind.KILL, "killed in the panel"), wait=True)


def restart(session: Session, key: str) -> None:
    """Start new containers, then drain the previous ones; start containers where none runs."""
    restarting.restart([_service(session, key)], "restarted in the panel")


def warm(session: Session, key: str) -> None:
    """Start a container for each set of arguments that the class was called with.

    A class that was not called yet gets a container made without arguments.
    """
    restarting.start(_service(session, key))


def _service(session: Session, key: str) -> Service:
    service = session.services.get(key)
    if service is None:
        raise InvalidError("this class is no longer part of the session. Fix: run its cell again")
    return service
