"""Web endpoints of a notebook's kernel: kernels that die, extensions that go, and the way in
through a Jupyter server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client
from engine.web import Request
from kernel.harness import (
    PATIENCE,
    Diary,
    OwnKernel,
    Server,
    own_kernel,
    preamble,
    running,
    server,
)

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("web-kernel")]

SERVED = """\
options["image"] = lm.Image.debian_slim().uv_pip_install("fastapi", "flask", "websockets")

@app.cls(**options)
class Web(Base):
    @lm.fastapi_endpoint()
    def slow(self):
        note("slow")
        while not os.path.exists(OUT + "/go"):
            time.sleep(0.01)
        print("slow is over")
        return "over"

    @lm.asgi_app()
    def app(self):
        from fastapi import FastAPI, WebSocket
        made = FastAPI()

        @made.get("/hi/{name}")
        async def hi(name: str):
            print("hi", name)
            return {"hi": name}

        @made.websocket("/ws")
        async def ws(socket: WebSocket):
            await socket.accept()
            while True:
                await socket.send_text(await socket.receive_text())

        return made

    @lm.exit()
    def close(self):
        note("exit")
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    return str(request.param)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "out")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "tmp") as one:
        yield one


def urls(kernel: Any, engine: str, diary: Diary) -> list[str]:
    """The addresses of ``slow`` and ``app``, of which one has answered."""
    kernel.run(preamble(engine, diary) + SERVED)
    told = kernel.run("print(Web().slow.web_url, Web().app.web_url)").split()
    answer = httpx.get(told[1] + "/hi/you", timeout=120, trust_env=False)
    assert answer.json() == {"hi": "you"}
    return told


def get(url: str) -> Request:
    return Request(lambda client: client.get(url))


def is_closed(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False, timeout=PATIENCE)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


def test_clients_of_a_killed_kernel_hear_of_it_and_exit_runs(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    slow, app = urls(kernel, engine, diary)
    where = kernel.container("Web")
    requests = [get(slow), get(slow)]  # one runs, one waits
    diary.wait("slow")
    kernel.kill()
    for request in requests:
        with pytest.raises(httpx.TransportError):  # cut, or not yet accepted
            request.answer()
    assert is_closed(slow)
    assert is_closed(app)
    where.wait_gone(state_dir)
    assert diary.events() == ["entered", "slow", "exit"]


def test_what_a_request_prints_reaches_the_cell_that_asked_for_the_address(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    urls(kernel, engine, diary)
    cell = kernel.begin("print(Web().app.web_url)")
    url = kernel.outcome(cell).strip()
    kernel.run("'another cell'")
    httpx.get(f"{url}/hi/reader", trust_env=False, timeout=PATIENCE).raise_for_status()
    while True:
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        if message["msg_type"] == "stream" and "hi reader" in message["content"]["text"]:
            break
    assert message["parent_header"]["msg_id"] == cell


def test_requests_are_answered_while_a_cell_computes(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    _, app = urls(kernel, engine, diary)
    stop = diary.folder / "stop"
    cell = kernel.begin(
        f"""
        from pathlib import Path
        stop = Path({str(stop)!r})
        note("computing")
        while not stop.exists():
            sum(range(1000))
        """
    )
    diary.wait("computing")
    for name in "abc":
        assert httpx.get(f"{app}/hi/{name}", trust_env=False, timeout=PATIENCE).status_code == 200
    stop.touch()
    kernel.outcome(cell)


def test_unloading_the_extension_closes_the_address(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    kernel.run("%load_ext lifecycle_magic")
    slow, app = urls(kernel, engine, diary)
    where = kernel.container("Web")
    kernel.run("%unload_ext lifecycle_magic", timeout=120)
    assert is_closed(slow)
    assert is_closed(app)
    where.wait_gone(state_dir)
    assert diary.events() == ["entered", "exit"]
    assert running(kernel.pid)


def test_a_request_that_runs_is_cancelled_when_the_app_stops(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    slow, _ = urls(kernel, engine, diary)
    request = get(slow)
    diary.wait("slow")
    cell = kernel.begin("app.stop()")
    assert request.answer().status_code == 503
    kernel.outcome(cell)
    assert is_closed(slow)
    assert diary.events() == ["entered", "slow", "exit"]


# --- through a Jupyter server ---------------------------------------------------------------------


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "srv-home"
    config.mkdir()
    told = {"ServerApp": {"jpserver_extensions": {"jupyter_server_proxy": True}}}
    (config / "jupyter_server_config.json").write_text(json.dumps(told))
    with server(tmp_path / "srv") as one:
        yield one


def test_addresses_are_reached_through_jupyter_server_proxy(
    jupyter: Server, engine: str, diary: Diary
) -> None:
    _, kernel = jupyter.kernel()
    try:
        _, app = urls(kernel, engine, diary)
        port = httpx.URL(app).port
        base = f"{jupyter.url.removesuffix('/api')}/proxy/{port}/"
        token = jupyter._token
        with httpx.Client(
            headers={"Authorization": f"token {token}"}, trust_env=False, timeout=PATIENCE
        ) as client:
            assert client.get(base + "hi/proxy").json() == {"hi": "proxy"}
            docs = client.get(base + "docs").text
            assert f"/proxy/{port}/openapi.json" in docs
            schema = client.get(base + "openapi.json").json()
            assert "/hi/{name}" in schema["paths"]
            assert schema["servers"][0]["url"] == f"/proxy/{port}"
        url = base.replace("http", "ws") + f"ws?token={token}"
        with websockets.sync.client.connect(
            url, proxy=None, additional_headers={"Authorization": f"token {token}"}
        ) as socket:
            socket.send("through the proxy")
            assert socket.recv(timeout=PATIENCE) == "through the proxy"
    finally:
        kernel.run("app.stop()")
        kernel.close()
