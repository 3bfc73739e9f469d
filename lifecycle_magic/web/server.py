"""uvicorn on a thread of its own: it answers while a cell computes.

A server is started for each endpoint, all of them on one event loop. Nothing runs there while no
request comes.
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

from lifecycle_magic.web.gathering import GatheringProtocol

T = TypeVar("T")

PATIENCE = 5
"""Seconds that requests have to end when their endpoint is closed."""


class Cut(Exception):
    """The answer can't be completed: the server closes the connection, which tells the client."""


class HttpThread:
    """The thread. `start` and `stop` may be called from any other one."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="lifecycle-web", daemon=True)
        self._thread.start()
        logging.getLogger("uvicorn.error").addFilter(_is_news)

    def start(self, sock: socket.socket, app: Any) -> Server:
        """Serve ``app`` on a bound socket; it answers when this returns."""
        server = Server(app)
        self._submit(server.open(sock)).result()
        return server

    def stop(self, server: Server) -> Future[None]:
        """Close the server's socket at once, and its connections in `PATIENCE` seconds."""
        return self._submit(server.close())

    def close(self) -> None:
        """End the thread; its servers have to be stopped."""
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


class Server(uvicorn.Server):
    """One of uvicorn's without its ticking: it sleeps until a request comes."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GatheringProtocol,
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # the endpoint writes it: nothing ticks here
                timeout_graceful_shutdown=PATIENCE,
            )
        )

    async def open(self, sock: socket.socket) -> None:
        self.config.load()
        self._sock = sock
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[sock])

    async def close(self) -> None:
        await self.shutdown(sockets=[self._sock])

    def close_in_fork(self) -> None:
        """In a forked child: the address is the parent's."""
        with contextlib.suppress(OSError):
            self._sock.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's where it is installed, as uvicorn would choose it."""
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    return factory() if factory is not None else asyncio.new_event_loop()


def _is_news(record: logging.LogRecord) -> bool:
    """Not what was cut off on purpose, here or when an address closes."""
    error = record.exc_info[1] if record.exc_info else None
    cut = isinstance(error, (Cut, asyncio.CancelledError))
    return not cut and not str(record.msg).startswith("Cancel %s running task")
