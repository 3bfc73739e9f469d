"""The session as a service sees it.

A session creates the services of its classes. They ask the session for an engine and report events
to it. This protocol lets them do so without importing the session, so that imports run one way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.host.ledger import Ledger
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.lifecycle.bus import Bus
from lifecycle_magic.services.container_calls import ContainerCalls
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.web.site import Site

__all__ = ["ClassNotices", "SessionContext"]


class SessionContext(Protocol):
    """The part of `lifecycle_magic.session.session.Session` that a service uses."""

    id: str
    owner: Owner
    folder: Path
    bus: Bus
    event_loop: EventLoop
    site: Site
    ledger: Ledger

    @property
    def container_calls(self) -> ContainerCalls: ...
    def engine(self, wanted: str | None = None) -> Engine: ...
    def notice(
        self,
        cls: str | None,
        text: str,
        level: Literal["info", "warning"] = "info",
        service: str = "",
    ) -> None: ...
    def record_exit(self, container: Container, engine: str) -> None: ...


class ClassNotices:
    """Notices about the class called ``name``, each shown only once. ``key`` is its own.

    Most are about every container of the class, and would repeat with each start.
    """

    def __init__(self, context: SessionContext, name: str, key: str) -> None:
        self._context = context
        self._name = name
        self._key = key
        self._shown: set[str] = set()

    def show_once(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Show a notice, unless the same one was shown before."""
        if text not in self._shown:
            self._shown.add(text)
            self._context.notice(self._name, text, level, self._key)
