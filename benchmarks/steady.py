"""Memory and descriptors of a kernel over many calls, HTTP connections and restarts.

``python -m benchmarks.steady`` draws ``docs/steady.svg``. No call, connection or container may
leave anything in the process, so both lines have to be flat after everything was used once.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lifecycle_magic as lm
from lifecycle_magic.session import session

PLOT = Path(__file__).parents[1] / "docs" / "steady.svg"
POINTS = 50
"""Measurements of each kind of work."""

MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The kernel's memory in bytes and its open descriptors after ``done`` pieces of work."""

    work: str
    done: int
    memory: int
    descriptors: int


class Steady:
    """A method, and an address."""

    @lm.method()
    def echo(self, x: int) -> int:
        return x

    @lm.asgi_app()
    async def api(self) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here"})

        return application


def measure(calls: int, connections: int, restarts: int, engine: str) -> list[Sample]:
    """Do so much of each kind of work, and return the samples taken on the way."""
    app = lm.App("steady", engine=engine)
    one: Any = app.cls(Steady)()
    works: list[tuple[str, int, Callable[[], None]]] = [
        ("calls", calls, lambda: _call(one)),
        ("HTTP connections", connections, lambda: _connect(one)),
        ("restarts", restarts, lambda: _restart(app, one)),
    ]
    try:
        for _, count, do in works:  # what is made once: threads, imports, caches
            for _ in range(min(count, 20)):
                do()
        return [sample for work in works for sample in _sampled(*work)]
    finally:
        session.close("it was measured")


def _sampled(name: str, count: int, do: Callable[[], None]) -> Iterator[Sample]:
    step = max(1, count // POINTS)
    yield _sample(name, 0)
    for number in range(1, count + 1):
        do()
        if number % step == 0:
            yield _sample(name, number)


def _sample(name: str, done: int) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(name, done, pages * resource.getpagesize(), len(os.listdir("/proc/self/fd")))


def _call(one: Any) -> None:
    assert one.echo.remote(1) == 1


def _connect(one: Any) -> None:
    """Open a connection of its own, send a request, and read the answer to its end."""
    url = urlsplit(one.api.web_url)
    with socket.create_connection((url.hostname, url.port)) as sock:
        head = f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answer.endswith(b"here") or b"here" in answer, answer


def _restart(app: lm.App, one: Any) -> None:
    containers = session.current().containers()
    app.stop()
    session.wait_gone(containers)
    _call(one)


# --- the picture ---------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, GAP = 860, 190, 60, 40, 30

_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #57606a } .axis { stroke: #d0d7de }
    .memory { stroke: #1f6feb } .files { stroke: #8c959f } path { fill: none; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #9da7b3 } .axis { stroke: #3d444d }
      .memory { stroke: #58a6ff } .files { stroke: #6e7681 }
    }
"""


def draw(samples: list[Sample]) -> str:
    """Return the SVG: a panel for each kind of work, both scales from zero."""
    works = list(dict.fromkeys(sample.work for sample in samples))
    memory = 1.25 * max(sample.memory for sample in samples)
    files = 1.6 * max(sample.descriptors for sample in samples)
    wide = (WIDTH - LEFT - GAP * len(works)) // len(works)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + TOP + 30}" '
        'role="img" aria-labelledby="title">',
        '  <title id="title">Memory and descriptors of a kernel, flat over its work</title>',
        f"  <style>{_STYLE}  </style>",
    ]
    for index, work in enumerate(works):
        some = [sample for sample in samples if sample.work == work]
        left, last = LEFT + index * (wide + GAP), max(sample.done for sample in some) or 1
        base = TOP + HEIGHT
        lines.append(f'  <path class="axis" d="M{left} {TOP}V{base}H{left + wide}"/>')
        lines.append(f'  <text x="{left}" y="{base + 20}">{last:,} {work}</text>')
        for name, unit, most in (
            ("memory", [sample.memory for sample in some], memory),
            ("files", [sample.descriptors for sample in some], files),
        ):
            points = (
                f"{left + wide * sample.done / last:.1f} {base - HEIGHT * value / most:.1f}"
                for sample, value in zip(some, unit, strict=True)
            )
            lines.append(f'  <path class="{name}" d="M{"L".join(points)}"/>')
        end = some[-1]
        text = f"{end.memory / MIB:.0f} MiB, {end.descriptors} descriptors"
        lines.append(f'  <text x="{left}" y="{TOP - 12}">{text}</text>')
    return "\n".join([*lines, "</svg>\n"])


def main() -> None:
    """Measure, draw, and print the first and the last sample of each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--restarts", type=int, default=500)
    parser.add_argument("--engine", default="process")
    parser.add_argument("--plot", type=Path, default=PLOT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lm-", ignore_cleanup_errors=True) as state:
        os.environ["LIFECYCLE_MAGIC_STATE"] = f"{state}/state"
        samples = measure(chosen.calls, chosen.connections, chosen.restarts, chosen.engine)
    chosen.plot.write_text(draw(samples))
    for work in dict.fromkeys(sample.work for sample in samples):
        some = [sample for sample in samples if sample.work == work]
        for sample in (some[0], some[-1]):
            text = f"{sample.memory / MIB:.1f} MiB, {sample.descriptors} descriptors"
            print(f"{sample.done:>6} {work}: {text}")


if __name__ == "__main__":
    main()
