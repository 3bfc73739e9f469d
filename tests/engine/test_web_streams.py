"""Bodies that come bit by bit, in both directions, WebSockets, and clients that leave."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
from engine.inside import notes, peak
from engine.web import Raw, Street, free_port, printed_until
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from handle_state import pool_of
from kernel.harness import wait_for

import lifecycle_magic as lm

pytestmark = pytest.mark.xdist_group("web-streams")

MIB = 1 << 20
LARGE = 200
"""MiB of a large body."""
SPARE = 64 * MIB
"""What a large body may cost in memory, all buffers on its way together."""

PORT = free_port()


@lm.concurrent(max_inputs=32)
class Streams:
    @lm.enter()
    def load(self) -> None:
        notes().note("enter")
        self.produced: dict[str, int] = {}

    @lm.method()
    def peak(self) -> int:
        return peak()

    @lm.method()
    def how_far(self, name: str) -> int:
        return self.produced.get(name, 0)

    @lm.fastapi_endpoint()
    def where(self, name: str) -> dict[str, Any]:
        notes().note(f"began-{name}")
        notes().wait(f"go-{name}")
        return {
            "thread": threading.get_ident(),
            "main": threading.current_thread() is threading.main_thread(),
        }

    @lm.fastapi_endpoint()
    async def loop(self) -> dict[str, Any]:
        return {
            "loop": id(asyncio.get_running_loop()),
            "main": threading.current_thread() is threading.main_thread(),
        }

    @lm.fastapi_endpoint()
    def stay(self, name: str) -> None:
        try:
            notes().note(f"began-{name}")
            notes().wait(f"go-{name}")
        except KeyboardInterrupt:
            notes().note(f"interrupted-{name}")
            raise

    @lm.asgi_app()
    def web(self) -> FastAPI:
        app = FastAPI()

        @app.get("/events")
        async def events() -> StreamingResponse:
            async def items() -> AsyncIterator[str]:
                for number in range(3):
                    while notes().count("go-event") < number:
                        await asyncio.sleep(0.005)
                    yield f"data: {number}\n\n"

            return StreamingResponse(items(), media_type="text/event-stream")

        async def echo(scope: Any, receive: Any, send: Any) -> None:
            """As such: a StreamingResponse would itself listen for the client, and miss pieces."""
            await send({"type": "http.response.start", "status": 200, "headers": []})
            more = True
            while more:
                message = await receive()
                more = message["more_body"]
                body = {"type": "http.response.body", "body": message["body"], "more_body": more}
                await send(body)

        app.mount("/echo", echo)

        @app.post("/sum")
        async def sum_(request: Request) -> dict[str, int]:
            size = crc = 0
            async for piece in request.stream():
                size += len(piece)
                crc = zlib.crc32(piece, crc)
            return {"size": size, "crc": crc}

        @app.post("/deaf")
        async def deaf(name: str, request: Request) -> str:
            while not notes().count(f"go-{name}"):
                await asyncio.sleep(0.005)
            return f"{len(await request.body())} bytes"

        @app.get("/large")
        async def large(mib: int) -> StreamingResponse:
            piece = bytes(range(256)) * (MIB // 256)

            async def items() -> AsyncIterator[bytes]:
                for _ in range(mib):
                    yield piece

            return StreamingResponse(items())

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            name = scope["query_string"].decode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            piece = {"type": "http.response.body", "body": b"x" * (MIB // 16), "more_body": True}
            try:
                for number in range(1, 1 << 12):
                    await send(piece)
                    self.produced[name] = number
                notes().note(f"all-{name}")
            except asyncio.CancelledError:
                notes().note(f"cancelled-{name}")
                raise

        app.mount("/endless", endless)

        @app.websocket("/ws")
        async def ws(peer: WebSocket) -> None:
            await peer.accept("two" if "two" in peer.scope["subprotocols"] else None)
            try:
                while True:
                    message = await peer.receive()
                    if message["type"] == "websocket.disconnect":
                        raise WebSocketDisconnect(message["code"], message.get("reason"))
                    if message.get("text") == "close":
                        await peer.close(4003, "as asked")
                        return
                    if message.get("text") == "break":
                        raise LookupError("in the middle of a socket")
                    await peer.send({**message, "type": "websocket.send"})
            except WebSocketDisconnect as left:
                notes().note(f"left-{left.code}-{left.reason}")

        @app.websocket("/refused")
        async def refused(peer: WebSocket) -> None:
            await peer.close()

        @app.websocket("/waits")
        async def waits(peer: WebSocket) -> None:
            await peer.accept()
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                notes().note("cancelled-socket")
                raise

        return app

    @lm.wsgi_app()
    def wsgi(self) -> Any:
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            size = crc = 0
            while piece := environ["wsgi.input"].read(MIB):
                size += len(piece)
                crc = zlib.crc32(piece, crc)
            start_response("200 OK", [("X-Sum", f"{size} {crc}")])
            for _ in range(int(environ["QUERY_STRING"] or 0)):
                yield bytes(range(256)) * (MIB // 256)

        return app

    @lm.web_server(PORT)
    def server(self) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                left, crc = int(self.headers["Content-Length"]), 0
                size = left
                while left:
                    piece = self.rfile.read(min(left, MIB))
                    left -= len(piece)
                    crc = zlib.crc32(piece, crc)
                self.send_response(200)
                self.send_header("X-Sum", f"{size} {crc}")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                for _ in range(int(self.path.rpartition("?")[2])):
                    self.wfile.write(bytes(range(256)) * (MIB // 256))

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def streams(street: Street) -> Any:
    return street.cls(Streams)()


@pytest.fixture
def connect(streams: Any) -> Any:
    url = streams.web.web_url.replace("http", "ws") + "/ws"
    return functools.partial(websockets.sync.client.connect, url, max_size=None, proxy=None)


# --- many at once ---------------------------------------------------------------------------------


def test_sync_methods_answer_at_once_on_threads(streams: Any, street: Street) -> None:
    url = streams.where.web_url
    requests = [street.request("GET", url, params={"name": name}) for name in "abcd"]
    for name in "abcd":
        street.folder.wait(f"began-{name}")  # all of them, before any may end
    street.go(*"abcd")
    told = [request.answer().json() for request in requests]
    assert len({one["thread"] for one in told}) == 4
    assert not any(one["main"] for one in told)
    assert street.folder.count("enter") == 1


def test_async_methods_answer_on_the_one_loop(streams: Any, street: Street) -> None:
    told = [street.client.get(streams.loop.web_url).json() for _ in range(3)]
    assert told[0]["main"]
    assert all(one == told[0] for one in told)


# --- bit by bit -----------------------------------------------------------------------------------


def test_events_arrive_as_they_are_sent(streams: Any, street: Street) -> None:
    with street.client.stream("GET", streams.web.web_url + "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines() if line)
        for number in range(3):
            assert next(lines) == f"data: {number}"
            street.go("event")
        assert next(lines, None) is None


def test_an_answer_comes_while_the_request_is_being_sent(streams: Any) -> None:
    with Raw(streams.web.web_url) as raw:
        raw.request("POST /echo/\nTransfer-Encoding: chunked")
        raw.send_chunk(b"first")
        assert raw.head()[0] == 200
        assert raw.chunk() == b"first"
        for piece in (b"second", b"third"):
            raw.send_chunk(piece)
            assert raw.chunk() == piece
        raw.send_chunk(b"")
        assert raw.chunk() == b""


@pytest.mark.parametrize(
    ("app", "mib"), [("web", LARGE), ("wsgi", 64), ("server", 64)], ids=["asgi", "wsgi", "server"]
)
def test_a_large_body_is_uploaded_completely_in_little_memory(
    app: str, mib: int, streams: Any, street: Street
) -> None:
    piece = bytes(range(256)) * (MIB // 256)
    url = getattr(streams, app).web_url
    before = streams.peak.remote(), peak()
    sent = street.client.post(
        url + ("/sum" if app == "web" else ""),
        content=(piece for _ in range(mib)),
        headers={"Content-Length": str(mib * MIB)},
    )
    grown = streams.peak.remote() - before[0], peak() - before[1]
    crc = functools.reduce(lambda crc, _: zlib.crc32(piece, crc), range(mib), 0)
    told = f"{mib * MIB} {crc}"
    if app == "web":
        assert sent.json() == {"size": mib * MIB, "crc": crc}
    else:
        assert sent.headers["x-sum"] == told
    assert max(grown) < SPARE


@pytest.mark.parametrize(
    ("path", "mib"),
    [("web/large?mib=", LARGE), ("wsgi/?", 64), ("server/?", 64)],
    ids=["asgi", "wsgi", "server"],
)
def test_a_large_body_comes_down_whole_in_little_memory(
    path: str, mib: int, streams: Any, street: Street
) -> None:
    app, _, rest = path.partition("/")
    before = streams.peak.remote(), peak()
    size = 0
    with street.client.stream("GET", f"{getattr(streams, app).web_url}/{rest}{mib}") as answer:
        for piece in answer.iter_raw():
            size += len(piece)
    grown = streams.peak.remote() - before[0], peak() - before[1]
    assert size == mib * MIB
    assert max(grown) < SPARE


def test_a_slow_reader_holds_the_writer_up(streams: Any, street: Street) -> None:
    with street.client.stream("GET", streams.web.web_url + "/endless/?slow") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        for _ in range(100):  # the loop would have had the time to go on
            street.client.get(streams.loop.web_url)
        far = streams.how_far.remote("slow")
        assert far * MIB // 16 < SPARE
        read = 0
        while streams.how_far.remote("slow") == far:  # it goes on when the reader does
            read += len(next(pieces))
        assert not street.folder.count("cancelled-slow")
    street.folder.wait("cancelled-slow")
    assert not street.folder.count("all-slow")


def test_a_slow_application_holds_the_sender_up(streams: Any, street: Street) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(128):
            sent += MIB
            yield b"x" * MIB

    request = street.request(
        "POST", streams.web.web_url + "/deaf", params={"name": "deaf"}, content=pieces()
    )
    for _ in range(100):
        street.client.get(streams.loop.web_url)
    assert sent < SPARE
    street.go("deaf")
    assert request.answer().json() == f"{128 * MIB} bytes"


# --- WebSockets -----------------------------------------------------------------------------------


def test_messages_of_every_kind_come_back(connect: Any) -> None:
    with connect() as client:
        for message in ("text", b"bytes", "", b"", "é" * 70_000, b"x" * MIB, "y" * MIB):
            client.send(message)
            assert client.recv(timeout=60) == message
        client.send([b"in ", b"pieces"])
        assert client.recv(timeout=60) == b"in pieces"
        for number in range(100):
            client.send(str(number))
        assert [client.recv(timeout=60) for _ in range(100)] == [str(n) for n in range(100)]
        assert client.ping().wait(60)


def test_a_subprotocol_is_agreed_on(connect: Any) -> None:
    with connect(subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
    with connect(subprotocols=["one"]) as client:
        assert client.subprotocol is None


def test_close_codes_go_both_ways(connect: Any, street: Street) -> None:
    with connect() as client:
        client.send("close")
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            client.recv(timeout=60)
        assert (client.close_code, client.close_reason) == (4003, "as asked")
    with connect() as client:
        client.close(4004, "enough")
    street.folder.wait("left-4004-enough")
    with connect() as client:
        client.socket.shutdown(socket.SHUT_RDWR)
    # Without a close frame: uvicorn calls that 1005, other servers 1006.
    wait_for(lambda: {"left-1005-", "left-1006-"} & street.folder.events(), "the client's end")


def test_a_socket_whose_handler_breaks_is_closed(
    connect: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect() as client:
        client.send("break")
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            client.recv(timeout=60)
        assert client.close_code == 1011
        assert "LookupError" not in (client.close_reason or "")
    printed_until(capfd, "LookupError: in the middle of a socket")


def test_a_socket_may_be_refused(streams: Any) -> None:
    url = streams.web.web_url.replace("http", "ws") + "/"
    for path in ("refused", "nowhere"):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            websockets.sync.client.connect(url + path, proxy=None)
        assert refused.value.response.status_code == 403


def test_many_sockets_are_open_at_once(streams: Any) -> None:
    url = streams.web.web_url.replace("http", "ws") + "/ws"

    async def talk() -> None:
        opened = [await websockets.asyncio.client.connect(url, proxy=None) for _ in range(20)]
        for number, one in enumerate(opened):
            await one.send(f"I am {number}")
        assert [await one.recv() for one in opened] == [f"I am {n}" for n in range(20)]
        await asyncio.gather(*(one.close() for one in opened))

    asyncio.run(talk())


# --- clients that leave ---------------------------------------------------------------------------


def test_a_client_that_leaves_interrupts_the_thread(streams: Any, street: Street) -> None:
    with Raw(streams.stay.web_url) as raw:
        raw.request("GET /?name=thread")
        street.folder.wait("began-thread")
    street.folder.wait("interrupted-thread")
    assert street.client.get(streams.loop.web_url).status_code == 200
    assert street.folder.count("enter") == 1


def test_a_client_that_leaves_in_the_middle_ends_the_writer(streams: Any, street: Street) -> None:
    with Raw(streams.web.web_url) as raw:
        raw.request("GET /endless/?left")
        assert raw.head()[0] == 200
        raw.chunk()
    street.folder.wait("cancelled-left")
    assert not street.folder.count("all-left")


def test_all_places_are_free_again(streams: Any, street: Street) -> None:
    """After everything that was done above, cut off and left alone."""
    wait_for(lambda: len(pool_of(streams.stay).idle) == 32, "every one of the container's places")
    assert street.folder.count("enter") == 1


def test_a_client_that_is_cut_off_in_its_request_is_noticed(streams: Any, street: Street) -> None:
    with Raw(streams.web.web_url) as raw:
        raw.request("POST /sum\nContent-Length: 100", b"only some")
    test_all_places_are_free_again(streams, street)
    answer = street.client.post(streams.web.web_url + "/sum", content=b"all")
    assert answer.json()["size"] == 3
