"""Methods that answer HTTP: one class, one warm container, and what every address does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from typing import Any

import httpx
import pytest
import uvloop
from conftest import missing
from engine.inside import notes
from engine.web import Raw, Street, printed_until
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from handle_state import pool_of, service_of, spec_of
from kernel.harness import wait_for
from pydantic import BaseModel

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError

pytestmark = pytest.mark.xdist_group("web-endpoints")


class Item(BaseModel):
    name: str
    size: int = 1


def place() -> dict[str, Any]:
    try:
        asyncio.get_running_loop()
        looping = True
    except RuntimeError:
        looping = False
    return {"main": threading.current_thread() is threading.main_thread(), "loop": looping}


class Model:
    @lm.enter()
    def load(self) -> None:
        notes().note("enter")
        self.id = uuid.uuid4().hex
        self.answered = 0

    @lm.method()
    def who(self) -> str:
        return self.id

    @lm.method()
    def hold(self, name: str) -> None:
        notes().note(f"began-{name}")
        notes().wait(f"go-{name}")

    @lm.web_endpoint()
    def predict(self, request: HttpRequest) -> dict[str, Any]:
        self.answered += 1
        return {"id": self.id, "query": dict(request.query_params), **place()}

    @lm.fastapi_endpoint()
    async def predict_async(self, x: int) -> dict[str, Any]:
        return {"id": self.id, "x": x, **place()}

    @lm.fastapi_endpoint(method="POST", docs=True)
    def store(self, item: Item) -> dict[str, Any]:
        return {"name": item.name, "size": item.size}

    @lm.fastapi_endpoint()
    def runs_a_loop(self) -> int:
        async def two() -> int:
            await asyncio.sleep(0)
            return 2

        return asyncio.run(two())

    @lm.fastapi_endpoint(requires_proxy_auth=True)
    def secret(self, request: HttpRequest) -> dict[str, Any]:
        return {"authorization": request.headers.get("authorization")}

    @lm.fastapi_endpoint(cors="https://example.org")
    def shared(self) -> str:
        return "for everybody at example.org"

    @lm.fastapi_endpoint()
    def headers(self, request: HttpRequest) -> JSONResponse:
        ours = {
            "connection": "x-hop",
            "keep-alive": "timeout=5",
            "x-hop": "1",
            "x-end": "2",
        }
        return JSONResponse([list(one) for one in request.headers.items()], headers=ours)

    @lm.fastapi_endpoint()
    def broken(self) -> None:
        print("just before")
        raise LookupError("nothing to be found")

    @lm.fastapi_endpoint()
    def stay(self, name: str) -> str:
        try:
            notes().note(f"began-{name}")
            notes().wait(f"go-{name}")
        except KeyboardInterrupt:
            notes().note(f"interrupted-{name}")
            raise
        return name

    @lm.fastapi_endpoint()
    async def stay_async(self, name: str) -> str:
        try:
            notes().note(f"began-{name}")
            while not notes().count(f"go-{name}"):
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            notes().note(f"interrupted-{name}")
            raise
        return name

    @lm.exit()
    def close(self) -> None:
        notes().note("exit")


@pytest.fixture(scope="module")
def model(street: Street) -> Any:
    return street.cls(Model)()


def test_the_method_of_the_guide_answers_with_what_enter_loaded(model: Any, street: Street) -> None:
    answer = street.client.get(model.predict.get_web_url(), params={"x": 1})
    assert answer.status_code == 200
    told = answer.json()
    assert told["query"] == {"x": "1"}
    assert told["id"] == model.who.remote()
    assert street.folder.count("enter") == 1


def test_a_sync_method_runs_on_the_main_thread_and_sees_no_loop(model: Any, street: Street) -> None:
    told = street.client.get(model.predict.web_url).json()
    assert (told["main"], told["loop"]) == (True, False)
    assert street.client.get(model.runs_a_loop.web_url).json() == 2


def test_an_async_method_runs_on_the_loop(model: Any, street: Street) -> None:
    told = street.client.get(model.predict_async.web_url, params={"x": 3}).json()
    assert told == {"id": model.who.remote(), "x": 3, "main": True, "loop": True}


def test_arguments_are_read_and_checked_as_fastapi_does(model: Any, street: Street) -> None:
    url, client = model.store.web_url, street.client
    assert client.post(url, json={"name": "a", "size": 2}).json() == {"name": "a", "size": 2}
    wrong = client.post(url, json={"size": "many"})
    assert wrong.status_code == 422
    assert {one["loc"][-1] for one in wrong.json()["detail"]} == {"name", "size"}
    assert client.get(model.predict_async.web_url).status_code == 422


def test_docs_are_there_where_they_are_asked_for(model: Any, street: Street) -> None:
    client = street.client
    assert "swagger" in client.get(model.store.web_url + "/docs").text.lower()
    schema = client.get(model.store.web_url + "/openapi.json").json()
    assert list(schema["paths"]["/"]) == ["post"]
    assert client.get(model.predict.web_url + "/docs").status_code == 404
    assert client.get(model.predict.web_url + "/openapi.json").status_code == 404


def test_head_404_and_405(model: Any, street: Street) -> None:
    client = street.client
    head = client.head(model.predict.web_url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert client.get(model.predict.web_url + "/nothing/here").status_code == 404
    wrong = client.post(model.predict.web_url)
    assert wrong.status_code == 405
    assert "GET" in wrong.headers["allow"]
    assert client.get(model.store.web_url).status_code == 405


def test_requests_and_calls_take_turns(model: Any, street: Street) -> None:
    call = model.hold.spawn("turn")
    street.folder.wait("began-turn")
    request = street.request("GET", model.predict.web_url)
    street.go("turn")
    call.get(timeout=60)
    assert request.answer().status_code == 200
    assert street.folder.count("enter") == 1


def test_a_loop_that_watched_a_socket_leaves_it_blocking(model: Any, street: Street) -> None:
    """Libuv, of which uvloop is made, does not: a call would then spin, or lose what it sends."""
    assert street.client.get(model.predict.web_url).status_code == 200
    pool = pool_of(model.predict)
    (slot,) = pool.idle
    assert os.get_blocking(slot.channel.fileno())

    async def call() -> str:
        found: str = await model.who.remote.aio()
        return found

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        assert loop.run_until_complete(call()) == model.who.remote()
    assert os.get_blocking(slot.channel.fileno())


# --- what goes wrong ------------------------------------------------------------------------------


def test_an_exception_is_shown_in_the_notebook_and_not_to_the_client(
    model: Any, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = street.client.get(model.broken.web_url)
    assert answer.status_code == 500
    for word in ("Traceback", "LookupError", "nothing to be found", ".py"):
        assert word not in answer.text
    out, err = printed_until(capfd, "LookupError: nothing to be found\n")
    assert "just before" in out
    assert 'raise LookupError("nothing to be found")' in err
    assert "lifecycle_magic" not in err
    assert err.count("Traceback") == 1
    wait_for(lambda: "LookupError: nothing to be found" in street.log("Model"), "it in the log")
    assert street.client.get(model.predict.web_url).json()["id"] == model.who.remote()


@pytest.mark.parametrize("method", ["stay", "stay_async"])
def test_a_client_that_leaves_ends_the_work_and_spares_the_container(
    method: str, model: Any, street: Street
) -> None:
    name = f"leaves-{method}"
    with Raw(getattr(model, method).web_url) as raw:
        raw.request(f"GET /?name={name}")
        street.folder.wait(f"began-{name}")
    street.folder.wait(f"interrupted-{name}")
    assert street.client.get(model.predict.web_url).json()["id"] == model.who.remote()
    assert street.folder.count("enter") == 1


def test_a_client_that_leaves_while_it_waits_never_runs(model: Any, street: Street) -> None:
    first = street.request("GET", model.stay.web_url, params={"name": "first"})
    street.folder.wait("began-first")
    with Raw(model.stay.web_url) as raw:
        raw.request("GET /?name=second")
        pool = pool_of(model.stay)
        wait_for(lambda: len(pool.waiting) == 1, "the second one waits")
    wait_for(lambda: not pool.waiting, "the second one is forgotten")
    street.go("first", "second")
    assert first.answer().json() == "first"
    assert street.client.get(model.predict.web_url).status_code == 200
    assert not street.folder.count("began-second")


def test_a_remote_call_of_a_web_method_names_its_address(model: Any) -> None:
    for way in (model.predict.remote, model.predict.spawn, model.predict_async.remote):
        with pytest.raises(InvalidError, match="get_web_url"):
            way(1)
    with pytest.raises(InvalidError, match="fastapi_endpoint"):
        _ = model.who.web_url


# --- who may ask ----------------------------------------------------------------------------------


def test_a_bearer_token_opens_and_nothing_else_does(model: Any, street: Street) -> None:
    url, token = model.secret.web_url, model.secret.web_token
    assert token
    assert model.predict.web_token is None
    refused = [
        street.client.get(url, headers=headers)
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer \u00fc".encode("latin-1")},
        )
    ]
    assert {one.status_code for one in refused} == {401}
    assert {one.headers["www-authenticate"] for one in refused} == {"Bearer"}
    right = street.client.get(url, headers={"Authorization": f"bearer {token}"})
    assert right.status_code == 200
    assert right.json() == {"authorization": None}  # it was for the kernel's side


def test_pages_of_other_origins_read_nothing_unless_asked(model: Any, street: Street) -> None:
    origin = {"Origin": "https://example.org"}
    preflight = origin | {"Access-Control-Request-Method": "GET"}
    closed = street.client.get(model.predict.web_url, headers=origin)
    assert closed.status_code == 403
    assert not [name for name in closed.headers if name.startswith("access-control")]
    assert street.client.options(model.predict.web_url, headers=preflight).status_code == 403
    open_ = street.client.get(model.shared.web_url, headers=origin)
    assert open_.headers["access-control-allow-origin"] == "https://example.org"
    asked = street.client.options(model.shared.web_url, headers=preflight)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://example.org"
    other = street.client.get(model.shared.web_url, headers={"Origin": "https://other.org"})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_foreign_host_is_misdirected(host: str, status: int, model: Any, street: Street) -> None:
    answer = street.client.get(model.predict.web_url, headers={"Host": host})
    assert answer.status_code == status


def test_headers_of_one_connection_end_with_it(model: Any, street: Street) -> None:
    with Raw(model.headers.web_url) as raw:
        raw.request(
            "GET /\nConnection: keep-alive, X-Mine\nX-Mine: 1\nX-Yours: 2\nTE: trailers\n"
            "Keep-Alive: timeout=5\nProxy-Connection: close\nProxy-Authorization: Basic eA=="
        )
        status, headers = raw.head()
        seen = dict(json.loads(raw.file.read(int(headers["content-length"]))))
    assert status == 200
    assert seen["x-yours"] == "2"
    gone = {"connection", "x-mine", "te", "keep-alive", "proxy-connection", "proxy-authorization"}
    assert not gone & set(seen)
    assert headers["x-end"] == "2"
    assert not {"keep-alive", "x-hop"} & set(headers)
    assert "x-hop" not in headers.get("connection", "")
    assert "date" in headers
    assert "server" not in headers


def test_it_listens_on_the_loopback_alone(model: Any) -> None:
    port = httpx.URL(model.predict.web_url).port
    assert port is not None
    listening = subprocess.run(
        ["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True, check=True
    )
    places = [
        line.split()[1]
        for line in listening.stdout.splitlines()
        if len(line.split()) > 3
        and line.split()[3] == "0A"
        and line.split()[1].endswith(f":{port:04X}")
    ]
    assert places == [f"0100007F:{port:04X}"]


# --- addresses ------------------------------------------------------------------------------------


class Greeter:
    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    @lm.fastapi_endpoint(label="greet")
    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"

    @lm.fastapi_endpoint()
    def other(self) -> str:
        return self.greeting


def test_equal_arguments_share_an_address_and_others_have_their_own(street: Street) -> None:
    greeter = street.cls(Greeter)
    plain, same, other = greeter(), greeter(), greeter("bye")
    urls = {plain.greet.web_url, other.greet.web_url, plain.other.web_url}
    assert len(urls) == 3
    assert same.greet.web_url == plain.greet.web_url
    asked = {"name": "you"}
    assert street.client.get(plain.greet.web_url, params=asked).json() == "hello you"
    assert street.client.get(other.greet.web_url, params=asked).json() == "bye you"


def test_a_label_is_one_methods_and_its_port_stays(street: Street) -> None:
    class First:
        @lm.fastapi_endpoint(label="only-one")
        def here(self) -> str:
            return "first"

    class Second:
        @lm.fastapi_endpoint(label="only-one")
        def there(self) -> str:
            return "second"

    first = street.cls(First)().here.web_url
    with pytest.raises(InvalidError, match=r"Second\.there.*only-one.*First\.here"):
        street.cls(Second)().there.get_web_url()
    assert street.cls(First)().here.web_url == first


def test_a_function_answers(street: Street) -> None:
    @street.app.function(**street.options())
    @lm.fastapi_endpoint(method="POST")
    def double(x: int) -> int:
        return 2 * x

    @street.app.function(**street.options())
    @lm.fastapi_endpoint()
    async def triple(x: int) -> int:
        return 3 * x

    assert street.client.post(double.get_web_url(), params={"x": 4}).json() == 8
    assert street.client.get(triple.web_url, params={"x": 4}).json() == 12


@pytest.mark.usefixtures("need_mounts")
def test_a_container_without_a_network_answers(street: Street) -> None:
    class Offline:
        @lm.fastapi_endpoint()
        def devices(self) -> list[str]:
            return [name for _, name in socket.if_nameindex()]

    answer = street.client.get(street.cls(Offline, block_network=True)().devices.web_url)
    assert answer.json() == ["lo"]


def test_curl_gets_an_answer(model: Any) -> None:
    if shutil.which("curl") is None:
        missing("curl is not on the path: install it")
    got = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--json",
         '{"name": "c"}', model.store.web_url],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(got.stdout) == {"name": "c", "size": 1}


# --- new code -------------------------------------------------------------------------------------


def test_a_change_of_what_a_parameter_is_gives_the_live_instance_new_code(street: Street) -> None:
    def declare(kind: type) -> Any:
        class Reader:
            @lm.enter()
            def load(self) -> None:
                notes().note("enter-reader")

            @lm.fastapi_endpoint()
            def read(self, x) -> str:  # type: ignore[no-untyped-def]
                return type(x).__name__

        Reader.read.__annotations__["x"] = kind
        return street.cls(Reader)()

    seen = [
        street.client.get(declare(kind).read.web_url, params={"x": "1"}).json()
        for kind in (int, str, int)
    ]
    assert seen == ["int", "str", "int"]
    assert street.folder.count("enter-reader") == 1


def test_another_method_and_docs_are_new_code_too(street: Street) -> None:
    def declare(method: str, docs: bool) -> Any:
        class Turning:
            @lm.fastapi_endpoint(method=method, docs=docs)
            def turn(self) -> str:
                return "turned"

        return street.cls(Turning)().turn.web_url

    url = declare("GET", False)
    assert street.client.get(url).json() == "turned"
    assert declare("PUT", True) == url
    assert street.client.put(url).json() == "turned"
    assert street.client.get(url).status_code == 405
    assert street.client.get(url + "/docs").status_code == 200


# --- the image, and this machine ------------------------------------------------------------------


def test_an_image_without_fastapi_raises_with_the_fix(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    class Bare:
        @lm.fastapi_endpoint()
        def hello(self) -> str:
            return "hello"

    bare = street.cls(Bare, image=lm.Image.debian_slim())()
    answer = street.client.get(bare.hello.web_url)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "fastapi" not in answer.text
    printed_until(capfd, 'add .pip_install("fastapi") to the image')


def test_stopping_closes_the_address(street: Street) -> None:
    app = lm.App("stopped", engine=street.engine)

    class Short:
        @lm.fastapi_endpoint()
        def hello(self) -> str:
            return "hello"

        @lm.exit()
        def close(self) -> None:
            notes().note("exit-short")

    short = app.cls(Short, **street.options())()
    url = short.hello.web_url
    assert street.client.get(url).json() == "hello"
    app.stop()
    assert street.folder.count("exit-short") == 1
    with pytest.raises(httpx.ConnectError):
        street.client.get(url)
    assert short.hello.web_url == url
    assert street.client.get(url).json() == "hello"


class Sized:
    size: int = lm.parameter()
    name: str = lm.parameter(default="plain")

    @lm.enter()
    def load(self) -> None:
        self.id = uuid.uuid4().hex

    @lm.fastapi_endpoint()
    def show(self, x: int = 0) -> dict[str, Any]:
        return {"size": self.size, "name": self.name, "x": x, "id": self.id}


def test_a_query_chooses_the_instance_of_a_class_with_parameters(street: Street) -> None:
    sized = street.cls(Sized)
    kept = sized(size=3)
    served = service_of(sized).serving
    [address] = served.open_all(spec_of(sized))

    def ask(**query: Any) -> httpx.Response:
        return street.client.get(address.url, params=query)

    three, four = ask(size=3, x=1).json(), ask(size=4, name="fine").json()
    assert (three["size"], three["name"], three["x"]) == (3, "plain", 1)
    assert (four["size"], four["name"], four["x"]) == (4, "fine", 0)
    assert ask(size=3, name="plain").json()["id"] == three["id"]
    assert street.client.get(kept.show.get_web_url()).json()["id"] == three["id"]
    for query, said in (
        ({"x": 1}, "needs size"),
        ({"size": "big"}, "size is int, not 'big'"),
        ({"size": 1, "colour": "red"}, "There is no argument 'colour' here"),
    ):
        answer = ask(**query)
        assert (answer.status_code, said in answer.text) == (400, True)
    other = street.client.get(kept.show.get_web_url(), params={"size": 4})
    assert (other.status_code, "another size" in other.text) == (400, True)
