"""The containers of a swarm's services, which connect to the relay by themselves."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from typing import Any

from lifecycle_magic.engines.relay.background import BackgroundThreads
from lifecycle_magic.engines.relay.container_port import ContainerPort, ExpectedContainer
from lifecycle_magic.engines.relay.removal import Ask, delete_service, remove_service
from lifecycle_magic.engines.relay.run_folder import pack_run_folder
from lifecycle_magic.wire.tls_stream import TlsStream

__all__ = ["ServiceContainers"]


class ServiceContainers:
    """The services of one relay, from the request to expect a container until their removal.

    ``on_connected`` gets a container, its connection, and the bytes that it is sent first. All
    methods belong to the thread of the loop around ``selector``, but those that say otherwise.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        threads: BackgroundThreads,
        ask: Ask,
        on_connected: Callable[[ExpectedContainer, TlsStream, bytes], None],
    ) -> None:
        self._port = ContainerPort(selector, self._on_connected)
        self._threads = threads
        self._ask = ask
        self._pass_on = on_connected
        self._names: set[str] = set()  # of those that were expected, until their removal

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Add a service of a relay that was killed, so that it is removed as a service."""
        self._names.add(name)

    def tick(self, now: float) -> float | None:
        """Drop connections that are late. Return the seconds until the next call."""
        return self._port.tick(now)

    def expect(self, asked: dict[str, Any]) -> tuple[int, str]:
        """Admit the container of a service. Return the port that it connects to, or an error."""
        try:
            one = ExpectedContainer.of(asked)
            try:
                settings = (str(asked["authority"]), str(asked["identity"]))
                port = self._port.expect(one, str(asked["host"]), int(asked["port"]), *settings)
                self._names.add(one.container)
            except BaseException:
                os.close(one.lock)
                raise
        except OSError as failed:
            return 0, (
                f"can't listen for containers of the swarm at {asked['host'] or 'any address'}"
                f"{':' + str(asked['port']) if asked['port'] else ''}: {failed}. Fix: name a free "
                "port in LIFECYCLE_MAGIC_ADDRESS, or none"
            )
        return port, ""

    def _on_connected(self, one: ExpectedContainer, stream: TlsStream) -> None:
        try:
            first = b""
            if one.guest:
                with open(one.guest, "rb") as file:
                    first = file.read()
            first += pack_run_folder(one.run)
        except OSError:  # its run folder has gone: the kernel does not want it any more
            os.close(one.lock)
            stream.close()
            return
        self._pass_on(one, stream, first)

    def delete(self, name: str) -> None:
        """Admit a container no more, and delete its service as it is, on another thread."""
        self._forget(name)
        self._threads.start(lambda: self._delete(name))

    def _delete(self, name: str) -> None:
        delete_service(self._ask, name)
        self._threads.call(lambda: self._end(name))

    def remove(self, name: str, deadline: float, give_up: Callable[[], bool]) -> None:
        """Remove a service once its container has ended. On a thread that may block."""
        remove_service(self._ask, name, deadline, give_up)
        self._threads.call(lambda: self._end(name))

    def close(self) -> None:
        """Delete the services whose containers have not connected, and close the port."""
        for waiting in self._port.expected:
            self.delete(waiting.container)
        self._port.close()

    def _forget(self, name: str) -> None:
        if (waiting := self._port.forget(name)) is not None:
            os.close(waiting.lock)

    def _end(self, name: str) -> None:
        """Close the port with the last service."""
        self._forget(name)
        self._names.discard(name)
        if not self._names:
            self._port.close()
