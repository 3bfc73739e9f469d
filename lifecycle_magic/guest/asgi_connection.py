"""One HTTP request or WebSocket in the worker: ASGI messages over a lane's data socket.

The kernel sends the client's messages one at a time, each only when the worker asks for it (MORE),
so that at most one waits unread. The worker sends the application's messages in pieces of bounded
size, and only when the socket has room, because other requests may share its event loop.

Messages follow the ASGI specification, version 3.0: https://asgi.readthedocs.io/en/latest/specs/
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

PIECE_BYTES = 1 << 16
"""Bytes of a body in one message. A writable socket has room for that many."""


class AsgiConnection:
    """Both directions of one request. ``first`` is the client's first message.

    The application calls `receive` and `send` on the event loop. `receive_blocking` and
    `send_blocking` do the same on the lane's own thread.
    """

    def __init__(self, lane: Lane, scope: Message, first: Message) -> None:
        self.scope = scope
        self._lane = lane
        self._is_http = scope["type"] == "http"
        self._inbox: deque[Message] = deque([first])
        self._requested = False  # whether MORE was sent for the next message
        self._body_received = not first.get("more_body", False)
        self._disconnect: Message | None = None  # the client's disconnect message
        self._held_back: list[Message] = []  # sent together with the next message
        self._started = False
        self._finished = False
        self._closed = False
        self._input_ended = False  # the socket is at its end
        self._loop: Any = None  # the loop that watches the socket
        self._arrived: asyncio.Future[None] | None = None

    # --- from the client -------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the client's next message: the application's ASGI ``receive``."""
        while not self._inbox:
            if self._finished and self._is_http:
                return {"type": "http.disconnect"}
            if self._disconnect is not None:
                return self._disconnect
            self._watch()
            self._request_next()
            self._arrived = self._loop.create_future()
            await self._arrived
        return self._take_message()

    def receive_blocking(self) -> Message:
        """Do what `receive` does, on the lane's thread. The wait can be interrupted."""
        readable = select.poll()
        readable.register(self._lane.channel, select.POLLIN)
        while not self._inbox:
            if self._disconnect is not None:
                return self._disconnect
            self._request_next()
            if not self._lane.channel.has_buffered:
                readable.poll()
            with self._lane.target:
                if not self._read():
                    self._disconnect = {"type": "http.disconnect"}
        return self._take_message()

    @property
    def has_client_left(self) -> bool:
        """True if the client is known to have disconnected."""
        return self._disconnect is not None

    def _look_for_disconnect(self) -> bool:
        """Read frames while nothing watches the socket. Return whether the client has
        disconnected.
        """
        if self._loop is None and self._disconnect is None and not self._input_ended:
            fd = self._lane.channel.fileno()
            while self._lane.channel.has_buffered or _is_ready(fd, select.POLLIN):
                if not self._read():
                    # If the container stops, the client may still be there.
                    self._input_ended = not self._note_kernel_gone()
                    break
        return self._disconnect is not None

    def _note_kernel_gone(self) -> bool:
        """Note that the client has left if the other end of the connection is closed.

        Return whether it is.
        """
        if not _is_ready(self._lane.channel.fileno(), select.POLLHUP):
            return False  # the supervisor has shut the reading half only
        code = {} if self._is_http else {"code": 1006}
        self._disconnect = {"type": f"{self.scope['type']}.disconnect", **code}
        return True

    def _take_message(self) -> Message:
        self._requested = False
        message = self._inbox.popleft()
        self._body_received = self._body_received or not message.get("more_body", False)
        return message

    def _request_next(self) -> None:
        if not self._requested and not (self._is_http and self._body_received):
            self._requested = True
            self._send(Kind.MORE)

    def _watch(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._lane.channel.watch(self._loop, self._on_readable)
            if self._lane.channel.has_buffered:
                self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if self._loop is None:
            return  # the request is over
        while True:
            if not self._read():
                # The container stops: the application has as much time as any input. Or the
                # kernel has exited: then no client is left.
                self._unwatch()
                if not self._note_kernel_gone():
                    return
                break
            if not self._lane.channel.has_buffered:
                break
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _read(self) -> bool:
        """Read one frame. Return False if there are no more."""
        try:
            frame = self._lane.channel.receive()
        except (OSError, WireError):
            return False
        if frame is None:
            return False
        if frame.kind == Kind.PUSH:
            message = loads(frame.payload, buffers=frame.buffers)
            if message["type"].endswith(".disconnect"):
                self._disconnect = message
            else:
                self._inbox.append(message)
        elif frame.kind == Kind.STOP and self._disconnect is None:
            code = {} if self._is_http else {"code": 1006}
            self._disconnect = {"type": f"{self.scope['type']}.disconnect", **code}
        return True

    def _unwatch(self) -> None:
        if self._loop is not None:
            loop, self._loop = self._loop, None
            loop.remove_reader(self._lane.channel)

    # --- to the client ---------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Send a message of the application to the client: the application's ASGI ``send``."""
        self._check(message)
        kind = message["type"]
        if kind == "http.response.start":
            self._hold_back(_plain_start(message))
            asyncio.get_running_loop().call_soon(self._flush_if_open)
            return
        if kind != "http.response.body":
            await self._send_any(message)
            return
        for piece in _pieces(message):
            if self._look_for_disconnect():
                self._check_kernel()
                # The client has gone. The interrupt that follows ends the application.
                await asyncio.get_running_loop().create_future()
            self._hold_back(piece)
            if self._finished:
                asyncio.get_running_loop().call_soon(self._flush_if_open)
            else:
                await self._wait_writable()
                self.flush()

    def send_blocking(self, message: Message) -> None:
        """Do what `send` does, on the lane's thread. Blocks while there is no room."""
        self._check(message)
        if message["type"] == "http.response.start":
            self._hold_back(_plain_start(message))
            return
        for piece in _pieces(message):
            self._hold_back(piece)
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

    def _hold_back(self, message: Message) -> None:
        """Hold a message back for the next one.

        Headers wait for the body, and the end of the body for the application's end, so that most
        answers are one frame. A message that does not follow at once is not waited for.
        """
        self._held_back.append(message)
        self._finished = message.get("more_body") is False

    def flush(self) -> None:
        """Send the messages that were held back."""
        messages = self.take_held_back()
        if messages:
            self._send(Kind.ITEM, messages)

    def _flush_if_open(self) -> None:
        if not self._closed:  # otherwise the messages go out with the END
            self.flush()

    def take_held_back(self) -> list[Message]:
        """Return the messages that were held back, for a frame of another kind, and forget them."""
        messages, self._held_back = self._held_back, []
        return messages

    def _check_kernel(self) -> None:
        """Raise `OSError`, as ASGI wants it, if the kernel has exited and the client left with it.

        No interrupt ends the application then: it may live on for another kernel.
        """
        if self._note_kernel_gone():
            raise OSError("the client has disconnected")

    async def _send_any(self, message: Message) -> None:
        self._check_kernel()
        self.flush()
        await self._wait_writable()
        data, buffers = dumps([message])
        if len(data) > PIECE_BYTES or buffers:
            # A large WebSocket message: the socket takes it only as fast as the client reads.
            await asyncio.get_running_loop().run_in_executor(
                None, self._lane.send, Kind.ITEM, data, buffers
            )
        else:
            self._lane.send(Kind.ITEM, data)

    async def _wait_writable(self) -> None:
        """Wait until the socket takes a piece without blocking."""
        fd = self._lane.channel.fileno()
        while not _is_ready(fd, select.POLLOUT):
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
        """End the request, so that the lane has its socket again. Call this on the loop's
        thread.
        """
        self._closed = True
        self._unwatch()


def _plain_start(message: Message) -> Message:
    """Return the message with plain lists, whatever sequences the application used."""
    headers = [[bytes(name), bytes(value)] for name, value in message.get("headers", ())]
    start = {"type": message["type"], "status": int(message["status"]), "headers": headers}
    if message.get("trailers"):
        start["trailers"] = True
    return start


def _pieces(message: Message) -> list[Message]:
    body = message.get("body", b"")
    more = bool(message.get("more_body", False))
    kind = message["type"]
    if len(body) <= PIECE_BYTES:
        return [{"type": kind, "body": bytes(body), "more_body": more}]
    view = memoryview(body)
    starts = range(0, len(body), PIECE_BYTES)
    return [
        {
            "type": kind,
            "body": bytes(view[start : start + PIECE_BYTES]),
            "more_body": more or start != starts[-1],
        }
        for start in starts
    ]


def _is_ready(fd: int, event: int) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def resolve(future: asyncio.Future[None]) -> None:
    """Resolve a future, unless it was cancelled."""
    if not future.done():
        future.set_result(None)
