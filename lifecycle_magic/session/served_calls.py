"""The service of a session for callers outside of its process: its containers, and other processes.

Containers call the classes whose handles were sent to them, by key. Other processes of this user
call the classes of apps that have a name, by name.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.exception import EngineError, InvalidError, NotFoundError
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.served_names import label_of_this_process
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.nested import BY_NAME

if TYPE_CHECKING:
    # A session opens with the extension, and services come with the first class.
    from lifecycle_magic.handles.registry_entry import RegistryEntry
    from lifecycle_magic.services.circle_watch import CircleWatch
    from lifecycle_magic.services.container_calls import ContainerCalls
    from lifecycle_magic.services.kept_calls import KeptCalls
    from lifecycle_magic.services.peer_calls import PeerCalls
    from lifecycle_magic.services.service import Service

__all__ = ["ServedCalls", "named", "publish", "published"]

published: dict[str, RegistryEntry] = {}
"""The entries of the classes whose handles were sent to a container, by their keys."""

named: weakref.WeakValueDictionary[str, RegistryEntry] = weakref.WeakValueDictionary()
"""The classes and functions of apps that have a name, as ``app/name``."""


def publish(key: str, entry: RegistryEntry) -> str:
    """Let containers call a class by its key, and return the key."""
    published[key] = entry
    return key


class ServedCalls:
    """The listeners and connections of one session, and the calls that it keeps.

    ``services`` are those of the session, by key; ``warn`` shows a message to its user.
    """

    def __init__(
        self,
        folder: Path,
        owner: Owner,
        event_loop: EventLoop,
        services: dict[str, Service],
        warn: Callable[[str], None],
    ) -> None:
        self.id = folder.name
        self._folder = folder
        self._owner = owner
        self._event_loop = event_loop
        self._services = services
        self._warn = warn
        self._inside: ContainerCalls | None = None
        self._peers: PeerCalls | None = None
        self._kept: KeptCalls | None = None
        self._circle_watch: CircleWatch | None = None
        self._lock = threading.Lock()
        self._holds_back = False
        self.deployment = ""
        """The name of the deployment that this session is, if it is one."""

    @property
    def who(self) -> str:
        """The session in words, for callers in other processes."""
        return f"session {self.id} ({label_of_this_process()}, process {self._owner.pid})"

    @property
    def container_calls(self) -> ContainerCalls:
        """The service for calls that containers make."""
        with self._lock:
            if self._inside is None:
                from lifecycle_magic.services.container_calls import ContainerCalls

                find = self._find_service
                self._inside = ContainerCalls(self._folder, self._event_loop, find, self)
            return self._inside

    @property
    def peer_calls(self) -> PeerCalls:
        """The service for calls that other processes make."""
        with self._lock:
            if self._peers is None:
                from lifecycle_magic.services.peer_calls import PeerCalls

                self._peers = PeerCalls(
                    self._folder,
                    self._owner,
                    self._event_loop,
                    self._find_named,
                    named.__contains__,
                    self,
                )
            return self._peers

    @property
    def kept_calls(self) -> KeptCalls:
        """The outcomes of spawned calls, by their ids."""
        with self._lock:
            if self._kept is None:
                from lifecycle_magic.services.kept_calls import KeptCalls

                self._kept = KeptCalls(self.id)
            return self._kept

    @property
    def circle_watch(self) -> CircleWatch:
        """The search for calls that wait for each other through other sessions."""
        with self._lock:
            if self._circle_watch is None:
                from lifecycle_magic.services.circle_watch import CircleWatch

                self._circle_watch = CircleWatch(self.id, self._event_loop)
            return self._circle_watch

    # --- names -----------------------------------------------------------------------------

    def hold_back(self) -> None:
        """Publish no names until `publish_names` with ``at_last``: the classes are not ready."""
        self._holds_back = True

    def publish_names(self, *, at_last: bool = False) -> None:
        """Let other processes of this user call the classes of apps that have a name."""
        if at_last:
            self._holds_back = False
        names: dict[str, dict[str, str]] = {}
        for key, found in sorted(named.items()):
            app, _, name = key.partition("/")
            names.setdefault(app, {})[name] = "function" if found.spec.is_function else "class"
        if self._holds_back or (not names and self._peers is None):
            return
        try:
            self.peer_calls.publish(names, self.deployment)
        except (OSError, EngineError) as error:
            self._warn(f"other processes can't call {', '.join(names)}: {error}")

    def notify_changed(self) -> None:
        """Notify callers outside of this process that a class was declared again."""
        for calls in (self._peers, self._inside):
            for connection in list(calls.connections) if calls is not None else ():
                connection.on_change()

    # --- services --------------------------------------------------------------------------

    def _find_service(self, key: str) -> Service | None:
        """Return the service of a class by its key, None if another session may serve its name.

        Raises `InvalidError` if there is none.
        """
        if key.startswith(BY_NAME):
            own = named.get(key.removeprefix(BY_NAME))
            return None if own is None else own.service()
        found = published.get(key)
        if found is not None:
            return found.service()
        service = self._services.get(key)
        if service is None:
            name = key.partition("?")[0].rpartition("/")[2]
            raise InvalidError(
                f"{name}: the session has no class or function of this name any more. "
                "Fix: run the cell or script that declares it again"
            )
        return service

    def _find_named(self, key: str) -> Service:
        """Return the service of a class by its name. Raises `NotFoundError` if there is none."""
        found = named.get(key)
        if found is None:
            self.publish_names()  # without it
            self.notify_changed()
            raise NotFoundError(
                f"{self.who} has no class or function {key} any more. "
                "Fix: run the cell or script that declares it again"
            )
        return found.service()

    def leave(self, is_stopped: Callable[[], bool]) -> None:
        """Send callers of other processes to the session that replaces this one.

        Return when their calls have ended, and those that were spawned, or when ``is_stopped()``,
        which waits a moment each time.
        """
        if self._peers is None:
            return
        self._peers.leave()
        while self._peers.connections or self.kept_calls.has_running():
            if is_stopped():
                return

    # --- the end ---------------------------------------------------------------------------

    def close_peers(self) -> None:
        """End the connections of other processes, and accept no more."""
        if self._peers is not None:
            self._peers.close()

    def close_inside(self) -> None:
        """End the connections of containers, and accept no more."""
        if self._inside is not None:
            self._inside.close()

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        if self._inside is not None:
            self._inside.close_in_fork()
        if self._peers is not None:
            self._peers.close_in_fork()
