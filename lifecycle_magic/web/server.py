"""uvicorn on a thread of its own, so that it answers while a cell runs.

Each endpoint has a server; all servers share one event loop. The thread uses no CPU while there is
no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvicorn

from lifecycle_magic.web.bounds import HEAD_BYTES, BoundedProtocol, ClientConnections

T = TypeVar("T")

CLOSE_GRACE_SECONDS = 5
"""Seconds that running requests have to end after their endpoint is closed."""


class ResponseAborted(Exception):
    """The response can't be completed.

    The server then closes the connection, so that the client notices.
    """


class HttpThread:
    """The thread that runs the servers. `start` and `stop` may be called from any other thread."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self.connections = ClientConnections()
        self._thread = threading.Thread(target=self._run, name="lifecycle-web", daemon=True)
        self._thread.start()
        logging.getLogger("uvicorn.error").addFilter(_is_unexpected)

    def start(self, sock: socket.socket, app: Any) -> UvicornServer:
        """Serve ``app`` on a bound socket; the server is ready when this returns."""
        server = UvicornServer(app, self.connections)
        self._submit(server.open(sock)).result()
        return server

    def stop(self, server: UvicornServer) -> Future[None]:
        """Close the server's socket now, and its connections within `CLOSE_GRACE_SECONDS`."""
        return self._submit(server.close())

    def close(self) -> None:
        """Stop the thread; all servers have to be stopped before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


class _Config(uvicorn.Config):
    """uvicorn's configuration, with the connections that all servers of this kernel share."""

    open_connections: ClientConnections


class UvicornServer(uvicorn.Server):
    """A uvicorn server without its periodic work: it sleeps until a request arrives."""

    def __init__(self, app: Any, connections: ClientConnections) -> None:
        config = _Config(
            app,
            http=BoundedProtocol,
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # the endpoint writes it: no periodic work here
            timeout_graceful_shutdown=CLOSE_GRACE_SECONDS,
            h11_max_incomplete_event_size=2 * HEAD_BYTES,  # `BoundedProtocol` refuses before that
        )
        config.open_connections = connections
        super().__init__(config)

    async def open(self, sock: socket.socket) -> None:
        self.config.load()
        self._sock = sock
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[sock])

    async def close(self) -> None:
        await self.shutdown(sockets=[self._sock])

    def close_in_fork(self) -> None:
        """Close the socket in a forked child: the address belongs to the parent."""
        with contextlib.suppress(OSError):
            self._sock.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that uvicorn would choose: uvloop's if it is installed."""
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    return factory() if factory is not None else asyncio.new_event_loop()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Return whether a log record is no response that was aborted on purpose."""
    error = record.exc_info[1] if record.exc_info else None
    cut = isinstance(error, (ResponseAborted, asyncio.CancelledError))
    return not cut and not str(record.msg).startswith("Cancel %s running task")
