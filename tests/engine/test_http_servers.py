"""Servers that ``enter`` starts: ``experimental.http_server`` and ``App.server``."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from engine.web import free_port
from engine.work import Site, Work
from handle_state import spec_of
from lifecycle_magic.experimental import http_server

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError


def serve(port: int, text: str) -> None:
    """Answer every GET on ``port`` with ``text``, on a thread."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


def test_a_class_has_the_address_of_the_server_that_enter_starts(site_on_each: Site) -> None:
    port = free_port()

    @site_on_each.app.cls()
    @http_server(port=port)
    @lm.concurrent(target_inputs=2)
    class Files:
        @lm.enter()
        def start(self) -> None:
            serve(port, "from enter")

        @lm.method()
        def port(self) -> int:
            return port

    files: Any = Files
    (url,) = files._experimental_get_flash_urls()
    assert read(url + "/any/path") == "from enter"
    assert asyncio.run(files.get_urls.aio())["us-east"] == url
    assert asyncio.run(files.get_url.aio()) == url
    assert files().port.remote() == port


def test_an_app_declares_a_server(site_on_each: Site) -> None:
    port = free_port()

    @site_on_each.app.server(port=port, target_concurrency=1.5)
    class Server:
        @lm.enter()
        def start(self) -> None:
            serve(port, "a server")

    server: Any = Server
    assert read(server.get_url()) == "a server"
    assert spec_of(server).max_inputs == 32
    assert spec_of(server).methods["http_server"].concurrent.target_inputs == 2


@pytest.mark.process
def test_a_port_in_use_is_found_before_enter(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cls: Any = site.cls(http_server(port)(type("Taken", (Work,), {})))
        with pytest.raises(urllib.error.HTTPError, match="503"):
            read(cls(site.folder.path).http_server.web_url)
    assert f"another process listens on port {port} already" in capfd.readouterr().err
    assert not site.folder.count("enter")


def test_mistakes_are_errors_at_the_declaration() -> None:
    with pytest.raises(InvalidError, match="needs the port"):
        http_server(Work)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="above a class"):
        http_server(8000)(3)  # type: ignore[type-var]
    with pytest.raises(InvalidError, match="the port must be a whole number"):
        lm.App().server(port=0)(Work)
    with pytest.raises(InvalidError, match="h2_enabled"):
        http_server(8000, h2_enabled=True)
    with pytest.raises(InvalidError, match="no option ports"):
        http_server(8000, ports=3)
