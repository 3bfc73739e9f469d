"""The ASGI application of one endpoint, called by uvicorn for every request.

It checks, in this order, the ``Host`` header, the page that sends the request (``Origin``, CORS)
and the bearer token, and then forwards the request to a container. A failure becomes a status:

    400  the request can't be forwarded           421  the Host header names another server
    401  the token is missing or wrong            500  the application raised
    403  a page of another site sent it           502  the container exited while it answered
    408  the body did not arrive in time          503  no container can start or is allowed to
                                                  504  the method ran into its timeout=
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import hmac
import re
import time
import traceback
from collections.abc import Iterable
from typing import Any

from lifecycle_magic.callers.internal_frames import strip
from lifecycle_magic.exception import (
    ContainerDied,
    Error,
    InputCancelled,
    InvalidError,
    MethodTimeout,
)
from lifecycle_magic.threads.blocking import run_in_thread
from lifecycle_magic.web import address, origins
from lifecycle_magic.web.body import Body, BodyStalled
from lifecycle_magic.web.exchange import (
    BadRequest,
    ClientDisconnected,
    Exchange,
    Message,
    Receive,
    Send,
)
from lifecycle_magic.web.server import ResponseAborted
from lifecycle_magic.web.target import Target, TooManyInstances

RETRY_AFTER_SECONDS = 5
"""Seconds after a failed start in which requests get a 503 and start nothing."""

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
"""Headers of one connection, which a proxy does not forward: RFC 9110, section 7.6.1."""

STALLED = "The request's body did not arrive in time."
UNAVAILABLE = "No container can answer at the moment. Fix: try again later."

_PREFIX = re.compile(rb"(?:/[A-Za-z0-9._~%@:+=,-]+)+")

Headers = list[tuple[bytes, bytes]]


class Endpoint:
    """The ASGI application of one address; `retarget` may replace its target while it serves."""

    def __init__(self, target: Target, token: str) -> None:
        self.token = token
        self._hosts = address.allowed_hosts()
        self.retarget(target)

    def retarget(self, target: Target) -> None:
        """Send all following requests to ``target``."""
        self.target = target
        # Until when an instance starts nothing, as times of the monotonic clock. By its key: while
        # a request waits for the first start, the address may get another target.
        self._unavailable_until: dict[str, float] = {}
        self._app: Any = self._check_token
        if target.marks.cors:
            from starlette.middleware.cors import CORSMiddleware

            self._app = CORSMiddleware(
                self._check_token,
                allow_origins=target.marks.cors,
                allow_methods=["*"],
                allow_headers=["*"],
            )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._is_misdirected(scope):
            text = (
                "This server does not accept the name in the Host header. Fix: if the name is "
                "right, add it to LIFECYCLE_MAGIC_WEB_HOSTS where the kernel runs."
            )
            await refuse(scope, send, 421, text)
            return
        if self._is_foreign(scope):
            text = "A page of another site can't use this address. Fix: name its origin in cors=."
            await refuse(scope, send, 403, text)
            return
        if b"host" in _hop_by_hop(scope["headers"]):
            await refuse(scope, send, 400, "The header Connection must not name Host.")
            return
        await self._app(scope, receive, send)

    async def _check_token(self, scope: Message, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        if self.target.marks.requires_proxy_auth:
            if not self._has_token(headers):
                await refuse(
                    scope,
                    send,
                    401,
                    "This address requires a bearer token.",
                    [(b"www-authenticate", b"Bearer")],
                )
                return
            headers = [one for one in headers if one[0] != b"authorization"]  # it was for us
        await self._answer({**scope, **_forwarded(scope, headers)}, receive, send)

    def _is_misdirected(self, scope: Message) -> bool:
        if self._hosts is None:
            return False
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) != 1 or address.host_of(hosts[0].decode("latin-1")) not in self._hosts

    def _is_foreign(self, scope: Message) -> bool:
        method = scope.get("method", "GET")
        return origins.is_foreign(method, scope["headers"], self._hosts, self.target.marks.cors)

    def _has_token(self, headers: Headers) -> bool:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            token.strip(), self.token.encode()
        )

    # --- the container ---------------------------------------------------------------------

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        target = self.target
        if target.choose is not None:
            try:
                target = target.choose(scope.get("query_string", b"").decode("latin-1"))
            except InvalidError as error:
                await refuse(scope, send, 400, str(error))
                return
            except TooManyInstances:
                await self._refuse_unavailable(scope, send)
                return
        if time.monotonic() < self._unavailable_until.get(target.instance, 0.0):
            await self._refuse_unavailable(scope, send)
            return
        if scope["type"] == "http":
            body = Body(receive)
            receive = body.receive
            try:
                first = await body.first(_reads_ahead(target, scope))
            except BodyStalled:
                await refuse(scope, send, 408, STALLED)
                return
        else:
            first = await receive()
        if first["type"].endswith(".disconnect"):
            return
        pool = target.ready()
        try:
            if pool is None:
                pool = await run_in_thread(target.find)
        except Exception as error:
            self._report_start_failure(target, error)
            await self._refuse_unavailable(scope, send)
            return
        if target.marks.kind == "web_server":
            from lifecycle_magic.web.upstream import Upstream

            exchange: Any = Upstream(pool, target, scope, first, receive, _outgoing(send))
        else:
            exchange = Exchange(
                pool, target.method, scope, first, receive, _outgoing(send), target.show
            )
        try:
            await exchange.run()
            if not exchange.response_complete and not exchange.response_started:
                raise RuntimeError("the application did not answer")
        except ClientDisconnected:
            return
        except (BadRequest, BodyStalled) as error:
            if exchange.response_started:
                raise ResponseAborted from error
            status, text = (400, str(error)) if isinstance(error, BadRequest) else (408, STALLED)
            await refuse(scope, send, status, text)
        except asyncio.CancelledError:
            if exchange.response_started and not exchange.response_complete:
                raise ResponseAborted from None  # its container is draining
            raise
        except Exception as error:
            if not exchange.input_started and not isinstance(error, InputCancelled):
                self._report_start_failure(target, error)
            else:
                pool.stats.failures += 1
            await self._answer_failure(scope, send, target, exchange, error)
        else:
            if not exchange.response_complete and scope["type"] == "http":
                raise ResponseAborted
            if not exchange.response_complete:
                await send({"type": "websocket.close", "code": 1000})

    async def _answer_failure(
        self, scope: Message, send: Send, target: Target, exchange: Any, error: Exception
    ) -> None:
        if exchange.input_started and not isinstance(error, InputCancelled):
            target.show("stderr", f"{target.where}: {_error_text(error)}\n")
        if exchange.response_complete:
            return
        if isinstance(error, MethodTimeout):
            status, text = (
                (504, "The method exceeded its timeout.")
                if exchange.request_complete
                else (408, STALLED)
            )
        elif not exchange.input_started or isinstance(error, InputCancelled):
            status, text = 503, UNAVAILABLE
        elif isinstance(error, ContainerDied):
            status, text = 502, "The container exited while it answered."
        else:
            status, text = 500, "Internal Server Error"
        if exchange.response_started:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1012 if status == 503 else 1011})
                return
            raise ResponseAborted from error
        more = [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())] if status == 503 else []
        await refuse(scope, send, status, text, more)

    def _report_start_failure(self, target: Target, error: Exception) -> None:
        self._unavailable_until[target.instance] = time.monotonic() + RETRY_AFTER_SECONDS
        target.show("stderr", f"{target.where} can't answer: {_error_text(error)}\n")

    async def _refuse_unavailable(self, scope: Message, send: Send) -> None:
        await refuse(
            scope,
            send,
            503,
            UNAVAILABLE,
            [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())],
        )


def _reads_ahead(target: Target, scope: Message) -> bool:
    """Return whether to read the start of the body before a container gets the request.

    An application may start to answer a body of unknown length while the body still arrives.
    """
    if target.marks.kind in ("fastapi_endpoint", "wsgi_app"):
        return True
    return any(name == b"content-length" for name, _ in scope["headers"])


def _error_text(error: Exception) -> str:
    """Return an error's text for the cell: our own errors without a traceback, others with it."""
    if isinstance(error, Error):
        return str(error)
    return "".join(traceback.format_exception(strip(error))).rstrip()


