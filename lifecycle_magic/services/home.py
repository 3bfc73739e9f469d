"""What a class that runs needs of the session that it is in.

The session makes the classes' services, and they ask it for an engine and tell it what happened.
So that arrows run one way, what they ask of it is written down here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from lifecycle_magic.bus import Bus
from lifecycle_magic.containers.container import Container
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.keeping import Ledger
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.owner import Owner
from lifecycle_magic.web.site import Site

__all__ = ["Home", "Notices"]


class Home(Protocol):
    """`lifecycle_magic.session.Session`, as a service and its parts see it."""

    id: str
    owner: Owner
    folder: Path
    bus: Bus
    monitor: Monitor
    site: Site
    ledger: Ledger

    def engine(self, wanted: Literal["auto", "docker", "process"] | None = None) -> Engine: ...
    def notice(
        self, cls: str | None, text: str, level: Literal["info", "warning"] = "info"
    ) -> None: ...
    def gone(self, container: Container, engine: str) -> None: ...


class Notices:
    """What people are told of one class, called ``name``, and each thing only once: what is true of
    one container is true of the next.
    """

    def __init__(self, home: Home, name: str) -> None:
        self._home = home
        self._name = name
        self._said: set[str] = set()

    def once(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Tell it, unless it was told before."""
        if text not in self._said:
            self._said.add(text)
            self._home.notice(self._name, text, level)
