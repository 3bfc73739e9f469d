"""A container is to go while clients are connected that would stay for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.inside import notes
from engine.web import Street, street
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind

pytestmark = [pytest.mark.xdist_group("web-parting")]


class Endless:
    @lm.asgi_app()
    def app(self) -> Any:
        app = FastAPI()

        @app.get("/events")
        async def events() -> Any:
            async def endless() -> AsyncIterator[str]:
                while True:
                    yield "data: tick\n\n"
                    await asyncio.sleep(0.01)

            return StreamingResponse(endless(), media_type="text/event-stream")

        @app.websocket("/echo")
        async def echo(client: WebSocket) -> None:
            await client.accept()
            while True:
                await client.send_text(await client.receive_text())

        return app

    @lm.exit()
    def close(self) -> None:
        notes().note("exit")


@pytest.fixture
def here(engine_name: str, tmp_path: Path) -> Iterator[Street]:
    with street(engine_name, "parting", tmp_path) as one:
        yield one


def test_clients_of_a_draining_container_are_disconnected_and_exit_runs(here: Street) -> None:
    many = lm.concurrent(max_inputs=4)(Endless)
    url = here.cls(many, exit_grace=1)().app.web_url
    with (
        connect(url.replace("http", "ws") + "/echo") as socket,
        here.client.stream("GET", f"{url}/events") as answer,
    ):
        socket.send("hello")
        assert socket.recv() == "hello"
        lines = answer.iter_lines()
        assert next(lines) == "data: tick"
        (container,) = here.live("Endless")
        container.end(Ending(EndKind.DRAIN, "the test wants it to go"))
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012  # service restart
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            for _ in lines:
                pass
    here.folder.wait("exit")
    container.exited.wait(60)
    assert container.state.value == "exited"
