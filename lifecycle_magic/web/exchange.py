"""One HTTP request or WebSocket on its way through a container.

It is an input like any other: it waits in the pool, runs in a slot, has the class's ``timeout``,
and is taken elsewhere if its container goes before it began. In between ASGI messages go both ways
over the slot's data socket: the application's as it sends them, the client's when it asks for one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.calls import answer_of
from lifecycle_magic.calling.streams import AsyncStream
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE = 1 << 16
"""Bytes of a request's body in one message: what a socket's buffer holds without blocking."""

LISTEN = 0.02
"""Seconds after which a request that goes on is watched for its client leaving."""

FAREWELL = 10.0
"""Seconds that a WebSocket's handler has to end when its client has left."""

SCOPE = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
    "client",
    "server",
    "subprotocols",
)


class ClientLeft(Exception):
    """The client went before its answer was complete."""


class Request(AsyncStream):
    """The input. ``shown`` gets what the method prints, ``on_going`` hears that its container is
    to go.
    """

    kind = Kind.REQUEST

    def __init__(
        self,
        pool: Pool,
        method: str,
        scope: dict[str, Any],
        first: Message,
        shown: Callable[[str, str], None],
        on_going: Callable[[], None],
    ) -> None:
        super().__init__(pool, method, (scope, first), {})
        self._shown = shown
        self._on_going = on_going
        self._reading = False
        self._readable: asyncio.Future[None] | None = None

    def going(self) -> None:
        self._on_going()

    def show(self, stream: str, text: str) -> None:
        self._shown(stream, text)

    def show_from_elsewhere(self, stream: str, text: str) -> None:
        self._shown(stream, text)

    def insist(self) -> None:
        # A client that has left is no reason to replace a container: others are served there.
        slot = self.runs_in()
        if slot is not None:
            slot.container.interrupt(self.id)

    async def until_readable(self) -> None:
        """As inherited, but the socket stays watched from one frame to the next."""
        assert self.slot is not None
        loop = asyncio.get_running_loop()
        if not self._reading:
            self._reading = True
            self.slot.channel.watch(loop, self._on_readable)
        self._readable = loop.create_future()
        try:
            await self._readable
        finally:
            self._readable = None

    def _on_readable(self) -> None:
        if self._readable is None:
            self._unwatch()  # nobody waits: a client that reads slowly
        elif not self._readable.done():
            self._readable.set_result(None)

    def _unwatch(self) -> None:
        if self._reading and self.slot is not None:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self.slot.channel)

    def close(self) -> None:
        self._unwatch()
        super().close()


