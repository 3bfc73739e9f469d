"""Clients that break HTTP on purpose. Others are served meanwhile, and so are the user's own calls.

Bytes are written by hand: no client library sends such requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from engine.web import Raw, Street, free_port
from engine.web import street as make_street
from engine.work import PATIENCE, wait_for

import lifecycle_magic as lm
from lifecycle_magic.session import session
from lifecycle_magic.web import body, endpoint

pytestmark = pytest.mark.xdist_group("hostile-clients")

ANSWERS = free_port()
HANDSHAKE = """\
Connection: upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
"""
PIECE = b"x" * 60_000


@lm.concurrent(max_inputs=40)
class Victim:
    @lm.enter()
    def begin(self) -> None:
        self.paths: list[str] = []

    @lm.method()
    async def double(self, x: int) -> int:
        return 2 * x

    @lm.method()
    async def seen(self) -> list[str]:
        return self.paths

    @lm.asgi_app()
    def site(self) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                while (message := await receive())["type"] == "websocket.receive":
                    await send({"type": "websocket.send", "text": message.get("text") or ""})
                return
            self.paths.append(scope["path"])
            size, more = 0, True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return
                size += len(message.get("body", b""))
                more = message.get("more_body", False)
            names = b",".join(name for name, _ in scope["headers"])
            told = f"{scope['path']} {size} ".encode() + names
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(2000 if scope["path"] == "/endless" else 0):
                await send({"type": "http.response.body", "body": b"z" * 65536, "more_body": True})
            await send({"type": "http.response.body", "body": told})

        return app

    @lm.asgi_app(requires_proxy_auth=True)
    def locked(self) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"open"})

        return app

    @lm.web_server(ANSWERS)
    def server(self) -> None:
        """Answer with the bytes that the path has as hexadecimal digits, whatever they are."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                head = await reader.readuntil(b"\r\n\r\n")
                data = bytes.fromhex(head.split()[1].decode().lstrip("/"))
                if data:
                    writer.write(data)
                else:  # one that never ends its head
                    writer.write(b"HTTP/1.1 200 OK\r\n")
                    for _ in range(10_000):
                        writer.write(b"x: " + b"y" * 10_000 + b"\r\n")
                        await writer.drain()
                await writer.drain()
            writer.close()

        def serve() -> None:
            async def main() -> None:
                async with await asyncio.start_server(answer, "127.0.0.1", ANSWERS) as server:
                    await server.serve_forever()

            asyncio.run(main())

        threading.Thread(target=serve, daemon=True).start()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def street(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Street]:
    """What is attacked, once on each engine."""
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    folder = tmp_path_factory.mktemp("notes")
    with make_street(request.param, f"hostile-{request.param}", folder) as one:
        yield one


@pytest.fixture(scope="module")
def victim(street: Street) -> Any:
    made = street.cls(Victim, image=lm.Image.debian_slim())()
    assert made.double.remote(2) == 4
    return made


@pytest.fixture
def others_go_on(victim: Any, street: Street) -> Iterator[Callable[[], None]]:
    """Another client and the user's own calls; called, it waits until both are served anew."""
    url = victim.site.web_url

    def served() -> None:
        for number in range(5):
            answer = street.client.get(url + "/others")
            assert (answer.status_code, answer.text[:9]) == (200, "/others 0")
            assert victim.double.remote(number) == 2 * number

    served()
    yield served
    served()


Connect = Callable[[], Raw]


@pytest.fixture
def connect(victim: Any) -> Iterator[Connect]:
    """Connections to the site that are closed when the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Raw(victim.site.web_url))


def rest(raw: Raw) -> bytes:
    """All that the server sends until it closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := raw.sock.recv(1 << 16):
            data += part
    return data


def flood(raw: Raw, data: bytes, times: int) -> None:
    """Send ``data`` again and again, until the server closes the connection."""
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            raw.send(data)


# --- heads and bodies ----------------------------------------------------------------------------


def test_hundreds_of_half_sent_heads(connect: Connect, others_go_on: Callable[[], None]) -> None:
    for _ in range(300):
        connect().send(b"GET / HTTP/1.1\r\nHost: loc")
    others_go_on()


