"""Applications of FastAPI, Starlette and Flask, and servers of their own, in a warm container."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import websockets.exceptions
import websockets.sync.client
from engine.inside import notes
from engine.web import Street, free_port, printed_until
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

import lifecycle_magic as lm
from lifecycle_magic.session import session

pytestmark = pytest.mark.xdist_group("web-apps")


FILES, SOCKETS = free_port(), free_port()


class Item(BaseModel):
    name: str
    price: float


class Apps:
    @lm.enter()
    def load(self) -> None:
        self.order = ["enter"]
        self.items: dict[int, Item] = {}

    @lm.asgi_app()
    def api(self) -> FastAPI:
        self.order.append("api")
        app = FastAPI()

        @app.get("/order")
        def order() -> list[str]:
            return self.order

        @app.get("/items/{number}", responses={404: {"description": "no such item"}})
        async def find(number: int) -> Item:
            if number not in self.items:
                raise HTTPException(404, "no such item")
            return self.items[number]

        @app.put("/items/{number}")
        async def put(number: int, item: Item) -> Item:
            self.items[number] = item
            return item

        @app.get("/search")
        def search(
            text: str = Query(max_length=10), limit: int = Query(5, ge=1, le=9)
        ) -> list[str]:
            return [text] * limit

        @app.get("/broken")
        async def broken() -> None:
            raise LookupError("nothing here")

        @app.get("/path")
        async def path(request: Request) -> dict[str, Any]:
            return {"path": request.url.path, "root": request.scope.get("root_path", "")}

        return app

    @lm.asgi_app()
    def star(self) -> Any:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
            self.order.append("startup")
            notes().note("startup")
            loop = asyncio.get_running_loop()
            yield {"word": "from startup", "loop": loop}
            late = bool(notes().count("exit")) or asyncio.get_running_loop() is not loop
            notes().note("shutdown-too-late" if late else "shutdown")

        async def state(request: Request) -> JSONResponse:
            same = request.state.loop is asyncio.get_running_loop()
            return JSONResponse([request.state.word, same])

        return Starlette(routes=[Route("/state", state)], lifespan=lifespan)

    @lm.asgi_app()
    async def bare(self) -> Any:
        """An application of no framework, and without a lifespan."""
        await asyncio.sleep(0)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise NotImplementedError(scope["type"])
            if scope["path"] == "/silent":
                return
            await send({"type": "http.response.start", "status": 202, "headers": []})
            if scope["path"] == "/half":
                more = {"type": "http.response.body", "body": b"half", "more_body": True}
                await send(more)
                raise LookupError("in the middle")
            if scope["path"] == "/open":
                more = {"type": "http.response.body", "body": b"half", "more_body": True}
                await send(more)
                return
            await send({"type": "http.response.body", "body": b"bare"})

        return app

    @lm.wsgi_app()
    def flask(self) -> Any:
        import flask

        app = flask.Flask("shop")
        app.secret_key = "not secret"

        @app.post("/upload")
        def upload() -> Any:
            file = flask.request.files["file"]
            return {"name": file.filename, "size": len(file.read())}

        @app.post("/size")
        def size() -> Any:
            return {"size": sum(len(piece) for piece in flask.request.stream)}

        @app.get("/steps")
        def steps() -> Any:
            def items() -> Iterator[str]:
                for number in range(3):
                    notes().wait("go-step", number)
                    yield f"{number}\n"

            return flask.Response(items(), mimetype="text/plain")

        @app.get("/visits")
        def visits() -> Any:
            flask.session["visits"] = flask.session.get("visits", 0) + 1
            answer = flask.jsonify(flask.session["visits"])
            answer.set_cookie("second", "2")
            return answer

        @app.get("/where/<name>")
        def where(name: str) -> Any:
            main = threading.current_thread() is threading.main_thread()
            environ = flask.request.environ
            told = {key: environ[key] for key in ("SCRIPT_NAME", "PATH_INFO")}
            url = flask.url_for("where", name=name)
            return {"name": name, "url": url, "main": main, **told}

        @app.get("/broken")
        def broken() -> Any:
            raise LookupError("flask tells this itself")

        @app.get("/half")
        def half() -> Any:
            def items() -> Iterator[bytes]:
                yield b"half"
                raise LookupError("in the middle of flask")

            return flask.Response(items())

        return app

    @lm.web_server(FILES)
    def files(self) -> None:
        os.makedirs("served", exist_ok=True)
        with open("served/hello.txt", "w") as file:
            file.write("hello")
        served = ("--directory", "served", "--bind", "127.0.0.1")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(FILES), *served], stderr=subprocess.DEVNULL
        )

    @lm.web_server(SOCKETS)
    def sockets(self) -> None:
        from websockets.sync.server import ServerConnection, serve

        def echo(connection: ServerConnection) -> None:
            try:
                for message in connection:
                    if message == "close":
                        connection.close(4001, "as asked")
                        return
                    connection.send(message)
            finally:
                notes().note(f"closed-{connection.close_code}")

        server = serve(echo, "127.0.0.1", SOCKETS, subprotocols=["two"])  # type: ignore[list-item]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    @lm.method()
    def told(self) -> list[str]:
        return self.order

    @lm.exit()
    def close(self) -> None:
        self.server.kill()
        self.server.wait()
        notes().note("exit")


@pytest.fixture(scope="module")
def apps(street: Street) -> Any:
    return street.cls(Apps)()


# --- ASGI -----------------------------------------------------------------------------------------


def test_a_fastapi_application_is_served_with_its_docs(apps: Any, street: Street) -> None:
    url, client = apps.api.web_url, street.client
    assert client.put(url + "/items/1", json={"name": "a", "price": 2}).json()["price"] == 2.0
    assert client.get(url + "/items/1").json() == {"name": "a", "price": 2.0}
    assert client.get(url + "//items/1").json() == {"name": "a", "price": 2.0}
    assert client.get(url + "//search", params={"q": "x"}).url.path == "//search"
    assert client.get(url + "/items/2").status_code == 404
    assert client.get(url + "/items/no").status_code == 422
    assert "openapi.json" in client.get(url + "/docs").text
    assert client.delete(url + "/items/1").status_code == 405
    assert client.head(url + "/order").status_code == 405  # as FastAPI has it


def test_factories_and_startup_run_once_after_enter(apps: Any, street: Street) -> None:
    order = street.client.get(apps.api.web_url + "/order").json()
    assert order == ["enter", "api", "startup"] == apps.told.remote()
    assert street.folder.count("startup") == 1


def test_state_of_the_lifespan_is_in_each_request(apps: Any, street: Street) -> None:
    for _ in range(2):
        told = street.client.get(apps.star.web_url + "/state").json()
        assert told == ["from startup", True]


def test_an_application_without_a_framework_will_do(apps: Any, street: Street) -> None:
    answer = street.client.get(apps.bare.web_url)
    assert (answer.status_code, answer.text) == (202, "bare")


def test_an_application_without_a_response_is_an_error(
    apps: Any, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    assert street.client.get(apps.bare.web_url + "/silent").status_code == 500
    printed_until(capfd, "Apps.bare: RuntimeError: the application did not answer")


@pytest.mark.parametrize(("app", "path"), [("bare", "half"), ("bare", "open"), ("flask", "half")])
def test_an_answer_that_breaks_off_is_seen_to_be_incomplete(
    app: str, path: str, apps: Any, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        street.client.get(f"{getattr(apps, app).web_url}/{path}")
    if path == "half":
        printed_until(capfd, "LookupError: in the middle")
    assert street.client.get(apps.bare.web_url).text == "bare"


def test_a_broken_route_is_reported_only_in_the_notebook(
    apps: Any, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = street.client.get(apps.api.web_url + "/broken")
    assert answer.status_code == 500
    assert "LookupError" not in answer.text
    printed_until(capfd, "LookupError: nothing here")


def test_behind_a_prefix_an_application_knows_it(apps: Any, street: Street) -> None:
    prefix = {"X-Forwarded-Prefix": "/proxy/8000/"}
    told = street.client.get(apps.api.web_url + "/path", headers=prefix).json()
    assert told == {"path": "/proxy/8000/path", "root": "/proxy/8000"}
    docs = street.client.get(apps.api.web_url + "/docs", headers=prefix).text
    assert "/proxy/8000/openapi.json" in docs


def test_an_application_keeps_what_its_schema_promises(apps: Any) -> None:
    # The import takes a second, which no test that is only collected should cost.
    import schemathesis
    from schemathesis.checks import (
        content_type_conformance,
        not_a_server_error,
        response_schema_conformance,
        status_code_conformance,
    )

    schema = schemathesis.openapi.from_url(apps.api.web_url + "/openapi.json")
    checked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/broken":
            continue

        @hypothesis.settings(
            max_examples=15,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(
                checks=[
                    not_a_server_error,
                    status_code_conformance,
                    content_type_conformance,
                    response_schema_conformance,
                ]
            )

        check()
        checked.append(operation.label)
    assert {"GET /search", "PUT /items/{number}", "GET /items/{number}"} <= set(checked)


# --- WSGI -----------------------------------------------------------------------------------------


def test_flask_takes_uploads(apps: Any, street: Street) -> None:
    url, data = apps.flask.web_url, os.urandom(300_000)
    sent = street.client.post(url + "/upload", files={"file": ("a.bin", data)})
    assert sent.json() == {"name": "a.bin", "size": len(data)}
    pieces = iter([data[:100_000], data[100_000:]])
    assert street.client.post(url + "/size", content=pieces).json() == {"size": len(data)}


def test_flask_streams_as_it_yields(apps: Any, street: Street) -> None:
    with street.client.stream("GET", apps.flask.web_url + "/steps") as answer:
        lines = answer.iter_lines()
        for number in range(3):
            assert next(lines) == str(number)
            street.go("step")
        assert next(lines, None) is None


def test_flask_keeps_cookies_apart(apps: Any, street: Street) -> None:
    with httpx.Client(trust_env=False) as client:
        url = apps.flask.web_url + "/visits"
        assert [client.get(url).json() for _ in range(3)] == [1, 2, 3]
        assert set(client.cookies) == {"session", "second"}


def test_flask_runs_on_the_main_thread_and_knows_its_prefix(apps: Any, street: Street) -> None:
    url = apps.flask.web_url + "/where/caf%C3%A9"
    plain = street.client.get(url).json()
    assert plain == {
        "name": "café",
        "url": "/where/caf%C3%A9",
        "main": True,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/where/cafÃ©",
    }
    below = street.client.get(url, headers={"X-Forwarded-Prefix": "/proxy/8"}).json()
    assert (below["SCRIPT_NAME"], below["url"]) == ("/proxy/8", "/proxy/8/where/caf%C3%A9")
    assert below["PATH_INFO"] == plain["PATH_INFO"]


def test_flask_answers_head_404_405_and_500(apps: Any, street: Street) -> None:
    url, client = apps.flask.web_url, street.client
    head = client.head(url + "/where/x")
    assert (head.status_code, head.content) == (200, b"")
    assert client.get(url + "/nowhere").status_code == 404
    assert client.get(url + "/upload").status_code == 405
    assert client.get(url + "/broken").status_code == 500


# --- a server of its own --------------------------------------------------------------------------


def test_a_plain_server_is_reached(apps: Any, street: Street) -> None:
    url, client = apps.files.web_url, street.client
    answer = client.get(url + "/hello.txt")
    assert (answer.status_code, answer.text) == (200, "hello")
    assert answer.headers["server"].startswith("SimpleHTTP")
    head = client.head(url + "/hello.txt")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "5")
    assert client.get(url + "/nothing").status_code == 404
    assert client.post(url, content=b"x" * 100_000).status_code == 501
    for _ in range(20):
        assert client.get(url + "/hello.txt").text == "hello"


def test_websockets_reach_a_server(apps: Any, street: Street) -> None:
    url = apps.sockets.web_url.replace("http", "ws")
    connect = functools.partial(websockets.sync.client.connect, url, max_size=None, proxy=None)
    with connect(subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
        for message in ("text", b"bytes", "é" * 1000, b"x" * (1 << 20)):
            client.send(message)
            assert client.recv(timeout=60) == message
        client.send(["in ", "pieces"])
        assert client.recv(timeout=60) == "in pieces"
        client.ping().wait(60)
        client.send("close")
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(timeout=60)
        assert (client.close_code, client.close_reason) == (4001, "as asked")
    with connect(subprotocols=["two"]) as client:
        client.close(4002, "enough")
    street.folder.wait("closed-4002")
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        connect()  # without a subprotocol, which this server wants
    assert refused.value.response.status_code == 400
    assert b"missing subprotocol" in (refused.value.response.body or b"")


def test_a_server_that_never_listens_is_a_failed_start(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    class Deaf:
        @lm.web_server(free_port(), startup_timeout=0.2)
        def serve(self) -> None:
            notes().note("deaf")

    answer = street.client.get(street.cls(Deaf)().serve.web_url)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    printed_until(capfd, "within 0.2 s. Fix: make it listen on 127.0.0.1 or 0.0.0.0")


@pytest.mark.parametrize("where", ["worker", "child", "grandchild"])
def test_a_server_that_enter_has_started_is_served(street: Street, where: str) -> None:
    port = free_port()

    class Started:
        @lm.enter()
        def start(self) -> None:
            if where == "worker":
                made = http.server.ThreadingHTTPServer(
                    ("127.0.0.1", port), http.server.SimpleHTTPRequestHandler
                )
                threading.Thread(target=made.serve_forever, daemon=True).start()
                return
            words = [sys.executable, "-m", "http.server", str(port)]
            if where == "grandchild":
                words = ["sh", "-c", f"{' '.join(words)} & wait"]
            self.server = subprocess.Popen(words, start_new_session=True)
            while self.server.poll() is None:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    return

        @lm.web_server(port)
        def serve(self) -> None:
            pass

    assert street.client.get(street.cls(Started)().serve.web_url).status_code == 200


@pytest.mark.parametrize(
    "street", [pytest.param("process", marks=pytest.mark.process)], indirect=True
)
def test_a_used_port_is_reported(street: Street, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        class Taken:
            @lm.web_server(port)
            def serve(self) -> None:
                notes().note("never")

        assert street.client.get(street.cls(Taken)().serve.web_url).status_code == 503
    printed_until(capfd, f"another process listens on port {port} already")
    assert not street.folder.count("never")


@pytest.mark.usefixtures("need_mounts")
def test_servers_answer_without_a_network(street: Street) -> None:
    port = free_port()

    class Alone:
        @lm.web_server(port)
        def serve(self) -> None:
            server = http.server.ThreadingHTTPServer(
                ("127.0.0.1", port), http.server.SimpleHTTPRequestHandler
            )
            threading.Thread(target=server.serve_forever, daemon=True).start()

    answer = street.client.get(street.cls(Alone, block_network=True)().serve.web_url)
    assert answer.status_code == 200


# --- starting and ending --------------------------------------------------------------------------


def test_a_failing_startup_is_a_failed_enter(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        @lm.enter()
        def load(self) -> None:
            notes().note("enter-failing")

        @lm.asgi_app()
        def web(self) -> Any:
            @contextlib.asynccontextmanager
            async def lifespan(app: Any) -> AsyncIterator[None]:
                raise ConnectionError("no database")
                yield

            return FastAPI(lifespan=lifespan)

        @lm.method()
        def hello(self) -> str:
            return "hello"

        @lm.exit()
        def close(self) -> None:
            notes().note("exit-failing")

    failing = street.cls(Failing)()
    answer = street.client.get(failing.web.web_url)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "database" not in answer.text
    printed_until(capfd, "no database")
    assert street.client.get(failing.web.web_url).status_code == 503
    assert street.folder.count("enter-failing") == 1  # it is not tried with every request
    with pytest.raises(RuntimeError, match=r"(?s)Failing\.web: .*startup failed.*no database"):
        failing.hello.remote()
    assert street.folder.count("exit-failing") == 0


@pytest.mark.parametrize("kind", ["asgi_app", "wsgi_app"])
def test_a_factory_without_a_return_value_is_reported(
    kind: str, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    class Forgetful:
        @getattr(lm, kind)()
        def web(self) -> Any:
            FastAPI()

    assert street.client.get(street.cls(Forgetful)().web.web_url).status_code == 503
    printed_until(capfd, f"a @{kind} returns the application")


def test_shutdown_runs_before_exit(apps: Any, street: Street) -> None:
    """The last one: it ends the container of the others."""
    assert street.client.get(apps.star.web_url + "/state").status_code == 200
    session.wait_gone(session.current().stop(list(session.current().services), "over"))
    assert street.folder.count("exit") == 1
    assert street.folder.count("shutdown") == 1
    assert not street.folder.count("shutdown-too-late")
