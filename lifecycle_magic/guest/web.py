"""What answers HTTP in a container: an application for each web method, and how it gets requests.

An application of ASGI runs as a coroutine on the worker's event loop, one of WSGI on the lane's
thread. A ``fastapi_endpoint`` is a FastAPI application with one route; its method runs where every
other method does, and not in FastAPI's own threads. A ``web_server`` is reached by a *tunnel*: the
kernel speaks HTTP through it, so nothing here has to know HTTP.
"""

from __future__ import annotations

import functools
import inspect
import socket
import time
import types
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest.exchange import PIECE, Exchange, Message
from lifecycle_magic.guest.handover import run_sync

if TYPE_CHECKING:
    from lifecycle_magic.guest.interrupts import Target
    from lifecycle_magic.guest.worker import Worker
    from lifecycle_magic.marks import WebMarks

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]  # scope, receive, send

KNOCK = 0.02
"""Seconds between two looks whether a `web_server` listens."""


class Applications:
    """The applications of one instance, made after ``enter``.

    `start` raises what a factory or an application's startup raises; `find` returns one;
    `shut_down` returns a name and a callable for each lifespan that is to end.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._asgi: dict[str, Asgi] = {}
        self._wsgi: dict[str, Any] = {}
        self._lifespans: dict[str, Lifespan] = {}

    @property
    def waiting_tasks(self) -> set[Any]:
        """Tasks that have nothing to do before the container goes."""
        return {lifespan.task for lifespan in self._lifespans.values()}

    def start(self, web: Iterable[tuple[str, WebMarks]], target: Target) -> None:
        for name, marks in web:
            if marks.kind == "fastapi_endpoint":
                self._asgi[name] = self._route(name, marks)
                continue
            if marks.kind == "web_server":
                _check_free(self._where(name), marks.port)
            made = getattr(self._worker.instance, name)()
            if isinstance(made, types.CoroutineType):
                made = self._worker.wait(made, target)
            if marks.kind == "web_server":
                self._worker.wait(_listens(self._where(name), marks), target)
                self._asgi[name] = functools.partial(_tunnel, marks.port)
                continue
            if not callable(made):
                raise InvalidError(
                    f"{self._where(name)}: a @{marks.kind} returns the application, but this one "
                    f"returned {type(made).__name__}: end it with return app"
                )
            if marks.kind == "wsgi_app":
                self._wsgi[name] = made
                continue
            lifespan = Lifespan(made, self._where(name))
            self._worker.wait(lifespan.start(), target)
            if lifespan.is_supported:
                self._lifespans[name] = lifespan
            self._asgi[name] = made

    def swap(self, web: Iterable[tuple[str, WebMarks]]) -> None:
        """The class has new code: routes call its methods. What factories made stays."""
        routes = {
            name: self._route(name, marks)
            for name, marks in web
            if marks.kind == "fastapi_endpoint"
        }
        kept = {name for name, marks in web if marks.is_factory}
        self._asgi = {name: app for name, app in self._asgi.items() if name in kept} | routes

    def find(self, name: str, exchange: Exchange) -> tuple[Callable[..., Any], bool]:
        """What answers a request of this web method, and whether it is ASGI: a coroutine function
        of scope, receive and send. Else it is called with the exchange.
        """
        wsgi = self._wsgi.get(name)
        if wsgi is not None:
            from lifecycle_magic.guest.wsgi import answer

            many = self._worker.loop_runs_by_itself
            return functools.partial(answer, wsgi, many), False
        lifespan = self._lifespans.get(name)
        if lifespan is not None:
            exchange.scope["state"] = lifespan.state.copy()
        return self._asgi.get(name) or _gone(self._where(name)), True

    def shut_down(self) -> list[tuple[str, Callable[[], Any]]]:
        return [(f"{name}'s lifespan", one.stop) for name, one in self._lifespans.items()]

    def _where(self, name: str) -> str:
        return f"{type(self._worker.instance).__name__}.{name}"

    def _route(self, name: str, marks: WebMarks) -> Asgi:
        try:
            from fastapi import FastAPI
        except ModuleNotFoundError as error:
            if error.name != "fastapi":
                raise
            raise InvalidError(
                f"{self._where(name)}: @{marks.kind} needs fastapi, which the image does not have: "
                'add .pip_install("fastapi") to the image, or --pip fastapi to the cell'
            ) from None
        app = FastAPI(
            title=self._where(name),
            openapi_url="/openapi.json" if marks.docs else None,
            docs_url="/docs",
            redoc_url=None,
        )
        endpoint = self._endpoint(getattr(self._worker.instance, name))
        app.add_api_route("/", endpoint, methods=[marks.method])
        if marks.method == "GET":
            app.add_api_route("/", endpoint, methods=["HEAD"], include_in_schema=False)
        return app

    def _endpoint(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """``method`` for FastAPI, which would run a sync one in a thread of its own choice."""
        if inspect.iscoroutinefunction(method):
            return method

        @functools.wraps(method)
        async def endpoint(*args: Any, **kwargs: Any) -> Any:
            return await run_sync(functools.partial(method, *args, **kwargs))

        del endpoint.__wrapped__  # FastAPI would look at it, and not at this
        endpoint.__signature__ = _signature(method)  # type: ignore[attr-defined]
        return endpoint


def _gone(where: str) -> Asgi:
    """For a request that was on its way while new code came that has no such method."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise InvalidError(f"{where} does not answer HTTP any more")

    return app


