"""One HTTP request or WebSocket, as the worker sees it: ASGI messages over a lane's data socket.

The kernel sends what the client sends, a message at a time and only when asked (MORE), so that no
more than one waits unread. The worker sends what the application answers: up to the size of a
piece at once, and not before the socket has room for it, for other requests may share its
event loop.

Messages are those of the ASGI specification, version 3.0: https://asgi.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane

Message = dict[str, Any]

PIECE = 1 << 16
"""Bytes of a body in one message. A socket that is writable has room for that many."""


class Exchange:
    """The two directions of one request. ``first`` is the client's first message.

    `receive` and `send` are the application's, on the event loop; `receive_here` and
    `send_here` do the same on the lane's own thread.
    """

    def __init__(self, lane: Lane, scope: Message, first: Message) -> None:
        self.scope = scope
        self._lane = lane
        self._is_http = scope["type"] == "http"
        self._inbox: deque[Message] = deque([first])
        self._asked = False  # for the next message
        self._whole = not first.get("more_body", False)  # the request's body was received
        self._gone: Message | None = None  # how the client left
        self._kept: list[Message] = []  # what goes out with what follows, if that comes at once
        self._started = False
        self._finished = False
        self._over = False
        self._ended = False  # the socket, for reading
        self._loop: Any = None  # that watches the socket
        self._arrived: asyncio.Future[None] | None = None

    # --- from the client -------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI's ``receive``."""
        while not self._inbox:
            if self._finished and self._is_http:
                return {"type": "http.disconnect"}
            if self._gone is not None:
                return self._gone
            self._watch()
            self._ask()
            self._arrived = self._loop.create_future()
            await self._arrived
        return self._take()

    def receive_here(self) -> Message:
        """`receive` on the lane's thread. Interruptible while it waits."""
        readable = select.poll()
        readable.register(self._lane.channel, select.POLLIN)
        while not self._inbox:
            if self._gone is not None:
                return self._gone
            self._ask()
            if not self._lane.channel.buffered:
                readable.poll()
            with self._lane.target:
                if not self._read():
                    self._gone = {"type": "http.disconnect"}
        return self._take()

    @property
    def client_left(self) -> bool:
        """Whether the application was told, or could have been, that the client has gone."""
        return self._gone is not None

    def _has_left(self) -> bool:
        """Look whether the client has left, while nothing else would notice."""
        if self._loop is None and self._gone is None and not self._ended:
            fd = self._lane.channel.fileno()
            while self._lane.channel.buffered or _ready(fd, select.POLLIN):
                if not self._read():
                    self._ended = True  # the container has to go; that is no news of the client
                    break
        return self._gone is not None

    def _take(self) -> Message:
        self._asked = False
        message = self._inbox.popleft()
        self._whole = self._whole or not message.get("more_body", False)
        return message

    def _ask(self) -> None:
        if not self._asked and not (self._is_http and self._whole):
            self._asked = True
            self._send(Kind.MORE)

    def _watch(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._lane.channel.watch(self._loop, self._on_readable)
            if self._lane.channel.buffered:
                self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if self._loop is None:
            return  # it is over
        while True:
            if not self._read():
                # The container has to go. The application has the time that any input has.
                self._unwatch()
                return
            if not self._lane.channel.buffered:
                break
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _read(self) -> bool:
        """Read one frame; False if there are no more."""
        try:
            frame = self._lane.channel.receive()
        except (OSError, WireError):
            return False
        if frame is None:
            return False
        if frame.kind == Kind.PUSH:
            message = loads(frame.payload, buffers=frame.buffers)
            if message["type"].endswith(".disconnect"):
                self._gone = message
            else:
                self._inbox.append(message)
        elif frame.kind == Kind.STOP and self._gone is None:
            code = {} if self._is_http else {"code": 1006}
            self._gone = {"type": f"{self.scope['type']}.disconnect", **code}
        return True

    def _unwatch(self) -> None:
        if self._loop is not None:
            loop, self._loop = self._loop, None
            loop.remove_reader(self._lane.channel)

    # --- to the client ---------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """ASGI's ``send``."""
        self._check(message)
        kind = message["type"]
        if kind == "http.response.start":
            self._keep(_start(message))
            asyncio.get_running_loop().call_soon(self._flush_late)
            return
        if kind != "http.response.body":
            await self._send_any(message)
            return
        for piece in _pieces(message):
            if self._has_left():
                # Nobody reads on. The interrupt that comes now ends the application.
                await asyncio.get_running_loop().create_future()
            self._keep(piece)
            if self._finished:
                asyncio.get_running_loop().call_soon(self._flush_late)
            else:
                await self._room()
                self.flush()

    def send_here(self, message: Message) -> None:
        """`send` on the lane's thread; blocks while there is no room."""
        self._check(message)
        if message["type"] == "http.response.start":
            self._keep(_start(message))
            return
        for piece in _pieces(message):
            self._keep(piece)
            if not self._finished:
                with self._lane.target:
                    self.flush()

    def _check(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._started:
            raise RuntimeError("the application began a second response")
        if kind == "http.response.body" and not self._started:
            raise RuntimeError("the application sent a body before http.response.start")
        self._started = self._started or kind == "http.response.start"

    def _keep(self, message: Message) -> None:
        """Headers wait for the body, and the last of the body for the application's end: most
        answers are then one frame. What does not come at once is not waited for.
        """
        self._kept.append(message)
        self._finished = message.get("more_body") is False

    def flush(self) -> None:
        """Send what was kept."""
        kept = self.take_kept()
        if kept:
            self._send(Kind.ITEM, kept)

    def _flush_late(self) -> None:
        if not self._over:  # else it goes out with the END
            self.flush()

    def take_kept(self) -> list[Message]:
        """What was kept, for a frame of another kind."""
        kept, self._kept = self._kept, []
        return kept

    async def _send_any(self, message: Message) -> None:
        self.flush()
        await self._room()
        data, buffers = dumps([message])
        if len(data) > PIECE or buffers:
            # A large WebSocket message: the socket may take it as slowly as the client does.
            await asyncio.get_running_loop().run_in_executor(
                None, self._lane.send, Kind.ITEM, data, buffers
            )
        else:
            self._lane.send(Kind.ITEM, data)

    async def _room(self) -> None:
        """Wait until the socket takes a piece at once."""
        fd = self._lane.channel.fileno()
        while not _ready(fd, select.POLLOUT):
            loop = asyncio.get_running_loop()
            writable = loop.create_future()
            loop.add_writer(fd, resolve, writable)
            self._lane.channel.sock.setblocking(True)  # see `Channel.watch`
            try:
                await writable
            finally:
                loop.remove_writer(fd)

    def _send(self, kind: int, messages: Any = None) -> None:
        data: bytes = b""
        buffers: Any = ()
        if messages is not None:
            data, buffers = dumps(messages)
        self._lane.send(kind, data, buffers)

    def close(self) -> None:
        """It is over: the socket is the lane's again. On the loop's thread, if it was watched."""
        self._over = True
        self._unwatch()


def _start(message: Message) -> Message:
    """The message with plain lists, whatever the application used."""
    headers = [[bytes(name), bytes(value)] for name, value in message.get("headers", ())]
    told = {"type": message["type"], "status": int(message["status"]), "headers": headers}
    if message.get("trailers"):
        told["trailers"] = True
    return told


def _pieces(message: Message) -> list[Message]:
    body = message.get("body", b"")
    more = bool(message.get("more_body", False))
    kind = message["type"]
    if len(body) <= PIECE:
        return [{"type": kind, "body": bytes(body), "more_body": more}]
    view = memoryview(body)
    starts = range(0, len(body), PIECE)
    return [
        {
            "type": kind,
            "body": bytes(view[start : start + PIECE]),
            "more_body": more or start != starts[-1],
        }
        for start in starts
    ]


def _ready(fd: int, event: int) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def resolve(future: asyncio.Future[None]) -> None:
    """What a future waited for has come; it may have been cancelled."""
    if not future.done():
        future.set_result(None)
