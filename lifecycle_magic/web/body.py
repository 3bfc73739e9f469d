"""A request's body, received within a time that depends on its size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Body", "BodyStalled"]

STALL_SECONDS = 30.0
"""Total seconds for which a body may keep its reader waiting, besides the time for its bytes."""

BYTES_PER_SECOND = 1024
"""The slowest rate at which a client may send a body."""

READ_AHEAD_BYTES = 1 << 16
"""Bytes of a body that are read before the request takes a slot of a container."""

Message = MutableMapping[str, Any]


class BodyStalled(Exception):
    """The client did not send the rest of its request in time."""


class Body:
    """The ASGI messages of one request; ``receive`` is the server's function."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._left = STALL_SECONDS
        self._complete = False

    async def first(self, ahead: bool) -> Message:
        """Return the first message; with ``ahead``, read up to `READ_AHEAD_BYTES` of the body.

        Reading ahead keeps a client that sends half a body from holding a slot of a container.
        """
        message = await self.receive()
        if not ahead or not message.get("more_body"):
            return message
        parts = [message.get("body", b"")]
        while message.get("more_body") and sum(map(len, parts)) < READ_AHEAD_BYTES:
            message = await self.receive()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
        return {**message, "body": b"".join(parts)}

    async def receive(self) -> Message:
        """Return the next message, as ASGI's ``receive`` does.

        Raises `BodyStalled` if the body is incomplete and its time is over.
        """
        if self._complete:
            return await self._receive()
        task, stalled = asyncio.current_task(), False
        assert task is not None

        def stall() -> None:
            nonlocal stalled
            stalled = True
            task.cancel()

        began = time.monotonic()
        timer = asyncio.get_running_loop().call_later(max(self._left, 0), stall)
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if stalled:
                raise BodyStalled from None
            raise
        finally:
            timer.cancel()
        self._left -= time.monotonic() - began
        self._left += len(message.get("body") or b"") / BYTES_PER_SECOND
        self._complete = not message.get("more_body", False)
        return message
