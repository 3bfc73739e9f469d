"""The profile of one Docker engine: its facts, and how its containers connect to this process."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lifecycle_magic.engines.docker import facts as docker_facts
from lifecycle_magic.engines.docker import shared_files

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Launch
    from lifecycle_magic.engines.docker.client import Clients
    from lifecycle_magic.engines.docker.facts import Facts
    from lifecycle_magic.engines.docker.launch import Transport
    from lifecycle_magic.engines.relay.locations import FarLocation

__all__ = ["EngineProfile"]


class EngineProfile:
    """The facts of the engine that ``clients`` reach. ``location`` is None on this machine.

    ``transport`` is found out unless it is given.
    """

    def __init__(
        self, clients: Clients, location: FarLocation | None, transport: Transport | None
    ) -> None:
        self._clients = clients
        self._location = location
        self._facts: Facts | None = None
        self._transport = transport

    @property
    def facts(self) -> Facts:
        """The engine's facts, asked for once. Raises `EngineUnavailable`."""
        return self._facts if self._facts is not None else self.refresh()

    def refresh(self) -> Facts:
        """Ask for the facts again and return them. Raises `EngineUnavailable`."""
        self._facts = docker_facts.read(self._clients)
        return self._facts

    @property
    def facts_of_containers(self) -> Facts:
        """The facts as containers find them.

        Where the engine shares no files, its machine is not the kernel's. Docker Desktop itself
        gives containers a name for the kernel's.
        """
        if self.transport != "relay" or self.facts.desktop:
            return self.facts
        return dataclasses.replace(self.facts, host_gateway=False)

    def forget_host_gateway(self) -> None:
        """Record that the engine has no bridge of its own, so no address for its machine."""
        self._facts = dataclasses.replace(self.facts, host_gateway=False)

    @property
    def transport(self) -> Transport:
        """The transport of connections: a Unix socket in a shared folder, or a relay."""
        if self._transport is None:
            shared: bool | None = False
            if shared_files.can_share_sockets(self.facts):
                shared = shared_files.are_shared(self._clients, self.facts)
            if shared is None:  # asked again when there is an image to try with
                return "unix" if self._location is None else "relay"
            self._transport = "unix" if shared else "relay"
        return self._transport

    def forget_transport(self) -> None:
        """Find the transport out again at the next question."""
        shared_files.forget(self._clients, self.facts)
        self._transport = None

    def sees_folders(self, launch: Launch) -> bool:
        """Return whether the engine sees the folders of this machine that ``launch`` mounts."""
        if self.transport == "unix" or all(one.volume.kind != "path" for one in launch.mounts):
            return True
        return bool(shared_files.are_shared(self._clients, self.facts))
