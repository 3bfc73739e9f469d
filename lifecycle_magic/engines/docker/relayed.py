"""Containers of an engine that shares no files: a relay starts and removes them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from lifecycle_magic.engines.base import Ended, Launch
from lifecycle_magic.engines.docker import ends
from lifecycle_magic.engines.docker import launch as docker_launch
from lifecycle_magic.engines.docker.api import create_container, discard_container
from lifecycle_magic.engines.docker.client import Clients, explain
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.relay.locations import FarLocation
from lifecycle_magic.engines.relay.process import RelayProcess, packed_guest
from lifecycle_magic.exception import EngineError
from lifecycle_magic.wire.multiplexer import STREAM_ENDED

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

__all__ = ["RelayedContainers"]


class RelayedContainers:
    """The containers of the engine at ``location`` that this session has started there."""

    def __init__(self, clients: Clients, location: FarLocation) -> None:
        self._clients = clients
        self._location = location
        self._started: dict[str, tuple[RelayProcess, int]] = {}
        """The relay of each one, and the seconds that its end may take."""

    def start(self, api: APIClient, launch: Launch, facts: Facts) -> str:
        """Create a container, have the relay attach to it and start it; return its id."""
        guest = packed_guest(launch.guest_dir)
        relay = self._location.relay()
        body = docker_launch.attached_config(launch, facts)
        try:
            container = create_container(api, body, launch.name)
            error = relay.serve(container, launch.run_dir, guest, launch.stop_timeout)
        except Exception:
            raise
        except BaseException:
            discard_container(self._clients, launch.name)  # interrupted: it may have been made
            raise
        if error:
            discard_container(self._clients, container)
            raise EngineError(explain(f"start the container {launch.name}", error))
        self._started[container] = relay, launch.stop_timeout
        return container

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Give a container the modules that were written into its run folder since its launch."""
        self._location.relay().put(container, run_dir)

    def ended(self, container: str) -> Ended:
        """Return how a container ended. Raises `EngineError` if only the connection to it did.

        An engine that does not answer is not asked: after a cut that would take minutes.
        """
        relay, _ = self._started.get(container, (None, 0))
        if relay is None:
            lost = ""
        elif relay.is_alive:
            lost = relay.fate(container)
        else:
            lost = "the relay process has exited"
        if not lost or lost == STREAM_ENDED:  # a container that is killed ends its stream too
            found = ends.ended(self._clients, container)
            if found is not None:
                return found
        raise EngineError(
            f"the connection to its container at {self._location.shown} was lost"
            f"{f' ({lost})' if lost else ''}. The container runs its exit by itself, and how it "
            "ends is not known here"
        )

    def discard(self, container: str) -> None:
        """Remove a container once it has ended. Return at once.

        The relay does it, for a container whose connection was lost may run its exit for a while.
        """
        with contextlib.suppress(EngineError):
            _, seconds = self._started.pop(container, (None, 35))
            self._location.relay().remove(container, seconds)