def test_a_thousand_connections(connect: Connect, others_go_on: Callable[[], None]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("a process may not have that many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        for _ in range(1000):
            connect()
        others_go_on()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("piece", [b"x: " + PIECE[:1000] + b"\r\n", PIECE], ids=["many", "one"])
def test_headers_without_end(
    connect: Connect, others_go_on: Callable[[], None], piece: bytes
) -> None:
    raw = connect()
    raw.send(b"GET / HTTP/1.1\r\n")
    flood(raw, piece, 2000)
    assert b" 200 " not in rest(raw)
    others_go_on()


def test_a_body_that_stalls(
    connect: Connect, others_go_on: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        connect().request("POST /\nContent-Length: 10", b"12345")
    others_go_on()
    monkeypatch.setattr(body, "STALL_SECONDS", 0.05)
    raw = connect()
    raw.request("POST /\nContent-Length: 10", b"12345")
    assert raw.head()[0] == 408


CHUNKED = "POST /\nTransfer-Encoding: chunked"


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nab\r\n0\r\n\r\n",
        b"-1\r\nab\r\n0\r\n\r\n",
        b"0x2\r\nab\r\n0\r\n\r\n",
        b"fffffffffffffffffffff\r\nab",
        b"2\r\nabcd\r\n0\r\n\r\n",
        b"2 2\r\nab\r\n0\r\n\r\n",
        b"\r\n\r\n0\r\n\r\n",
    ],
    ids=["letters", "negative", "prefix", "giant", "longer", "two numbers", "none"],
)
def test_chunks_that_are_none(
    connect: Connect, others_go_on: Callable[[], None], chunks: bytes
) -> None:
    raw = connect()
    raw.request(CHUNKED, chunks + b"GET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " not in rest(raw)
    others_go_on()


def test_a_trailer_is_no_header_and_has_an_end(
    connect: Connect, others_go_on: Callable[[], None]
) -> None:
    raw = connect()
    raw.request(f"{CHUNKED}\nConnection: close", b"1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n")
    answer = rest(raw)
    assert b" 200 " in answer
    assert b"x-trailer" not in answer
    for start in (b"0\r\nx: ", b"1;"):
        raw = connect()
        raw.request(CHUNKED, start)
        with contextlib.suppress(ConnectionError):
            raw.send(PIECE * 400)
        assert b" 200 " not in rest(raw)
    others_go_on()


# --- who is asked for what -----------------------------------------------------------------------

INNER = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        f"Content-Length: {len(INNER) + 5}\nTransfer-Encoding: chunked",
        f"Transfer-Encoding: chunked\nContent-Length: {len(INNER) + 5}",
        f"Content-Length: {len(INNER) + 5}\nContent-Length: 5",
        f"Content-Length: 5, {len(INNER) + 5}",
        f"Content-Length: +{len(INNER) + 5}",
        f"Content-Length : {len(INNER) + 5}",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\n chunked",
        "X: a\0b",
    ],
)
def test_requests_inside_of_requests_are_never_run(
    victim: Any, connect: Connect, others_go_on: Callable[[], None], headers: str
) -> None:
    """Where two servers could read a body in two ways, ours refuses it and closes."""
    raw = connect()
    raw.request(f"POST /outer\n{headers}", b"0\r\n\r\n" + INNER)
    raw.sock.shutdown(socket.SHUT_WR)
    rest(raw)
    others_go_on()
    assert "/smuggled" not in victim.seen.remote()


@pytest.mark.parametrize(
    "hosts",
    [
        ["localhost", "evil.example"],
        ["localhost@evil.example"],
        ["evil.example#localhost"],
        ["localhost.evil.example"],
        ["[::1].evil.example"],
        ["localhost, evil.example"],
        ["evil.example:127.0.0.1"],
        ["\u00ff"],
        [],
    ],
)
def test_a_host_that_is_not_ours_is_refused(
    connect: Connect, others_go_on: Callable[[], None], hosts: list[str]
) -> None:
    raw = connect()
    lines = [b"GET / HTTP/1.1", *(f"Host: {host}".encode("latin-1") for host in hosts)]
    raw.send(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
    assert rest(raw).split()[1] in (b"400", b"421")
    others_go_on()


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%00", "//x"],
)
def test_a_path_stays_what_the_client_sent(
    connect: Connect, others_go_on: Callable[[], None], path: str
) -> None:
    """The kernel opens no file for a path; the application gets it as any server would give it."""
    raw = connect()
    raw.request(f"GET {path}\nConnection: close")
    answer = rest(raw)
    assert answer.split()[1] in (b"200", b"400")
    assert b"root:" not in answer
    others_go_on()


