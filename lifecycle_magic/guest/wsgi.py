"""Requests for a WSGI application: PEP 3333, by the standard library's own handler."""

from __future__ import annotations

import io
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any
from wsgiref.handlers import BaseHandler

from lifecycle_magic.guest.asgi_connection import AsgiConnection

Application = Callable[..., Any]


def answer(app: Application, many: bool, exchange: AsgiConnection) -> None:
    """Run ``app`` on this thread.

    ``many`` says that others run at the same time. Raises what it raises.
    """
    _Handler(exchange, many).run(app)


class _Handler(BaseHandler):
    # Attributes that the base class sets without declaring them.
    environ: dict[str, Any]
    headers: Any
    status: str
    bytes_sent: int

    wsgi_run_once = False
    origin_server = False  # the kernel's side adds the headers of a server
    os_environ = {}  # noqa: RUF012  # the base class uses os.environ

    def __init__(self, exchange: AsgiConnection, many: bool) -> None:
        self.wsgi_multithread = many
        self.wsgi_multiprocess = True  # there may be more containers
        self._exchange = exchange
        self._body = io.BufferedReader(_Body(exchange))
        self._length = -1  # of the response, if its header gives it
        self._finished = False

    def run(self, application: Application) -> None:
        # The base class's method swallows exceptions of the application, or answers them itself.
        self.setup_environ()
        self.result = application(self.environ, self.start_response)
        self.finish_response()

    def get_stdin(self) -> Any:
        return self._body

    def get_stderr(self) -> Any:
        return sys.stderr

    def get_scheme(self) -> str:
        return str(self._exchange.scope.get("scheme", "http"))

    def add_cgi_vars(self) -> None:
        self.environ.update(_environ(self._exchange.scope))
        # Without this, werkzeug treats a body of unknown length as empty.
        self.environ["wsgi.input_terminated"] = True

    def send_headers(self) -> None:
        self.cleanup_headers()
        self.headers_sent = True
        length = self.headers.get("Content-Length", "")
        self._length = int(length) if length.isdigit() else -1
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        status = int(self.status[:3])
        self._exchange.send_blocking(
            {"type": "http.response.start", "status": status, "headers": headers}
        )

    def _write(self, data: bytes) -> None:
        self._finished = self.bytes_sent == self._length
        more = not self._finished
        self._exchange.send_blocking(
            {"type": "http.response.body", "body": data, "more_body": more}
        )

    def _flush(self) -> None:
        """Do nothing: nothing is held back."""

    def finish_content(self) -> None:
        super().finish_content()
        if not self._finished:
            self._finished = True
            self._exchange.send_blocking({"type": "http.response.body", "body": b""})


class _Body(io.RawIOBase):
    """The request's body, read while it arrives."""

    def __init__(self, exchange: AsgiConnection) -> None:
        self._exchange = exchange
        self._piece = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece and self._more:
            message = self._exchange.receive_blocking()
            self._more = bool(message.get("more_body", False))
            self._piece = memoryview(message.get("body", b""))
            if message["type"] != "http.request":
                raise OSError("the client disconnected before its whole request had arrived")
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


def _environ(scope: dict[str, Any]) -> dict[str, str]:
    root = scope.get("root_path", "")
    path = scope["path"]
    host, port = scope.get("server") or ("localhost", 80)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _latin1(root),
        "PATH_INFO": _latin1(path.removeprefix(root) if root else path),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "REQUEST_URI": urllib.parse.quote(path, safe="/:@!$&'()*+,;=~"),
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
    }
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        joined = "; " if name == "HTTP_COOKIE" else ","
        environ[name] = f"{environ[name]}{joined}{value}" if name in environ else value
    return environ


def _latin1(text: str) -> str:
    """Return UTF-8 bytes decoded as Latin-1, PEP 3333's way to carry them."""
    return text.encode("utf-8").decode("latin-1")
