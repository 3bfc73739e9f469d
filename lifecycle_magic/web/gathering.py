"""Answers in as few packets as there can be.

uvicorn writes the head of an answer and its body one after the other. On a connection with nothing
before them each is a system call of its own and wakes the client: of a short answer that was a
third of all that the server's thread did.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["GatheringProtocol", "GatheringTransport"]

ENOUGH = 1 << 16
"""Bytes that are written at once, so that a transport can still tell its writer to pause."""


class GatheringTransport:
    """A transport that writes what comes in one turn of the event loop in one piece.

    All but writing and closing is the ``transport``'s own.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write it with what else comes before the loop goes on."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= ENOUGH:
            self._flush()

    def close(self) -> None:
        """Write what was gathered, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        gathered, self._gathered, self._size = self._gathered, [], 0
        if gathered and not self._transport.is_closing():
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))


class GatheringProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol on a `GatheringTransport`."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(GatheringTransport(transport, asyncio.get_running_loop()))
