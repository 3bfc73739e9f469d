"""Containers of an engine that shares no files: a relay starts and removes them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from lifecycle_magic.engines.base import Ended, Launch
from lifecycle_magic.engines.docker import container_end
from lifecycle_magic.engines.docker import launch as docker_launch
from lifecycle_magic.engines.docker.api import create_container, discard_container
from lifecycle_magic.engines.docker.client import Clients, explain
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.relay.locations import FarLocation
from lifecycle_magic.engines.relay.process import RelayConnection, packed_guest
from lifecycle_magic.exception import EngineError
from lifecycle_magic.wire.multiplexer import STREAM_ENDED

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

__all__ = ["RelayedContainers"]


class RelayedContainers:
    """The containers of the engine at ``location`` that this session has started there, or adopted
    with their relays.
    """

    def __init__(self, clients: Clients, location: FarLocation) -> None:
        self._clients = clients
        self._location = location
        self._started: dict[str, tuple[RelayConnection, int]] = {}
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
            relay.remove(container, 0)  # tried again where the engine restarts just now
            raise EngineError(explain(f"start the container {launch.name}", error))
        self._started[container] = relay, launch.stop_timeout
        return container

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Give a container the modules that were written into its run folder since its launch."""
        self._relay(container).put(container, run_dir)

    def keep(self, container: str, is_kept: bool) -> None:
        """Let a container outlive this kernel, or not any more."""
        self._relay(container).keep(container, is_kept)

    def take_over(self, container: str, launch: Launch) -> None:
        """Take over a kept container from the relay of its former kernel. Raises `EngineError`."""
        self._started[container] = RelayConnection.take_over(launch.run_dir), launch.stop_timeout

    def _relay(self, container: str) -> RelayConnection:
        relay, _ = self._started.get(container, (None, 0))
        return relay if relay is not None else self._location.relay()

    def close(self) -> None:
        """End the use of the relays that this session has taken over."""
        for relay, _ in list(self._started.values()):
            relay.close()  # also this session's own, whose use ends too
        self._started.clear()

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
            lost = relay.ending
        if not lost or lost == STREAM_ENDED:  # a container that is killed ends its stream too
            found = container_end.ended(self._clients, container)
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
            relay, seconds = self._started.pop(container, (None, 35))
            mine = self._location.relay()
            mine.remove(container, seconds)
            if relay is not None and relay is not mine:
                relay.close()
