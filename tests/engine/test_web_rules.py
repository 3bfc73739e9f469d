"""Clients that break the rules of HTTP, or come from another site's page: they fail alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine.inside import notes
from engine.web import Raw, Street, free_port
from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

import lifecycle_magic as lm
from lifecycle_magic.web import body

pytestmark = pytest.mark.xdist_group("web-rules")

FILES = free_port()
HANDSHAKE = """\
Connection: upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
"""


class Ruled:
    @lm.fastapi_endpoint(method="POST")
    def take(self, data: dict[str, int]) -> dict[str, int]:
        return data

    @lm.method()
    def double(self, x: int) -> int:
        return 2 * x

    @lm.web_server(FILES)
    def files(self) -> None:
        os.makedirs("served", exist_ok=True)
        served = ("--directory", "served", "--bind", "127.0.0.1")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(FILES), *served], stderr=subprocess.DEVNULL
        )

    @lm.asgi_app()
    def sockets(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/{name}")
        async def echo(peer: WebSocket, name: str) -> None:
            await peer.accept()
            notes().note(f"open-{name}")
            try:
                while True:
                    await peer.send_text(await peer.receive_text())
            except WebSocketDisconnect as left:
                notes().note(f"left-{name}-{type(left.code).__name__}-{left.code}")

        return app


Connect = Callable[[str], Raw]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connections that are closed when the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda url: stack.enter_context(Raw(url))


@pytest.fixture(scope="module")
def ruled(street: Street) -> Any:
    return street.cls(Ruled)()


def test_a_request_that_takes_back_its_host_fails_alone(
    ruled: Any, street: Street, connect: Connect
) -> None:
    url = ruled.files.web_url
    assert street.client.get(url).status_code == 200
    raw = connect(url)
    raw.request("GET /\nConnection: host")
    assert raw.head()[0] == 400
    raw = connect(url)
    raw.request("GET /\nConnection: close, content-length")
    assert raw.head()[0] == 200
    assert street.client.get(url).status_code == 200


def test_a_body_that_stalls_holds_no_container(
    ruled: Any, street: Street, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "POST /\nContent-Type: application/json\nContent-Length: 10"
    slow = connect(ruled.take.web_url)
    slow.request(head, b'{"a":')
    assert ruled.double.remote(4) == 8  # the only slot is free
    assert street.client.post(ruled.take.web_url, json={"b": 2}).json() == {"b": 2}
    monkeypatch.setattr(body, "STALL_SECONDS", 0.05)
    for url in (ruled.take.web_url, ruled.files.web_url):
        stalled = connect(url)
        stalled.request(head, b'{"a":')
        assert stalled.head()[0] == 408
    monkeypatch.undo()
    slow.send(b"1    ")
    assert slow.head()[0] == 422  # {"a":    1 is no JSON: all of it arrived
    assert ruled.double.remote(5) == 10


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("unmasked", b"\x81\x02hi"),
        ("reserved", b"\x83\x80\0\0\0\0"),
        ("large", b"\x81\xff" + (17 << 20).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 1000),
        ("normal", b"\x88\x80\0\0\0\0"),
    ],
)
def test_a_websocket_that_breaks_the_protocol_counts_as_disconnected(
    ruled: Any, street: Street, connect: Connect, name: str, frame: bytes
) -> None:
    raw = connect(ruled.sockets.web_url)
    raw.request(f"GET /{name}\n{HANDSHAKE}")
    assert raw.head()[0] == 101
    street.folder.wait(f"open-{name}")
    raw.send(frame)
    raw.sock.shutdown(1)
    with contextlib.suppress(ConnectionError):
        while raw.sock.recv(1 << 16):
            pass
    assert ruled.double.remote(6) == 12  # the handler has ended, and the container lives
    (left,) = [one for one in street.folder.events() if one.startswith(f"left-{name}-")]
    assert left.split("-")[2] == "int"


@pytest.mark.parametrize("site", ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"])
def test_pages_of_other_sites_run_nothing(
    ruled: Any, street: Street, connect: Connect, site: str
) -> None:
    for url, head in (
        (ruled.sockets.web_url, f"GET /foreign\n{HANDSHAKE}{site}"),
        (ruled.take.web_url, f"POST /\nContent-Length: 0\n{site}"),
        (ruled.files.web_url, f"GET /\n{site}"),
    ):
        raw = connect(url)
        raw.request(head)
        assert raw.head()[0] == 403
    assert not street.folder.count("open-foreign")


def test_a_prefix_that_is_no_path_is_not_passed_on(ruled: Any, street: Street) -> None:
    url = ruled.sockets.web_url.rstrip("/") + "/docs"
    good = street.client.get(url, headers={"X-Forwarded-Prefix": "/user/a%40b/proxy/8000/"})
    assert "/user/a%40b/proxy/8000/openapi.json" in good.text
    for prefix in ("/x'+alert(1)+'", "//evil.example", "/<script>", "evil"):
        told = street.client.get(url, headers={"X-Forwarded-Prefix": prefix})
        assert told.status_code == 200
        assert prefix not in told.text
