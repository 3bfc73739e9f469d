"""What clients see when containers die, take too long, or get new code."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from engine.inside import notes
from engine.web import Raw, Street, printed_until
from engine.work import PATIENCE
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from handle_state import pool_of
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic.web import body

pytestmark = pytest.mark.xdist_group("web-faults")


class Mortal:
    @lm.enter()
    def load(self) -> None:
        notes().note("enter")

    @lm.fastapi_endpoint()
    def die(self, name: str) -> str:
        notes().note(f"dies-{name}")
        if notes().count(f"dies-{name}") == 1:
            os._exit(3)
        return name

    @lm.fastapi_endpoint()
    def stay(self, name: str) -> str:
        notes().note(f"began-{name}")
        notes().wait(f"go-{name}")
        return name

    @lm.asgi_app()
    def web(self) -> FastAPI:
        app = FastAPI()

        @app.get("/begins")
        async def begins() -> StreamingResponse:
            def items() -> Iterator[bytes]:
                yield b"begun"
                notes().wait("never")

            return StreamingResponse(items())

        return app


@pytest.fixture(scope="module")
def mortal(street: Street) -> Any:
    return street.cls(Mortal)()


def test_a_container_that_dies_in_a_request_is_a_bad_gateway(
    mortal: Any, street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = street.client.get(mortal.die.web_url, params={"name": "one"})
    assert answer.status_code == 502
    printed_until(capfd, "exit code 3")
    again = street.client.get(mortal.die.web_url, params={"name": "one"})
    assert again.json() == "one"


def test_a_container_that_is_killed_in_a_request_fails_that_one_alone(
    mortal: Any, street: Street
) -> None:
    url = mortal.stay.web_url
    first = street.request("GET", url, params={"name": "killed"})
    street.folder.wait("began-killed")
    second = street.request("GET", url, params={"name": "waiting"})
    wait_for(lambda: pool_of(mortal.stay).waiting, "the second one waits")
    street.go("waiting")
    (container,) = street.containers("Mortal")
    container.kill()
    assert first.answer().status_code == 502
    assert second.answer().json() == "waiting"


def test_a_container_that_dies_in_its_answer_breaks_it_off(mortal: Any, street: Street) -> None:
    with Raw(mortal.web.web_url) as raw:
        raw.request("GET /begins")
        assert raw.head()[0] == 200
        assert raw.chunk() == b"begun"
        (container,) = street.containers("Mortal")
        container.kill()
        assert raw.file.read() == b""  # and not the 0 that ends a chunked body


# --- time limits ----------------------------------------------------------------------------------


class Slow:
    @lm.enter()
    def load(self) -> None:
        notes().note("enter-slow")

    @lm.fastapi_endpoint()
    def sleeps(self) -> None:
        try:
            notes().wait("never")
        except KeyboardInterrupt:
            notes().note("interrupted-slow")
            raise

    @lm.fastapi_endpoint(method="POST")
    async def reads(self, request: Request) -> int:
        return len(await request.body())


def test_a_time_limit_is_a_gateways_or_a_requests(
    street: Street, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = street.cls(Slow, timeout=2)()
    assert street.client.post(slow.reads.web_url, content=b"abc").json() == 3
    assert street.client.get(slow.sleeps.web_url).status_code == 504
    street.folder.wait("interrupted-slow")
    printed_until(capfd, "longer than timeout=2 s")
    with monkeypatch.context() as shorter, Raw(slow.reads.web_url) as raw:
        shorter.setattr(body, "STALL_SECONDS", 0.05)
        raw.request("POST /\nContent-Length: 10", b"abc")
        assert raw.head()[0] == 408
    assert street.client.post(slow.reads.web_url, content=b"abc").json() == 3
    assert street.folder.count("enter-slow") == 1


# --- new code -------------------------------------------------------------------------------------


class Stream:
    """Clients that ask for one thing again and again; every answer is kept."""

    def __init__(self, url: str, clients: int = 3) -> None:
        self.answers: list[Any] = []
        self.wrong: list[Any] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(clients)]

    def _ask(self, url: str) -> None:
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            while not self._over.is_set():
                try:
                    answer = client.get(url)
                except httpx.HTTPError as error:
                    self.wrong.append(error)
                    continue
                if answer.status_code == 200:
                    self.answers.append(tuple(answer.json()))
                else:
                    self.wrong.append((answer.status_code, answer.text))

    def wait(self, wanted: Any) -> None:
        wait_for(lambda: self.wrong or wanted in self.answers[-50:], f"the answer {wanted}")

    def __enter__(self) -> Stream:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()


def swapped(street: Street, version: int) -> Any:
    class Swapped:
        @lm.enter()
        def load(self) -> None:
            notes().note("enter-swapped")
            self.loaded = notes().count("enter-swapped")

        @lm.fastapi_endpoint()
        def get(self) -> list[int]:
            return [version, self.loaded]

    return street.cls(Swapped)()


def test_an_endpoint_gets_new_code_between_two_requests_and_none_is_lost(street: Street) -> None:
    url = swapped(street, 1).get.web_url
    assert street.client.get(url).json() == [1, 1]
    with Stream(url) as stream:
        for version in range(2, 8):
            stream.wait((version - 1, 1))
            assert swapped(street, version).get.web_url == url
        stream.wait((7, 1))
    assert not stream.wrong
    assert street.folder.count("enter-swapped") == 1
    assert {version for version, _ in stream.answers} == set(range(1, 8))


def replaced(street: Street, version: int) -> Any:
    class Replaced:
        @lm.enter()
        def load(self) -> None:
            notes().note("enter-replaced")

        @lm.asgi_app()
        def web(self) -> FastAPI:
            app = FastAPI()

            @app.get("/")
            async def get() -> list[int]:
                return [version]

            return app

        @lm.exit()
        def close(self) -> None:
            notes().note("exit-replaced")

    return street.cls(Replaced)()


def test_a_changed_factory_gets_a_new_container_and_no_request_is_lost(street: Street) -> None:
    url = replaced(street, 1).web.web_url
    assert street.client.get(url).json() == [1]
    with Stream(url) as stream:
        for version in (2, 3):
            stream.wait((version - 1,))
            assert replaced(street, version).web.web_url == url
        stream.wait((3,))
    assert not stream.wrong
    assert street.folder.count("enter-replaced") == 3
    street.folder.wait("exit-replaced", 2)


def test_an_address_closes_with_its_method(street: Street) -> None:
    def declare(**methods: Any) -> Any:
        return street.cls(type("Changing", (), {"__module__": __name__, **methods}))()

    @lm.fastapi_endpoint()
    def one(self: Any) -> int:
        return 1

    @lm.fastapi_endpoint()
    def two(self: Any) -> int:
        return 2

    both = declare(one=one, two=two)
    urls = both.one.web_url, both.two.web_url
    assert [street.client.get(url).json() for url in urls] == [1, 2]
    only = declare(two=two)
    assert street.client.get(only.two.web_url).json() == 2

    def is_closed() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            street.client.get(urls[0])
            return False
        return True

    wait_for(is_closed, "the end of the other address")


class Lasting:
    @lm.fastapi_endpoint()
    def lasts(self) -> None:
        try:
            notes().note("began-lasting")
            notes().wait("never")
        except KeyboardInterrupt:
            notes().note("interrupted-lasting")
            raise

    @lm.exit()
    def close(self) -> None:
        notes().note("exit-lasting")


def test_a_request_that_does_not_end_is_cut_when_its_app_stops(
    street: Street, capfd: pytest.CaptureFixture[str]
) -> None:
    app = lm.App("lasting", engine=street.engine)
    lasting = app.cls(Lasting, **street.options())()
    request = street.request("GET", lasting.lasts.web_url)
    street.folder.wait("began-lasting")
    app.stop()
    try:
        assert request.answer().status_code in (500, 503)
    except httpx.HTTPError:
        pass  # its connection was closed
    assert street.folder.count("interrupted-lasting") == 1
    assert street.folder.count("exit-lasting") == 1
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert "uvicorn" not in told
