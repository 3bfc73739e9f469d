"""The server of an exported image: one instance of each class, called over HTTP.

It needs the standard library and this package alone. ``enter`` and ``exit`` run as in a container
of `lifecycle_magic`: on the main thread, once, and ``exit`` at SIGTERM, with 30 s of grace. Methods
run on the main thread too, one call after the other; async ones share one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import queue
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lifecycle_magic.decorators.parameters import instantiate
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.function import Function
from lifecycle_magic.spec.class_spec import CALL, ClassSpec

__all__ = ["build", "serve"]

GRACE_SECONDS = 30.0
"""Seconds that ``exit`` has after the call that runs; then the process ends with code 1."""

ANSWER_SECONDS = 2.0
"""Seconds after ``exit`` in which answers are sent that are not sent yet."""

MAX_BODY_BYTES = 64 << 20


def build(module: types.ModuleType) -> None:
    """Run the build hooks of every class. For a ``RUN`` of the Dockerfile."""
    loop = asyncio.new_event_loop()
    for spec in _specs(module).values():
        for name in spec.build:
            _finished(getattr(instantiate(spec.cls, (), {}), name)(), loop.run_until_complete)
    loop.close()


def serve(module: types.ModuleType, port: int = 8000, address: str = "0.0.0.0") -> int:
    """Serve the classes and functions of a script until SIGTERM or SIGINT, and run ``exit``.

    Return 0, or 1 if an ``exit`` hook raised.
    """
    server = _Server(_specs(module))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.stop)
    server.enter()
    listener = ThreadingHTTPServer((address, port), _handler(server))
    threading.Thread(target=listener.serve_forever, name="http", daemon=True).start()
    print(f"serving {', '.join(sorted(server.methods))} on port {port}", flush=True)
    server.work()
    code = server.exit()
    server.wait_for_answers()
    listener.server_close()
    return code


class _Server:
    """The instances, and the calls that the main thread runs."""

    def __init__(self, specs: Mapping[str, ClassSpec]) -> None:
        self.methods: dict[str, Callable[..., Any]] = {}
        self._specs = specs
        self._instances: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._calls = queue.SimpleQueue()
        self.is_stopping = False
        self._answering = 0  # requests whose answer is not sent yet
        self._answered = threading.Condition()

    def enter(self) -> None:
        """Make the instances and run their ``enter`` hooks."""
        asyncio.set_event_loop(self._loop)
        for title, spec in self._specs.items():
            instance: Any = instantiate(spec.cls, (), {})
            for name in spec.enter:
                self._finish(getattr(instance, name)())
            self._instances[title] = instance
            for name in spec.methods:
                path = title if name == CALL and spec.is_function else f"{title}/{name}"
                self.methods[path] = getattr(instance, name)

    def call(self, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method on the main thread and return its result. On any other thread."""
        method = self.methods[path]
        future: Future[Any] = Future()
        self._calls.put((lambda: self._finish(method(*args, **kwargs)), future))
        return future.result()

    def work(self) -> None:
        """Run calls until `stop`. On the main thread."""
        while (call := self._calls.get()) is not None:
            run, future = call
            try:
                future.set_result(run())
            except BaseException as error:  # sys.exit() of a method, for example
                traceback.print_exc()
                future.set_exception(error)
        while not self._calls.empty():
            late = self._calls.get()
            if late is not None:
                late[1].set_exception(RuntimeError("the container stops"))

    @contextlib.contextmanager
    def answer(self) -> Iterator[None]:
        """Count a request until it is answered."""
        with self._answered:
            self._answering += 1
        try:
            yield
        finally:
            with self._answered:
                self._answering -= 1
                self._answered.notify_all()

    def wait_for_answers(self) -> None:
        """Wait until every answer is sent, at most `ANSWER_SECONDS`."""
        with self._answered:
            self._answered.wait_for(lambda: not self._answering, ANSWER_SECONDS)

    def stop(self, *_: object) -> None:
        """End `work` after the calls that have arrived. A signal handler."""
        if not self.is_stopping:
            self.is_stopping = True
            self._calls.put(None)

    def exit(self) -> int:
        """Run the ``exit`` hooks, whatever those before them raised, and return the exit code."""
        late = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        late.daemon = True
        late.start()
        code = 0
        for title, spec in self._specs.items():
            for name in spec.exit:
                try:
                    self._finish(getattr(self._instances[title], name)())
                except BaseException:
                    traceback.print_exc()
                    code = 1
        sys.stdout.flush()
        late.cancel()
        return code

    def _finish(self, value: Any) -> Any:
        return _finished(value, self._loop.run_until_complete)


def _finished(value: Any, run: Callable[[Any], Any]) -> Any:
    """Return the value of a coroutine, and the items of a generator as a list."""
    if inspect.iscoroutine(value):
        return run(value)
    if inspect.isasyncgen(value):
        return run(_items(value))
    return list(value) if inspect.isgenerator(value) else value


async def _items(generator: Any) -> list[Any]:
    return [item async for item in generator]


def _specs(module: types.ModuleType) -> dict[str, ClassSpec]:
    """Return the declarations of a script's classes and functions by their names there."""
    return {
        name: (value if isinstance(value, Cls) else value._cls)._spec
        for name, value in vars(module).items()
        if isinstance(value, (Cls, Function)) and not name.startswith("_")
    }


def _handler(server: _Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """List the methods: an answer means that every ``enter`` has run."""
            self._answer(HTTPStatus.OK, {"methods": sorted(server.methods)})

        def do_POST(self) -> None:
            """Call ``/Class/method`` with a JSON object of its arguments, or a list of them."""
            with server.answer():
                self._answer(*self._called(self.path.strip("/")))

        def _called(self, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
            try:
                body = self._body() or b"{}"
            except OverflowError:
                self.close_connection = True
                text = f"the body has more than {MAX_BODY_BYTES} bytes"
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": text}
            except ValueError as error:
                self.close_connection = True  # where the next request begins is not known
                return HTTPStatus.BAD_REQUEST, {"error": f"the body can't be read: {error}"}
            if path not in server.methods:
                known = {"error": f"there is no {path}", "methods": sorted(server.methods)}
                return HTTPStatus.NOT_FOUND, known
            if server.is_stopping:
                return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the container stops"}
            try:
                given = json.loads(body)
                args, kwargs = (given, {}) if isinstance(given, list) else ([], dict(given))
            except (ValueError, TypeError) as error:
                return HTTPStatus.BAD_REQUEST, {"error": f"the body is no JSON object: {error}"}
            try:
                result = server.call(path, args, kwargs)
                json.dumps(result)
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
                return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": text}
            return HTTPStatus.OK, {"result": result}

        def _body(self) -> bytes:
            """Read the body: with a length, or in chunks as clients send what they generate."""
            if "Transfer-Encoding" not in self.headers:
                return self._read(self.headers.get("Content-Length") or "0", 10, 0)
            body = b""
            while chunk := self._read(self.rfile.readline(1024).partition(b";")[0], 16, len(body)):
                body += chunk
                self.rfile.readline(1024)
            while self.rfile.readline(1024).strip():
                pass  # trailers
            return body

        def _read(self, size: str | bytes, base: int, before: int) -> bytes:
            """Read so many bytes. Raises OverflowError if the body becomes too long by them."""
            count = int(size, base)
            if count < 0:
                raise ValueError(f"a length of {count}")
            if before + count > MAX_BODY_BYTES:
                raise OverflowError
            return self.rfile.read(count)

        def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