def test_tokens_are_compared_in_constant_time(
    victim: Any, street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = victim.locked.web_url, victim.locked.web_token
    compared = []

    class Spied:
        @staticmethod
        def compare_digest(given: bytes, right: bytes) -> bool:
            compared.append(given)
            return hmac.compare_digest(given, right)

    monkeypatch.setattr(endpoint, "hmac", Spied)
    guesses = ["x", token[:-1], token + "x", token.upper(), token[::-1]]
    for guess in guesses:
        answer = street.client.get(url, headers={"Authorization": f"Bearer {guess}"})
        assert answer.status_code == 401
    assert compared == [guess.encode() for guess in guesses]
    with Raw(url) as raw:  # the first one counts, whatever stands behind it
        raw.request(f"GET /\nAuthorization: Bearer x\nAuthorization: Bearer {token}")
        assert raw.head()[0] == 401
    assert street.client.get(url, headers={"Authorization": f"Bearer {token}"}).text == "open"


# --- slow readers and WebSockets -----------------------------------------------------------------


def test_readers_that_do_not_read(connect: Connect, others_go_on: Callable[[], None]) -> None:
    for _ in range(20):
        connect().request("GET /endless")
    others_go_on()


def frame(opcode: int, payload: bytes = b"", first: int = 0x80) -> bytes:
    """A frame of a WebSocket as a client has to mask it, here with zeros."""
    size = len(payload)
    head = bytes([first | opcode])
    head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return head + bytes(4) + payload


@pytest.mark.parametrize(
    "data",
    [
        frame(1, PIECE, first=0) + frame(0, PIECE, first=0) * 300,  # 18 MB of one message
        frame(1, b"", first=0) + frame(0, b"", first=0) * 50_000,
        frame(9, b"ping") * 50_000,
        frame(9, PIECE[:126]),
        frame(1, b"x", first=0xC0),  # compressed, which nobody agreed on
        frame(1, b"\xff\xfe"),
        frame(8, b"\x03"),
        frame(0, b"x"),
        b"\x81\x02hi",
        b"\x83\x80\0\0\0\0",
        b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4),
    ],
    ids=[
        *("fragments", "empty fragments", "pings", "long ping", "compressed", "no text"),
        *("short close", "continued", "unmasked", "reserved", "giant"),
    ],
)
def test_websockets_that_break_the_protocol(
    connect: Connect, others_go_on: Callable[[], None], data: bytes
) -> None:
    raw = connect()
    raw.request(f"GET /socket\n{HANDSHAKE}")
    assert raw.head()[0] == 101
    sender = threading.Thread(target=flood, args=(raw, data, 1))
    sender.start()
    others_go_on()
    with contextlib.suppress(OSError):
        raw.sock.shutdown(socket.SHUT_RDWR)
    sender.join(PATIENCE)
    assert not sender.is_alive()


# --- a server in a container that answers anything -----------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 999 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x81\x05hello",
    ],
    ids=[
        *("endless head", "empty line", "garbage", "negative", "two lengths", "bad chunk"),
        *("giant chunk", "continue", "odd status", "bare return", "upgrade"),
    ],
)
def test_a_server_in_a_container_harms_its_client_alone(
    victim: Any, street: Street, others_go_on: Callable[[], None], data: bytes
) -> None:
    url = victim.server.web_url
    with contextlib.suppress(httpx.TransportError):
        answer = street.client.get(f"{url}/{data.hex()}")
        assert answer.status_code >= 500 or not answer.content or data.startswith(b"HTTP/1.1 999")
    raw = Raw(url)
    with raw:
        raw.request(f"GET /{data.hex()}\n{HANDSHAKE}")
        assert b" 101 " not in rest(raw).partition(b"\r\n")[0]
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert street.client.get(f"{url}/{good.hex()}").text == "ok"
    others_go_on()


def test_nothing_is_left_open_when_the_clients_have_left(victim: Any) -> None:
    site = session.current().site
    wait_for(lambda: site.connections <= 2, "the end of all other connections")