class Exchange:
    """Carries a request until its answer is complete; ``receive`` and ``send`` are the server's.

    `run` raises what kept the application from answering, or `ClientLeft`. ``began`` tells whether
    a container had it, ``started`` and ``complete`` how far the answer has come, ``received``
    whether all of the request has.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        scope: Message,
        first: Message,
        receive: Receive,
        send: Send,
        shown: Callable[[str, str], None],
    ) -> None:
        self.began = False
        self.started = False
        self.complete = False
        self._scope_type = scope["type"]
        self._is_http = scope["type"] == "http"
        self._receive = receive
        self._send = send
        self._to_go = deque(_pieces(first))  # to the application, when it asks
        told = {name: scope[name] for name in SCOPE if name in scope}
        told["asgi"] = {"version": "3.0", "spec_version": "2.3"}
        told["extensions"] = {
            name: {} for name in scope.get("extensions") or {} if name == "websocket.http.response"
        }
        self.request = Request(
            pool, method, told, self._to_go.popleft(), shown, self._on_going_soon
        )
        self.received = not first.get("more_body", False)
        self._parted = False  # the client has left, and the application was told
        self._left = False  # and nobody waits for it any more
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._farewell: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """From the pool to the last message."""
        self._task = asyncio.current_task()
        listen = self._loop.call_later(LISTEN, self._listen)
        try:
            await self._carry()
        except asyncio.CancelledError:
            if not self._left:
                raise
            raise ClientLeft from None
        except Exception:
            if self._parted:  # what the application makes of that is no failure
                raise ClientLeft from None
            raise
        finally:
            listen.cancel()
            for task in (self._listener, self._farewell):
                if task is not None:
                    task.cancel()
            self.request.leave()

    async def _carry(self) -> None:
        request = self.request
        frame = await request.begin()
        self.began = True
        while True:
            if frame is not None and frame.kind in (Kind.ITEM, Kind.END):
                if frame.payload:
                    for message in loads(frame.payload, buffers=frame.buffers):
                        await self._answer(message)
                if frame.kind == Kind.END:
                    return
            elif frame is not None and frame.kind == Kind.MORE:
                self._asked.set()
                self._listen()
            else:
                assert request.slot is not None
                # How it went may take a moment to be told, and the loop must not wait for that.
                await asyncio.to_thread(answer_of, request.slot, request, frame, Kind.ITEM)
            frame = await request.frame()

    async def _answer(self, message: Message) -> None:
        if self.complete:
            return  # closed from here meanwhile, because the container is to go
        kind = message["type"]
        self.started = self.started or kind != "websocket.close"
        self.complete = _is_last(message)
        try:
            await self._send(message)
        except OSError:  # a WebSocket's client has left
            self._left = True
            raise ClientLeft from None

    # --- the client's side -----------------------------------------------------------------

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = asyncio.ensure_future(self._hear())

    async def _hear(self) -> None:
        """Give the application what the client sends, and end with the client."""
        while True:
            while self._to_go:
                await self._asked.wait()
                self._asked.clear()
                await self._push(self._to_go.popleft())
            message = await self._receive()
            if message["type"].endswith(".disconnect"):
                await self._on_left(message)
                return
            self.received = self.received or not message.get("more_body", False)
            self._to_go.extend(_pieces(message))

    async def _push(self, message: Message) -> None:
        slot = self.request.slot
        if slot is None:
            return
        data, buffers = dumps(dict(message))
        try:
            if len(data) <= 2 * PIECE:
                slot.channel.send(Kind.PUSH, data, buffers)
            else:  # a large WebSocket message: the far side may read it slowly
                await asyncio.to_thread(slot.channel.send, Kind.PUSH, data, buffers)
        except OSError:
            pass  # it is gone; reading says so

    def _on_going_soon(self) -> None:
        """On any thread: the container is to go when this request is over."""
        with contextlib.suppress(RuntimeError):  # the server has closed, and this with it
            self._loop.call_soon_threadsafe(self._go)

    def _go(self) -> None:
        if self._farewell is None:
            self._farewell = asyncio.ensure_future(self._part())

    async def _part(self) -> None:
        """Have what may have no end of its own end, so that the container can run its ``exit``: a
        WebSocket at once, a stream after as long as ``exit`` itself may take.
        """
        slot = self.request.slot
        if slot is None:
            return
        if self._scope_type != "websocket":
            await asyncio.sleep(slot.container.plan.grace)
            if self.started and not self.complete and self._task is not None:
                self._task.cancel()
        elif self.started and not self.complete:
            restart = {"code": 1012, "reason": "service restart"}
            await self._answer({"type": "websocket.close", **restart})
            await self._on_left({"type": "websocket.disconnect", **restart})

    async def _on_left(self, message: Message) -> None:
        if self._is_http:
            if self.complete:
                return  # it has what it came for; what the application does now is its own business
        elif self.request.runs_in() is not None:
            self._parted = True
            await self._push(message)  # the handler ends by itself when it hears of it
            await asyncio.sleep(FAREWELL)
        self._left = True
        if self._task is not None:
            self._task.cancel()


def _is_last(message: Message) -> bool:
    kind = message["type"]
    if kind == "http.response.body":
        return not message.get("more_body", False)
    return bool(kind == "websocket.close")


def _pieces(message: Message) -> list[Message]:
    body = message.get("body", b"")
    if len(body) <= PIECE:
        return [message]
    more = message.get("more_body", False)
    starts = range(0, len(body), PIECE)
    return [
        {
            "type": message["type"],
            "body": body[start : start + PIECE],
            "more_body": more or start != starts[-1],
        }
        for start in starts
    ]
