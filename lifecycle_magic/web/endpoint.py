"""One endpoint: what uvicorn asks for every request, and what happens around an exchange.

From the outside in: the ``Host`` that the client believes to talk to, origins that may read answers
(CORS), the bearer token, and then the container. What goes wrong there becomes a status:

    401  no or a wrong token                      503  nothing comes up, or nothing is allowed to
    408  timeout=, while the request's body came  504  timeout=
    421  a Host that is none of ours              500  the application raised
    502  the container died while it answered
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import hmac
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.aside import aside
from lifecycle_magic.exception import (
    ContainerDied,
    Error,
    InputCancelled,
    MethodTimeout,
)
from lifecycle_magic.failure import strip
from lifecycle_magic.web import address
from lifecycle_magic.web.exchange import ClientLeft, Exchange, Message, Receive, Send
from lifecycle_magic.web.server import Cut

if TYPE_CHECKING:
    from lifecycle_magic.web.target import Target

RETRY_AFTER = 5
"""Seconds for which a request does not try again what has just failed to start."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of one connection, which no proxy passes on: RFC 9110, section 7.6.1."""

Headers = list[tuple[bytes, bytes]]


class Endpoint:
    """The ASGI application of one address. ``target`` may be replaced while it serves."""

    def __init__(self, target: Target, token: str) -> None:
        self.token = token
        self._hosts = address.allowed_hosts()
        self._down: float | None = None  # until when nothing is tried again
        self.retarget(target)

    def retarget(self, target: Target) -> None:
        """Requests that come from now on go to ``target``."""
        self.target = target
        self._down = None
        self._app: Any = self._authorized
        if target.marks.cors:
            from starlette.middleware.cors import CORSMiddleware

            self._app = CORSMiddleware(
                self._authorized,
                allow_origins=target.marks.cors,
                allow_methods=["*"],
                allow_headers=["*"],
            )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._is_misdirected(scope):
            text = (
                "This server does not go by the name in the Host header. If that is right, name it "
                "in LIFECYCLE_MAGIC_WEB_HOSTS where the kernel runs."
            )
            await refuse(scope, send, 421, text)
            return
        await self._app(scope, receive, send)

    async def _authorized(self, scope: Message, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        if self.target.marks.requires_proxy_auth:
            if not self._has_token(headers):
                await refuse(
                    scope,
                    send,
                    401,
                    "This address asks for a bearer token.",
                    [(b"www-authenticate", b"Bearer")],
                )
                return
            headers = [one for one in headers if one[0] != b"authorization"]  # it was ours
        await self._answer({**scope, **_forwarded(scope, headers)}, receive, send)

    def _is_misdirected(self, scope: Message) -> bool:
        if self._hosts is None:
            return False
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) != 1 or address.host_of(hosts[0].decode("latin-1")) not in self._hosts

    def _has_token(self, headers: Headers) -> bool:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            token.strip(), self.token.encode()
        )

    # --- the container ---------------------------------------------------------------------

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        target = self.target
        if self._down is not None and time.monotonic() < self._down:
            await self._unavailable(scope, send)
            return
        first = await receive()
        if first["type"].endswith(".disconnect"):
            return
        pool = target.ready()
        try:
            if pool is None:
                pool = await aside(target.find)
        except Exception as error:
            self._came_not_up(target, error)
            await self._unavailable(scope, send)
            return
        if target.marks.kind == "web_server":
            from lifecycle_magic.web.upstream import Upstream

            carry: Any = Upstream(pool, target, scope, first, receive, _outgoing(send))
        else:
            carry = Exchange(
                pool, target.method, scope, first, receive, _outgoing(send), target.show
            )
        try:
            await carry.run()
            if not carry.complete and not carry.started:
                raise RuntimeError("the application did not answer")
        except ClientLeft:
            return
        except asyncio.CancelledError:
            if carry.started and not carry.complete:
                raise Cut from None  # its container is to go
            raise
        except Exception as error:
            if not carry.began and not isinstance(error, InputCancelled):
                self._came_not_up(target, error)
            else:
                pool.stats.failures += 1
            await self._failed(scope, send, carry, error)
        else:
            if not carry.complete and scope["type"] == "http":
                raise Cut
            if not carry.complete:
                await send({"type": "websocket.close", "code": 1000})

    async def _failed(self, scope: Message, send: Send, carry: Any, error: Exception) -> None:
        if carry.began and not isinstance(error, InputCancelled):
            self.target.show("stderr", f"{self.target.where}: {_told(error)}\n")
        if carry.complete:
            return
        if isinstance(error, MethodTimeout):
            status, text = (504, "It took too long.") if carry.received else (408, "Too slow.")
        elif not carry.began or isinstance(error, InputCancelled):
            status, text = 503, "Nothing can answer at the moment."
        elif isinstance(error, ContainerDied):
            status, text = 502, "What answered has gone."
        else:
            status, text = 500, "Internal Server Error"
        if carry.started:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1012 if status == 503 else 1011})
                return
            raise Cut from error
        more = [(b"retry-after", str(RETRY_AFTER).encode())] if status == 503 else []
        await refuse(scope, send, status, text, more)

    def _came_not_up(self, target: Target, error: Exception) -> None:
        self._down = time.monotonic() + RETRY_AFTER
        target.show("stderr", f"{target.where} can't answer: {_told(error)}\n")

    async def _unavailable(self, scope: Message, send: Send) -> None:
        await refuse(
            scope,
            send,
            503,
            "Nothing can answer at the moment.",
            [(b"retry-after", str(RETRY_AFTER).encode())],
        )


def _told(error: Exception) -> str:
    """For the cell: our own errors say it all, others with the lines that raised them."""
    if isinstance(error, Error):
        return str(error)
    return "".join(traceback.format_exception(strip(error))).rstrip()


async def refuse(
    scope: Message, send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with a status and a line of text, an HTTP request or a WebSocket's handshake."""
    body = f"{text}\n".encode()
    told = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"date", _date(int(time.time()))),
        *headers,
    ]
    prefix = ""
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1013 if status == 503 else 1008})
            return
        prefix = "websocket."
    await send({"type": f"{prefix}http.response.start", "status": status, "headers": told})
    await send({"type": f"{prefix}http.response.body", "body": body})


# --- headers -------------------------------------------------------------------------------------


def _forwarded(scope: Message, headers: Headers) -> dict[str, Any]:
    """The scope for the application: without what belongs to this connection, and with the path
    below which a proxy serves us.
    """
    kept = _end_to_end(headers)
    prefix = next((value for name, value in kept if name == b"x-forwarded-prefix"), b"")
    root = prefix.decode("latin-1").rstrip("/")
    if not root:
        return {"headers": kept}
    path = root + scope["path"]
    return {
        "headers": kept,
        "root_path": root,
        "path": path,
        "raw_path": prefix.rstrip(b"/") + (scope.get("raw_path") or scope["path"].encode()),
    }


def _end_to_end(headers: Iterable[Any]) -> Headers:
    named = set(HOP_BY_HOP)
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(one.strip().lower() for one in value.split(b","))
    return [(name, value) for name, value in headers if name.lower() not in named]


def _outgoing(send: Send) -> Send:
    """``send`` that gives a response's headers what a server gives them."""

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = _end_to_end(message.get("headers", ()))
            if not any(name.lower() == b"date" for name, _ in headers):
                headers.append((b"date", _date(int(time.time()))))
            message = {**message, "headers": headers}
        await send(message)

    return sending


@functools.lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return email.utils.formatdate(second, usegmt=True).encode()
