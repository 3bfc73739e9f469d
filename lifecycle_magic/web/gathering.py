"""Responses in as few packets as possible.

uvicorn writes the head of a response and its body separately. Each write is a system call and
wakes the client; for a short response that was a third of the work of the server's thread.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["GatheringProtocol", "GatheringTransport"]

FLUSH_BYTES = 1 << 16
"""Bytes after which data is written at once, so that the transport can still pause its writer."""


class GatheringTransport:
    """A transport that joins all writes of one event loop iteration.

    All attributes except ``write`` and ``close`` are those of ``transport``.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write ``data`` together with other writes of this event loop iteration."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= FLUSH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the gathered data and close the transport."""
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
