"""Warm calls with small and large arguments: ours, bare yardsticks and peers, in turns.

The method returns what it got: a small integer shows what a call costs, an array what bytes cost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lifecycle_magic as lm
from benchmarks.figures import Bound, Figures, Run, Sample, alternate, timed
from benchmarks.peers import Peer, available
from benchmarks.raw import SERVER, Raw


@dataclass(frozen=True)
class Work:
    """One size of argument: ``size`` bytes of array, or 0 for a small integer.

    ``faster`` is how many times faster than a Ray actor it must be.
    """

    name: str
    size: int
    rounds: int
    times: int
    faster: float


NO_OP = Work("warm no-op call", 0, 30, 100, 10)
SMALL = Work("echo 1 MB array", 1_000_000, 10, 20, 10)
LARGE = Work("echo 100 MB array", 100_000_000, 6, 3, 4)


class Warm:
    @lm.method()
    def echo(self, value: Any) -> Any:
        return value

    @lm.method()
    def serve_raw(self, path: str) -> None:
        import subprocess
        import sys

        self.raw = subprocess.Popen([sys.executable, "-c", SERVER, path])

    @lm.exit()
    def wait_for_raw(self) -> None:
        self.raw.wait(10)


def measure(engines: list[str], peers: list[str]) -> Figures:
    """A sample of each work for each engine, yardstick and peer, and what binds them."""
    figures = Figures()
    with ExitStack() as stack:
        warm: dict[str, Callable[[Any], Any]] = {}
        raw: dict[str, Run] = {}
        there: dict[str, Peer] = {}
        for engine in engines:
            app = stack.enter_context(lm.App(f"bench-calls-{engine}").run())
            warm[engine], raw[f"{engine}: raw socket"] = _ours(app, engine, stack)
        for name in peers:
            peer = available(name)
            if isinstance(peer, str):
                figures += Figures(missing=(f"calls of {name}: {peer}",))
            else:
                there[name] = stack.enter_context(peer)
        for work in (NO_OP, SMALL, LARGE):
            yardsticks = raw if work is NO_OP else {}
            if work is LARGE:
                yardsticks = {"two warm copies": _two_copies(work.size)}
            figures += _measure(work, warm, yardsticks, there)
    return figures


def _measure(
    work: Work,
    warm: Mapping[str, Callable[[Any], Any]],
    yardsticks: Mapping[str, Run],
    peers: Mapping[str, Peer],
) -> Figures:
    value: Any = np.ones(work.size, np.uint8) if work.size else 1  # zeros would share one page
    runs = {
        **{engine: timed(partial(echo, value)) for engine, echo in warm.items()},
        **yardsticks,
        **{name: partial(peer.run, size=work.size) for name, peer in peers.items()},
    }
    samples = alternate(work.name, runs, rounds=work.rounds, times=work.times)
    return Figures(tuple(samples), tuple(_bounds(work, list(warm), samples)))


def _bounds(work: Work, engines: list[str], samples: list[Sample]) -> list[Bound]:
    median = {sample.who: sample.p50 for sample in samples}
    found = []
    for engine in engines:
        yardsticks = {f"{engine}: raw socket": "a raw socket", "two warm copies": "two warm copies"}
        for who, name in yardsticks.items():
            if who in median:
                text = f"{work.name}: at most 2.5 x {name}"
                found.append(Bound(text, engine, median[engine], 2.5 * median[who]))
        if "ray" in median:
            text = f"{work.name}: at least {work.faster:g} x faster than a Ray actor"
            found.append(Bound(text, engine, median[engine], median["ray"] / work.faster))
    return found


def _ours(app: lm.App, engine: str, stack: ExitStack) -> tuple[Callable[[Any], Any], Run]:
    """A warm container's ``echo``, and the bare socket into the same container."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lm-bench-")))
    warm = app.cls(
        Warm,
        engine=engine,
        image=lm.Image.debian_slim().pip_install("numpy"),
        volumes={str(folder): lm.Volume.from_path(folder)},  # its own path: every engine can do it
    )()
    raw = Raw(folder / "raw")
    stack.callback(raw.close)  # before the app stops, so that the far end's process goes too
    warm.serve_raw.remote(str(raw.path))
    raw.accept()
    return warm.echo.remote, raw.run


def _two_copies(size: int) -> Run:
    """What moving an array there and back costs at the least, when each way copies it once."""
    source = np.ones(size, np.uint8)
    there, back = np.ones_like(source), np.ones_like(source)

    def copy() -> None:
        np.copyto(there, source)
        np.copyto(back, there)

    return timed(copy)
