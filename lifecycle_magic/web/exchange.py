"""One HTTP request or WebSocket, carried through a container.

It is an input like any other: it waits in the pool, runs in a slot, has the class's ``timeout``,
and moves to another container if its own exits before it starts. Meanwhile ASGI messages travel in
both directions over the slot's data socket: those of the application as it sends them, those of
the client when the application asks for one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.async_generators import AsyncStream
from lifecycle_magic.calls.prompts import Prompt, refuse
from lifecycle_magic.calls.reply import ReplyReader, Value, take_value
from lifecycle_magic.web.body import BodyStalled
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import asgi
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.pool.pool import Pool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE_BYTES = 1 << 16
"""Bytes of a request's body in one message: a socket's buffer holds as many without blocking."""

WATCH_CLIENT_SECONDS = 0.02
"""Seconds after which a running request is watched for its client disconnecting."""

DISCONNECT_GRACE_SECONDS = 10.0
"""Seconds that a WebSocket's handler has to end after its client has disconnected."""

FORWARDED_SCOPE_KEYS = (
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


class ClientDisconnected(Exception):
    """The client disconnected before its response was complete."""


class BadRequest(Exception):
    """The client's request can't be forwarded; the message gives the reason."""


class _MessageReader(ReplyReader):
    """The meaning of the frames of a web application: values are frames of ASGI messages."""

    __slots__ = ()

    pickled = frozenset[int]()
    values = frozenset({Kind.ITEM, Kind.MORE, Kind.END})

    def decode(self, frame: Frame) -> Value:
        return Value(frame, frame.kind == Kind.END)


class WebInput(AsyncStream):
    """The request as an input of a pool.

    ``show`` gets the method's output. ``on_draining`` is called when the container is draining.
    """

    kind = Kind.REQUEST
    make_reader = _MessageReader

    def __init__(
        self,
        pool: Pool,
        method: str,
        scope: dict[str, Any],
        first: Message,
        show: Callable[[str, str], None],
        on_draining: Callable[[], None],
    ) -> None:
        super().__init__(pool, method, (scope, first), {})
        self._show = show
        self._on_draining = on_draining
        self._reading = False
        self._readable: asyncio.Future[None] | None = None

    def on_draining(self) -> None:
        self._on_draining()

    def show(self, stream: str, text: str) -> None:
        self._show(stream, text)

    def show_from_thread(self, stream: str, text: str) -> None:
        self._show(stream, text)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        refuse(slot, prompt, "a request over HTTP has no cell or terminal")

    def interrupt_unwanted(self) -> None:
        # A client that disconnected is no reason to replace a container that serves others.
        slot = self.running_slot()
        if slot is not None:
            slot.container.interrupt(self.id, self.started)

    async def wait_until_readable(self) -> None:
        """Wait until a frame can be read; the socket stays watched between frames."""
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
            self._unwatch()  # no reader is waiting: the client reads slowly
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
    """A request and its response; ``receive`` and ``send`` are the server's functions.

    ``input_started`` is whether a container has got the request, ``request_complete`` whether the
    server has received all of it. ``response_started`` and ``response_complete`` are the progress
    of the response.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        scope: Message,
        first: Message,
        receive: Receive,
        send: Send,
        show: Callable[[str, str], None],
    ) -> None:
        self.input_started = False
        self.response_started = False
        self.response_complete = False
        self._scope_type = scope["type"]
        self._is_http = scope["type"] == "http"
        self._receive = receive
        self._send = send
        self._unsent = deque(_pieces(first))  # for the application, when it asks for a message
        forwarded = {name: scope[name] for name in FORWARDED_SCOPE_KEYS if name in scope}
        forwarded["asgi"] = {"version": "3.0", "spec_version": "2.3"}
        forwarded["extensions"] = {
            name: {} for name in scope.get("extensions") or {} if name == "websocket.http.response"
        }
        self.request = WebInput(
            pool, method, forwarded, self._unsent.popleft(), show, self._on_draining
        )
        self.request_complete = not first.get("more_body", False)
        self._disconnect_sent = False  # the application knows that the client disconnected
        self._client_left = False  # the client disconnected and the request is cancelled
        self._stalled: BodyStalled | None = None
        self._loop = asyncio.get_running_loop()
        self._application_reads = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Carry the request from the pool to the last message of the response.

        Raises what kept the application from answering, or `ClientDisconnected`.
        """
        self._task = asyncio.current_task()
        timer = self._loop.call_later(WATCH_CLIENT_SECONDS, self._start_reading_client)
        try:
            await self._forward()
        except asyncio.CancelledError:
            if self._stalled is not None:
                raise self._stalled from None
            if not self._client_left:
                raise
            raise ClientDisconnected from None
        except Exception:
            if self._disconnect_sent:  # the application's reaction to that is no failure
                raise ClientDisconnected from None
            raise
        finally:
            timer.cancel()
            for task in (self._listener, self._ending):
                if task is not None:
                    task.cancel()
            self.request.close_early()

    async def _forward(self) -> None:
        request = self.request
        reply = await request.begin()
        self.input_started = True
        while True:
            if type(reply) is Value and reply.value.kind == Kind.MORE:
                self._application_reads.set()
                self._start_reading_client()
            elif type(reply) is Value:
                frame: Frame = reply.value
                if frame.payload:
                    for message in asgi(frame.payload, frame.buffers):
                        await self._answer(message)
                if reply.is_last:
                    return
            else:
                try:
                    take_value(reply, request.reader)
                finally:
                    del reply  # otherwise its error would refer to itself
            reply = await request.explained_reply()

    async def _answer(self, message: Message) -> None:
        if self.response_complete:
            return  # closed meanwhile on this side, because the container is draining
        kind = message["type"]
        self.response_started = self.response_started or kind != "websocket.close"
        self.response_complete = _is_last(message)
        try:
            await self._send(message)
        except OSError:  # a WebSocket's client has disconnected
            self._client_left = True
            raise ClientDisconnected from None

    # --- the client's side -----------------------------------------------------------------

    def _start_reading_client(self) -> None:
        if self._listener is None:
            self._listener = asyncio.ensure_future(self._read_client())

    async def _read_client(self) -> None:
        """Send the client's messages to the application until the client disconnects."""
        while True:
            while self._unsent:
                await self._application_reads.wait()
                self._application_reads.clear()
                await self._push(self._unsent.popleft())
            try:
                message = await self._receive()
            except BodyStalled as error:
                self._stalled = error
                if self._task is not None:
                    self._task.cancel()
                return
            if message["type"].endswith(".disconnect"):
                await self._on_left(message)
                return
            self.request_complete = self.request_complete or not message.get("more_body", False)
            self._unsent.extend(_pieces(message))

    async def _push(self, message: Message) -> None:
        slot = self.request.slot
        if slot is None:
            return
        data, buffers = dumps(dict(message))
        try:
            if len(data) <= 2 * PIECE_BYTES:
                slot.channel.send(Kind.PUSH, data, buffers)
            else:  # a large WebSocket message: the container may read it slowly
                await asyncio.to_thread(slot.channel.send, Kind.PUSH, data, buffers)
        except OSError:
            pass  # the container has exited; reading raises that

    def _on_draining(self) -> None:
        """Start to end a long response; called on any thread when the container is draining."""
        with contextlib.suppress(RuntimeError):  # the server, and its event loop, are closed
            self._loop.call_soon_threadsafe(self._start_ending)

    def _start_ending(self) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_long_answer())

    async def _end_long_answer(self) -> None:
        """End a response that might never end by itself, so that the container can run ``exit``.

        A WebSocket is closed at once. A stream is cancelled after the time that ``exit`` may take.
        """
        slot = self.request.slot
        if slot is None:
            return
        if self._scope_type != "websocket":
            await asyncio.sleep(slot.container.plan.grace)
            if self.response_started and not self.response_complete and self._task is not None:
                self._task.cancel()
        elif self.response_started and not self.response_complete:
            restart = {"code": 1012, "reason": "service restart"}
            await self._answer({"type": "websocket.close", **restart})
            await self._on_left({"type": "websocket.disconnect", **restart})

    async def _on_left(self, message: Message) -> None:
        if self._is_http:
            if self.response_complete:
                return  # the client has its response; the application may continue
        elif self.request.running_slot() is not None:
            self._disconnect_sent = True
            await self._push(_disconnect_message(message))
            await asyncio.sleep(DISCONNECT_GRACE_SECONDS)  # most handlers end by themselves
        self._client_left = True
        if self._task is not None:
            self._task.cancel()


def _disconnect_message(message: Message) -> Message:
    """Return a WebSocket's last message as plain values.

    A server's code may be an enum of its library, which the container need not have.
    """
    code = message.get("code")
    plain = {"type": message["type"], "code": 1005 if code is None else int(code)}
    return {**plain, "reason": str(message.get("reason") or "")}


def _is_last(message: Message) -> bool:
    kind = message["type"]
    if kind == "http.response.body":
        return not message.get("more_body", False)
    return bool(kind == "websocket.close")


def _pieces(message: Message) -> list[Message]:
    body = message.get("body", b"")
    if len(body) <= PIECE_BYTES:
        return [message]
    more = message.get("more_body", False)
    starts = range(0, len(body), PIECE_BYTES)
    return [
        {
            "type": message["type"],
            "body": body[start : start + PIECE_BYTES],
            "more_body": more or start != starts[-1],
        }
        for start in starts
    ]
