"""Limits for clients of the kernel's web server: connections, head of a request, body."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn.protocols.http.auto

from lifecycle_magic.web import body, bounds, gathering, server
from lifecycle_magic.web.body import Body, BodyStalled
from lifecycle_magic.web.bounds import HEAD_BYTES

WAIT = 30.0  # seconds; only a bug takes that long
PARSERS = (uvicorn.protocols.http.auto, gathering, bounds, server)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the names of the headers that the application sees, when the body is there."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    while (await receive()).get("more_body"):
        pass
    text = b" ".join(name for name, _ in scope["headers"])
    length = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(params=["httptools", "h11"])
def port(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The port of a server that reads requests with either parser, and its thread."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "h11":
            patch.setitem(sys.modules, "httptools", None)
        for module in PARSERS:
            importlib.reload(module)
        thread = server.HttpThread()
        sock = socket.create_server(("127.0.0.1", 0))
        one = thread.start(sock, echo)
        try:
            yield sock.getsockname()[1], thread
        finally:
            thread.stop(one).result()
            thread.close()
    for module in PARSERS:
        importlib.reload(module)


@contextlib.contextmanager
def client(port: tuple[int, Any], *pieces: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port[0]), timeout=WAIT) as sock:
        for piece in pieces:
            sock.sendall(piece)
        yield sock


def answer(sock: socket.socket) -> bytes:
    """All that comes until the server closes, or until a whole answer of `echo` is there."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(1 << 16):
            data += part
            head, _, rest = data.partition(b"\r\n\r\n")
            if b"content-length: " in head and len(rest) == int(
                head.partition(b"content-length: ")[2].split(b"\r\n")[0]
            ):
                break
    return data


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_head_that_is_too_large_is_refused_before_it_is_complete(port: Any) -> None:
    with client(port, b"GET / HTTP/1.1\r\n") as sock:
        with contextlib.suppress(ConnectionError):
            for _ in range(HEAD_BYTES // 900):
                sock.sendall(b"x: " + b"y" * 1000 + b"\r\n")
        assert answer(sock).startswith(b"HTTP/1.1 431 ")
    large = b"GET / HTTP/1.1\r\nhost: x\r\ny: " + b"y" * (HEAD_BYTES - 100) + b"\r\n\r\n"
    with client(port, large) as sock:
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_does_not_end_is_cut_off(port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HEAD_SECONDS", 0.05)
    with client(port, b"GET / HTTP/1.1\r\nhost:") as sock:
        assert answer(sock).startswith(b"HTTP/1.1 408 ")
    with client(port) as sock:
        assert answer(sock) == b""
    with client(port, GET) as sock:  # also the second one of a connection
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"GET / HT")
        assert answer(sock).startswith(b"HTTP/1.1 408 ")


def test_a_process_forked_meanwhile_keeps_no_connection_open(port: Any) -> None:
    with client(port, GET) as sock:
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
        gone, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                port[1].connections.close_in_fork()
                os.close(tell)
                os.read(gone, 1)  # until the parent closes its end, dead or alive
            finally:
                os._exit(0)
        os.close(gone)
        try:
            sock.sendall(GET.replace(b"host", b"connection: close\r\nhost"))
            assert answer(sock).startswith(b"HTTP/1.1 200 ")
            assert sock.recv(1) == b""  # the server's end is closed, and there is no other
        finally:
            os.close(tell)
            os.waitpid(pid, 0)


def test_requests_of_one_connection_are_each_bounded_alone(port: Any) -> None:
    half = b"GET / HTTP/1.1\r\nhost: x\r\ny: " + b"y" * (HEAD_BYTES // 2) + b"\r\n\r\n"
    with client(port) as sock:
        for _ in range(4):
            sock.sendall(half)
            assert answer(sock).startswith(b"HTTP/1.1 200 ")
    upload = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"
    with client(port, upload, b"z" * 300_000, GET) as sock:
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


def test_a_new_connection_takes_the_place_of_the_oldest_that_asks_nothing(port: Any) -> None:
    port[1].connections.limit = 3
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(client(port, b"GET")) for _ in range(3)]
        for _ in range(2):  # both are answered, although all places are taken
            with client(port, GET) as sock:
                assert answer(sock).startswith(b"HTTP/1.1 200 ")
        assert answer(silent[0]) == b""


def test_a_client_between_two_requests_outlives_a_flood_of_silent_connections(port: Any) -> None:
    port[1].connections.limit = 3
    with contextlib.ExitStack() as stack:
        regular = stack.enter_context(client(port, GET))
        assert answer(regular).startswith(b"HTTP/1.1 200 ")
        for _ in range(10):
            stack.enter_context(client(port, b"GET"))
        with client(port, GET) as last:  # taken up after them
            assert answer(last).startswith(b"HTTP/1.1 200 ")
        regular.sendall(GET)
        assert answer(regular).startswith(b"HTTP/1.1 200 ")


def test_connections_that_are_being_answered_keep_their_place(port: Any) -> None:
    connections = port[1].connections
    connections.limit = 1
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"
    with client(port, head + b"a") as busy:
        with client(port, GET) as sock:
            assert answer(sock) == b""
        busy.sendall(b"bc")
        assert answer(busy).startswith(b"HTTP/1.1 200 ")


def test_a_websocket_counts_as_long_as_it_is_open(port: Any) -> None:
    connections = port[1].connections
    connections.limit = 1
    upgrade = (
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    with client(port, upgrade) as sock:
        assert sock.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert len(connections) == 1
        with client(port, GET) as other:
            assert answer(other) == b""
        sock.sendall(b"\x88\x80\0\0\0\0")  # a close frame
        while sock.recv(1000):
            pass
    with client(port, GET) as sock:
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (b"a" * 9000, b"", b"431"),
        (b"", b"x: " + b"y" * 9000 + b"\r\n", b"431"),
        (b"", b"x: y\r\n" * 300, b"431"),
        (b"", b"content-length: 5\r\n", b"400"),
        (b"", b"transfer-encoding: chunked\r\n", b"400"),
    ],
    ids=["path", "header", "many headers", "body", "chunks"],
)
def test_a_handshake_that_no_library_takes_is_refused(
    port: Any, path: bytes, headers: bytes, status: bytes
) -> None:
    upgrade = (
        b"GET /" + path + b" HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
    )
    with client(port, upgrade + headers + b"\r\n") as sock:
        assert answer(sock).startswith(b"HTTP/1.1 " + status)