async def refuse(
    scope: Message, send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer an HTTP request or a WebSocket's handshake with a status and a line of text."""
    body = f"{text}\n".encode()
    head = [
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
    await send({"type": f"{prefix}http.response.start", "status": status, "headers": head})
    await send({"type": f"{prefix}http.response.body", "body": body})


# --- headers -------------------------------------------------------------------------------------


def _forwarded(scope: Message, headers: Headers) -> dict[str, Any]:
    """Return the scope for the application.

    It is without the headers of this connection, and with the path prefix of a proxy. Slashes at
    the start of the path become one: links end with a slash, and code adds ``"/path"``.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or path.encode()
    if path.startswith("//"):
        path, raw = f"/{path.lstrip('/')}", b"/" + raw.lstrip(b"/")
    kept = _end_to_end(headers)
    prefix = next((value for name, value in kept if name == b"x-forwarded-prefix"), b"")
    prefix = prefix.rstrip(b"/")
    if not _PREFIX.fullmatch(prefix):
        # Applications write the prefix into their pages, so it must be nothing but a path.
        plain = [one for one in kept if one[0] != b"x-forwarded-prefix"]
        return {"headers": plain, "path": path, "raw_path": raw}
    root = prefix.decode("latin-1")
    return {
        "headers": kept,
        "root_path": root,
        "path": root + path,
        "raw_path": prefix + raw,
    }


def _hop_by_hop(headers: Iterable[Any]) -> frozenset[bytes]:
    """Return the names of the headers that belong to this connection only."""
    named = HOP_BY_HOP
    for name, value in headers:
        if name.lower() == b"connection":
            named = named.union(one.strip().lower() for one in value.split(b","))
    return named


def _end_to_end(headers: Iterable[Any]) -> Headers:
    named = _hop_by_hop(headers)
    return [(name, value) for name, value in headers if name.lower() not in named]


def _outgoing(send: Send) -> Send:
    """Return a ``send`` that adds the headers that a server sets to a response."""

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
