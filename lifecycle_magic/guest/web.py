"""The applications that answer HTTP in a container, one for each web method.

An ASGI application runs as a coroutine on the worker's event loop, a WSGI application on the lane's
thread. A ``fastapi_endpoint`` is a FastAPI application with one route. Its method runs where every
other method runs, not in FastAPI's own threads. A ``web_server`` is reached through a *tunnel*: the
kernel speaks HTTP through it, so this module handles no HTTP.
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
from lifecycle_magic.guest.asgi_connection import PIECE_BYTES, AsgiConnection, Message
from lifecycle_magic.guest.listeners import is_own_listener
from lifecycle_magic.guest.main_thread import run_sync

if TYPE_CHECKING:
    from lifecycle_magic.decorators.marks import WebMarks
    from lifecycle_magic.guest.interrupts import InterruptTarget
    from lifecycle_magic.guest.worker import Worker

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]  # scope, receive, send

POLL_SECONDS = 0.02
"""Seconds between two checks whether a `web_server` listens."""


class WebApplications:
    """The applications of one instance, created after ``enter``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._asgi: dict[str, Asgi] = {}
        self._wsgi: dict[str, Any] = {}
        self._lifespans: dict[str, Lifespan] = {}

    @property
    def waiting_tasks(self) -> set[Any]:
        """Tasks that have nothing to do until the container stops."""
        return {lifespan.task for lifespan in self._lifespans.values()}

    def start(self, web: Iterable[tuple[str, WebMarks]], target: InterruptTarget) -> None:
        """Create the applications. Raises what a factory or an application's startup raises."""
        for name, marks in web:
            if marks.kind == "fastapi_endpoint":
                self._asgi[name] = self._route(name, marks)
                continue
            if marks.kind == "web_server" and not marks.by_enter:
                check_free(self._where(name), marks.port)
            made = getattr(self._worker.instance, name)()
            if isinstance(made, types.CoroutineType):
                made = self._worker.loop.wait(made, target)
            if marks.kind == "web_server":
                self._worker.loop.wait(_listens(self._where(name), marks), target)
                self._asgi[name] = functools.partial(_tunnel, marks.port)
                continue
            if not callable(made):
                raise InvalidError(
                    f"{self._where(name)}: a @{marks.kind} returns the application, but this one "
                    f"returned {type(made).__name__}. Fix: end it with return app"
                )
            if marks.kind == "wsgi_app":
                self._wsgi[name] = made
                continue
            lifespan = Lifespan(made, self._where(name))
            self._worker.loop.wait(lifespan.start(), target)
            if lifespan.is_supported:
                self._lifespans[name] = lifespan
            self._asgi[name] = made

    def swap(self, web: Iterable[tuple[str, WebMarks]]) -> None:
        """Rebuild the routes for the class's new code. Applications that factories returned
        stay.
        """
        routes = {
            name: self._route(name, marks)
            for name, marks in web
            if marks.kind == "fastapi_endpoint"
        }
        kept = {name for name, marks in web if marks.is_factory}
        self._asgi = {name: app for name, app in self._asgi.items() if name in kept} | routes

    def find(self, name: str, exchange: AsgiConnection) -> tuple[Callable[..., Any], bool]:
        """Return what answers a request of this web method, and whether it is an ASGI application.

        An ASGI application is a coroutine function of scope, receive and send. Anything else is
        called with the connection.
        """
        wsgi = self._wsgi.get(name)
        if wsgi is not None:
            from lifecycle_magic.guest.wsgi import answer

            many = self._worker.loop.runs_by_itself
            return functools.partial(answer, wsgi, many), False
        lifespan = self._lifespans.get(name)
        if lifespan is not None:
            exchange.scope["state"] = lifespan.state.copy()
        return self._asgi.get(name) or _removed_method(self._where(name)), True

    def shut_down(self) -> list[tuple[str, Callable[[], Any]]]:
        """Return a name and a callable for each lifespan to end."""
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
                f"{self._where(name)}: @{marks.kind} needs fastapi, which the image does not have. "
                'Fix: add .pip_install("fastapi") to the image, or --pip fastapi to the cell'
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
        """Return ``method`` for FastAPI, which would run a sync method in one of its own
        threads.
        """
        if inspect.iscoroutinefunction(method):
            return method

        @functools.wraps(method)
        async def endpoint(*args: Any, **kwargs: Any) -> Any:
            return await run_sync(functools.partial(method, *args, **kwargs))

        del endpoint.__wrapped__  # FastAPI would use it instead of this function
        endpoint.__signature__ = _signature(method)  # type: ignore[attr-defined]
        return endpoint


def _removed_method(where: str) -> Asgi:
    """Return an application for requests to a web method that new code has removed."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise InvalidError(f"{where} does not answer HTTP any more")

    return app


def _signature(method: Callable[..., Any]) -> inspect.Signature:
    """Return the signature, with annotations that are strings evaluated if possible."""
    try:
        return inspect.signature(method, eval_str=True)
    except Exception:
        return inspect.signature(method)


# --- lifespan ------------------------------------------------------------------------------------


class Lifespan:
    """An ASGI application's startup and shutdown, in one task that waits in between.

    Source: https://asgi.readthedocs.io/en/latest/specs/lifespan.html. An application that raises
    before it has answered has no lifespan.
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
        """Run startup. Raises RuntimeError if it fails."""
        import asyncio

        self._go = asyncio.Event()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())
        await self._started.wait()
        if self._failed:
            raise RuntimeError(f"{self._where}: the application's startup failed: {self._failed}")

    async def stop(self) -> None:
        """Run shutdown. Raises RuntimeError if it fails."""
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


def check_free(where: str, port: int) -> None:
    """Raise `InvalidError` if a process of another container, or of none, listens on ``port``
    already; ``where`` names the method. A server that ``enter`` has started is of this container.
    """
    if _answers(port) and not is_own_listener(port):
        raise InvalidError(
            f"{where}: another process listens on port {port} already, so requests would go there. "
            "Containers of the process engine share this machine's ports. "
            "Fix: choose another port, or set block_network=True if bubblewrap is installed"
        )


async def _listens(where: str, marks: WebMarks) -> None:
    import asyncio

    deadline = time.monotonic() + marks.startup_timeout
    while not _answers(marks.port):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{where}: nothing listened on port {marks.port} within "
                f"{marks.startup_timeout:g} s. "
                f"Fix: make it listen on 127.0.0.1 or 0.0.0.0 and on port {marks.port}, "
                f"or allow more time with @web_server({marks.port}, startup_timeout=60)"
            )
        await asyncio.sleep(POLL_SECONDS)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


async def _tunnel(port: int, scope: Message, receive: Receive, send: Send) -> None:
    """Send bytes to the port and back. The kernel's side turns them into requests."""
    import asyncio

    # Not asyncio's streams: their reader loses data that has arrived when a write fails, and a
    # server may answer and close before it has read all of a request.
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))

        async def inwards() -> None:
            while (message := await receive())["type"] == "tunnel.bytes":
                try:
                    await loop.sock_sendall(sock, message["bytes"])
                except ConnectionError:
                    return  # the server reads no more, but its answer can still be read

        pushing = asyncio.ensure_future(inwards())
        try:
            while data := await _received(loop, sock):
                await send({"type": "tunnel.bytes", "bytes": data})
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)


async def _received(loop: Any, sock: socket.socket) -> bytes:
    try:
        data: bytes = await loop.sock_recv(sock, PIECE_BYTES)
    except ConnectionError:
        return b""
    return data
