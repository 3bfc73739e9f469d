"""HTTP and WebSockets for a server inside a container, through a tunnel to its port.

The container's end of the tunnel only moves bytes. This end speaks HTTP with h11 and websockets;
each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import h11
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from lifecycle_magic.web.exchange import (
    PIECE_BYTES,
    BadRequest,
    ClientDisconnected,
    Exchange,
    Message,
    Receive,
    Send,
)

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.web.target import Target

TUNNEL_BYTES = "tunnel.bytes"

MAX_MESSAGE_BYTES = 16 << 20
"""The most bytes of a WebSocket's message, the same as uvicorn accepts from a client."""

HANDSHAKE_HEADERS = frozenset(
    {b"host", b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version",
     b"sec-websocket-extensions", b"sec-websocket-protocol"}
)  # fmt: skip
"""Headers that the handshake of a WebSocket sets by itself."""


class Upstream:
    """A request and its response, with the attributes of an `Exchange`."""

    def __init__(
        self,
        pool: Pool,
        target: Target,
        scope: Message,
        first: Message,
        receive: Receive,
        send: Send,
    ) -> None:
        self.response_started = False
        self.response_complete = False
        self.request_complete = not first.get("more_body", False)
        self._scope = scope
        self._first: Message | None = first
        self._receive = receive
        self._send = send
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue(1)
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue(2)
        opening = {"type": TUNNEL_BYTES, "bytes": b""}
        self._tunnel = Exchange(
            pool, target.method, {"type": "tunnel"}, opening, self._outgoing.get, self._on_bytes,
            target.show,
        )  # fmt: skip

    @property
    def input_started(self) -> bool:
        """Return whether a container has got the request."""
        return self._tunnel.input_started

    async def run(self) -> None:
        """Carry the request to the last message of the response; raises as `Exchange.run` does."""
        tunnel = asyncio.ensure_future(self._run_tunnel())
        work = [tunnel, asyncio.ensure_future(self._forward())]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
        except h11.RemoteProtocolError as error:
            raise RuntimeError(
                f"the server inside the container sent no complete HTTP response: {error}"
            ) from error
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _run_tunnel(self) -> None:
        try:
            await self._tunnel.run()
        finally:
            await self._incoming.put(b"")

    async def _on_bytes(self, message: Message) -> None:
        await self._incoming.put(message["bytes"])

    async def _forward(self) -> None:
        try:
            if self._scope["type"] == "http":
                await self._http()
            else:
                await self._websocket()
        finally:
            await self._write_message({"type": "tunnel.disconnect"})

    async def _write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            await self._write_message(
                {"type": TUNNEL_BYTES, "bytes": data[start : start + PIECE_BYTES]}
            )

    async def _write_message(self, message: Message) -> None:
        await self._outgoing.put(message)

    async def _next(self) -> Message:
        if self._first is not None:
            message, self._first = self._first, None
            return message
        message = await self._receive()
        if message["type"].endswith(".disconnect"):
            raise ClientDisconnected(message.get("code"))
        self.request_complete = self.request_complete or not message.get("more_body", False)
        return message

    async def _answer(self, message: Message) -> None:
        self.response_started = True
        try:
            await self._send(message)
        except OSError:  # a WebSocket's client has disconnected
            raise ClientDisconnected(None) from None

    # --- HTTP ------------------------------------------------------------------------------

    async def _http(self) -> None:
        scope = self._scope
        server = h11.Connection(h11.CLIENT)
        names = {name for name, _ in scope["headers"]}
        headers = [*scope["headers"], (b"connection", b"close")]
        has_body = self._first is not None and (
            bool(self._first.get("body")) or self._first.get("more_body", False)
        )
        if has_body and b"content-length" not in names:
            headers.append((b"transfer-encoding", b"chunked"))
        try:
            request = h11.Request(method=scope["method"], target=_target(scope), headers=headers)
            head = server.send(request) or b""
        except h11.LocalProtocolError as error:
            raise BadRequest(f"The request can't be forwarded: {str(error).rstrip('.')}.") from None
        await self._write(head)
        sending = asyncio.ensure_future(self._send_body(server))
        reading = asyncio.ensure_future(self._read_response(server))
        try:
            await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and not self.response_complete:
                sending.result()  # raises: the client disconnected or stalled
            await reading
        finally:
            sending.cancel()
            reading.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def _send_body(self, server: h11.Connection) -> None:
        more = True
        while more:
            message = await self._next()
            more = bool(message.get("more_body", False))
            if message.get("body"):
                await self._write(server.send(h11.Data(data=message["body"])) or b"")
        await self._write(server.send(h11.EndOfMessage()) or b"")
        await self._next()  # raises when the client disconnects

    async def _read_response(self, server: h11.Connection) -> None:
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                server.receive_data(await self._incoming.get())
            elif isinstance(event, h11.Response):
                await self._answer(
                    {
                        "type": "http.response.start",
                        "status": event.status_code,
                        "headers": [(bytes(name), bytes(value)) for name, value in event.headers],
                    }
                )
            elif isinstance(event, h11.Data):
                body = bytes(event.data)
                await self._answer({"type": "http.response.body", "body": body, "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                self.response_complete = True
                await self._answer({"type": "http.response.body", "body": b""})
                return
            elif isinstance(event, h11.ConnectionClosed):
                return

    # --- WebSockets ------------------------------------------------------------------------

    async def _websocket(self) -> None:
        scope = self._scope
        await self._next()  # websocket.connect
        host = _header(scope, b"host") or "localhost"
        path, _, query = _target(scope).decode("latin-1").partition("?")
        protocol = ClientProtocol(
            WebSocketURI(False, host, 80, path, query, None, None),
            subprotocols=[Subprotocol(one) for one in scope.get("subprotocols", ())] or None,
            max_size=MAX_MESSAGE_BYTES,
        )
        request = protocol.connect()
        request.headers["Host"] = host
        _copy_headers(request.headers, scope["headers"])
        protocol.send_request(request)
        await self._flush(protocol)
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            data = await self._incoming.get()
            if data:
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
        if protocol.handshake_exc is not None:
            self.response_complete = self.response_started = True
            await self._forward_rejection(protocol.handshake_exc)
            return
        await self._answer({"type": "websocket.accept", "subprotocol": protocol.subprotocol})
        sending = asyncio.ensure_future(self._send_frames(protocol))
        try:
            await self._read_frames(protocol)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _forward_rejection(self, error: Exception) -> None:
        """Send the client the response with which the server rejected the WebSocket."""
        known = "websocket.http.response" in (self._scope.get("extensions") or {})
        if not known or not isinstance(error, InvalidStatus) or not _is_final(error):
            await self._send({"type": "websocket.close", "code": 1011})
            return
        response = error.response
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers.raw_items()
        ]
        prefix = "websocket.http.response"
        start = {"type": f"{prefix}.start", "status": response.status_code, "headers": headers}
        await self._send(start)
        await self._send({"type": f"{prefix}.body", "body": bytes(response.body or b"")})

    async def _send_frames(self, protocol: ClientProtocol) -> None:
        try:
            while True:
                message = await self._next()
                if message.get("text") is not None:
                    protocol.send_text(message["text"].encode())
                else:
                    protocol.send_binary(message["bytes"])
                await self._flush(protocol)
        except ClientDisconnected as left:
            if protocol.state is State.OPEN:
                protocol.send_close(_sendable(left.args[0]))
                await self._flush(protocol)

    async def _read_frames(self, protocol: ClientProtocol) -> None:
        parts: list[Frame] = []
        while True:
            for event in protocol.events_received():
                if not isinstance(event, Frame):
                    continue
                if event.opcode is Opcode.CLOSE:
                    self.response_complete = True
                    received = protocol.close_rcvd
                    code = received.code if received is not None else 1000
                    reason = received.reason if received is not None else ""
                    code = 1000 if code == 1005 else code  # the server gave no code
                    await self._flush(protocol)
                    await self._answer({"type": "websocket.close", "code": code, "reason": reason})
                    return
                if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    parts.append(event)
                    if event.fin:
                        await self._answer(_whole(parts))
                        parts = []
            await self._flush(protocol)  # pongs
            data = await self._incoming.get()
            if not data:
                return
            protocol.receive_data(data)

    async def _flush(self, protocol: ClientProtocol) -> None:
        for data in protocol.data_to_send():
            await self._write(data)


def _is_final(error: InvalidStatus) -> bool:
    """Return whether a response is final: after status ``100`` another one would follow."""
    return 200 <= error.response.status_code < 600


def _whole(parts: list[Frame]) -> Message:
    data = b"".join(bytes(part.data) for part in parts)
    if parts[0].opcode is Opcode.TEXT:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


def _sendable(code: int | None) -> int | None:
    """Return the close code for the server when its client has disconnected.

    Some codes must not be sent: RFC 6455, section 7.4.1.
    """
    return None if code == 1005 else 1001 if code in (None, 1006, 1015) else code


def _target(scope: Message) -> bytes:
    """Return the request target for the server, which serves from the root of its port."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root = scope.get("root_path", "").encode("latin-1")
    if root:
        path = path.removeprefix(root) or b"/"
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def _header(scope: Message, wanted: bytes) -> str | None:
    return next((v.decode("latin-1") for name, v in scope["headers"] if name == wanted), None)


def _copy_headers(headers: Headers, more: Iterable[Any]) -> None:
    for name, value in more:
        if name not in HANDSHAKE_HEADERS:
            headers[name.decode("latin-1")] = value.decode("latin-1")


__all__ = ["Upstream"]
