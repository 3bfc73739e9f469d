"""HTTP requests to a warm class, and to the same FastAPI application under uvicorn alone.

The load comes from a process of its own, over connections that stay open; the kernel is this
process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lifecycle_magic as lm
from benchmarks.figures import Bound, Figures, Run, Sample, alternate
from benchmarks.plan import Plan

CONNECTIONS = (1, 8)
AT_ONCE = 16
ROUNDS = 4
REQUESTS = 1000

ALONE = "uvicorn alone"
SPINNING = "HTTP request while a cell spins in pure Python"

# Both run this: the container by its method, uvicorn by itself.
_APPLICATION = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def double(x: int = 3):
    return {"y": 2 * x}
"""

_UVICORN = """
import socket, sys
import uvicorn

sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
config = uvicorn.Config(app, access_log=False, log_level="critical")
uvicorn.Server(config).run(sockets=[sock])
"""

_LOAD = """
import asyncio, json, sys, time

port, connections, requests = map(int, sys.argv[1:])
REQUEST = b"GET /?x=21 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
seconds = []

async def client(count):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        began = time.perf_counter()
        writer.write(REQUEST)
        answer = await reader.read(65536)
        while not answer.endswith(b'{"y":42}'):
            more = await reader.read(65536)
            assert more, answer
            answer += more
        seconds.append(time.perf_counter() - began)
    writer.close()

async def main():
    await asyncio.gather(*[client(requests // connections) for _ in range(connections)])

asyncio.run(main())
print(json.dumps(seconds))
"""


def measure(plan: Plan) -> Figures:
    figures = Figures()
    app = lm.App("bench-web")
    with app.run(), _uvicorn() as port:
        ports = {ALONE: port}
        for engine in plan.engines:
            for name, decorate in (("", _as_it_is), (f", {AT_ONCE} at once", _concurrent)):
                ports[engine + name] = _ours(app, engine, decorate)
        for connections in CONNECTIONS:
            figures += _beside_uvicorn(plan, ports, connections)
        for engine in plan.engines:
            with _spinning():
                spun = Sample(SPINNING, engine, tuple(_load(ports[engine], 1)(REQUESTS // 2)))
            text = f"{SPINNING}, p99: at most 100 ms"
            figures += Figures((spun,), (Bound(text, engine, spun.p99, 0.100),))
    return figures


def _beside_uvicorn(plan: Plan, ports: dict[str, int], connections: int) -> Figures:
    work = f"HTTP request, {connections} connection{'s' if connections > 1 else ''}"
    runs: dict[str, Run] = {
        who: _load(port, connections)
        for who, port in ports.items()
        if connections == 1 or who == ALONE or "at once" in who
    }
    found = alternate(work, runs, rounds=plan.rounds(ROUNDS), times=REQUESTS)
    alone = found.median(ALONE)
    assert alone is not None
    text = f"{work}: at most 2 x uvicorn alone"
    ours = [sample for sample in found.samples if sample.who != ALONE]
    return found + Figures(bounds=tuple(Bound(text, s.who, s.p50, 2 * alone) for s in ours))


def _ours(app: lm.App, engine: str, decorate: Any) -> int:
    image = lm.Image.debian_slim().uv_pip_install("fastapi")

    class Web:
        @lm.asgi_app()
        def api(self) -> Any:
            namespace: dict[str, Any] = {}
            exec(_APPLICATION, namespace)
            return namespace["app"]

    web = app.cls(decorate(Web), image=image, engine=engine)
    # Variants of one name would be one class.
    port = _port(web.with_options(env={"BENCH": f"{engine}-{decorate.__name__}"})().api.web_url)
    _load(port, 1)(20)  # waits until it is ready
    return port


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def _as_it_is(cls: type) -> type:
    return cls


def _concurrent(cls: type) -> type:
    decorated: type = lm.concurrent(max_inputs=AT_ONCE)(cls)
    return decorated


def _load(port: int, connections: int) -> Run:
    def run(times: int) -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", _LOAD, str(port), str(connections), str(times)],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds: list[float] = json.loads(done.stdout)
        return seconds

    return run


@contextmanager
def _uvicorn() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _APPLICATION + _UVICORN], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def _spinning() -> Iterator[None]:
    """Run a busy Python loop in a thread, as the computation of a cell would."""
    over = threading.Event()

    def spin() -> None:
        count = 0
        while not over.is_set():
            for _ in range(10_000):
                count += 1

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