def test_trailers_are_no_headers(port: Any) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with client(port, head, b"1\r\na\r\n0\r\nauthorization: y\r\n\r\n") as sock:
        told = answer(sock)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"authorization" not in told


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"0\r\n", b"1;", b"1\r\na\r\n1;"])
def test_trailers_and_extensions_without_end_are_cut_off(port: Any, start: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    more = b"x: y\r\n" * 10_000 if start == b"0\r\n" else b"y" * 60_000
    with client(port, head + start) as sock, pytest.raises(ConnectionError):
        sock.sendall(more * 1000)


# --- the body ------------------------------------------------------------------------------------


def messages(*parts: bytes | None) -> Body:
    """A body that comes in parts; None stands for a client that sends no more."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        part = left.pop(0)
        if part is None:
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    return Body(receive)


def test_the_beginning_of_a_body_is_there_before_a_container_is_asked() -> None:
    async def run() -> None:
        assert (await messages(b"a", b"b", b"c").first(True))["body"] == b"abc"
        assert (await messages(b"a", b"b").first(False))["body"] == b"a"
        large = messages(b"a" * body.READ_AHEAD_BYTES, b"b")
        assert len((await large.first(True))["body"]) == body.READ_AHEAD_BYTES
        assert (await large.receive()) == {"type": "http.request", "body": b"b", "more_body": False}

    asyncio.run(run())


@pytest.mark.parametrize("ahead", [True, False])
def test_a_body_that_stalls_is_an_error(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "STALL_SECONDS", 0.05)

    async def run() -> None:
        one = messages(b"a", None)
        if not ahead:
            await one.first(ahead)
        with pytest.raises(BodyStalled):
            await (one.first(ahead) if ahead else one.receive())

    asyncio.run(run())