def _signature(method: Callable[..., Any]) -> inspect.Signature:
    """With annotations that were written as texts evaluated, where they can be."""
    try:
        return inspect.signature(method, eval_str=True)
    except Exception:
        return inspect.signature(method)


# --- lifespan ------------------------------------------------------------------------------------


class Lifespan:
    """An ASGI application's startup and shutdown, in one task that waits in between.

    Source: https://asgi.readthedocs.io/en/latest/specs/lifespan.html. An application that raises
    before it has answered does not have one.
    """

    def __init__(self, app: Asgi, where: str) -> None:
        self.state: dict[str, Any] = {}
        self.is_supported = True
        self.task: Any = None
        self._app = app
        self._where = where
        self._failed = ""
        self._stopping = False

    async def start(self) -> None:
        """Run startup; raises RuntimeError if it fails."""
        import asyncio

        self._go = asyncio.Event()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())
        await self._started.wait()
        if self._failed:
            raise RuntimeError(f"{self._where}: the application's startup failed: {self._failed}")

    async def stop(self) -> None:
        """Run shutdown; raises RuntimeError if it fails."""
        self._stopping = True
        self._go.set()
        await self._stopped.wait()
        if self._failed:
            raise RuntimeError(f"{self._where}: the application's shutdown failed: {self._failed}")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            if self._started.is_set():
                self._failed = self._failed or repr(error)
            elif not isinstance(error, Exception):
                self._failed = repr(error)
            else:
                self.is_supported = bool(self._failed)
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> Message:
        if not self._started.is_set():
            return {"type": "lifespan.startup"}
        await self._go.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            self._failed = message.get("message") or "it does not say why"
        if kind.startswith("lifespan.startup"):
            self._started.set()
        else:
            self._stopped.set()


# --- a server inside of the container ------------------------------------------------------------


def _check_free(where: str, port: int) -> None:
    if _answers(port):
        raise InvalidError(
            f"{where}: something listens on port {port} already, so requests would go there. "
            "Containers of the process engine share this machine's ports: choose another one, or "
            "block_network=True where there is bubblewrap"
        )


async def _listens(where: str, marks: WebMarks) -> None:
    import asyncio

    deadline = time.monotonic() + marks.startup_timeout
    while not _answers(marks.port):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{where}: nothing listened on port {marks.port} within "
                f"{marks.startup_timeout:g} s: have it listen on 127.0.0.1 or 0.0.0.0 and that "
                f"port, or give it longer with @web_server({marks.port}, startup_timeout=60)"
            )
        await asyncio.sleep(KNOCK)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


async def _tunnel(port: int, scope: Message, receive: Receive, send: Send) -> None:
    """Bytes to the port and back; the kernel's side makes requests of them."""
    import asyncio

    # No stream of asyncio's: its reader loses what has come when a write fails, and a server may
    # well answer and close before it has read all of a request.
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))

        async def inwards() -> None:
            while (message := await receive())["type"] == "tunnel.bytes":
                try:
                    await loop.sock_sendall(sock, message["bytes"])
                except ConnectionError:
                    return  # it reads no more; what it answered is still to be had

        pushing = asyncio.ensure_future(inwards())
        try:
            while data := await _received(loop, sock):
                await send({"type": "tunnel.bytes", "bytes": data})
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)


async def _received(loop: Any, sock: socket.socket) -> bytes:
    try:
        data: bytes = await loop.sock_recv(sock, PIECE)
    except ConnectionError:
        return b""
    return data
