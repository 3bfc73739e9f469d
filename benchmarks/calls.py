"""Warm calls with small and large arguments: ours, bare baselines and peers, measured in turns.

A method that returns its argument shows the cost of a call with a small integer, and the cost of
bytes and objects with other arguments. A method that makes a new array has to copy that back too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import lifecycle_magic as lm
from benchmarks.figures import Bound, Figures, Run, Unable, alternate, timed
from benchmarks.peers import Peer, _work, available
from benchmarks.plan import Plan
from benchmarks.raw import SERVER, Raw

Call = Callable[[str, Any], Any]
"""A call of the method with this name, with this argument."""


@dataclass(frozen=True)
class Work:
    """One kind of argument with ``size`` bytes: see `_work.payload`.

    ``faster`` is how many times faster than a Ray actor the call must be; 0 for no promise.
    """

    name: str
    kind: str
    size: int
    rounds: int
    times: int
    faster: float = 0


NO_OP = Work("warm no-op call", "integer", 0, 30, 100, faster=10)
LARGE = Work("echo 100 MB array", "array", 100_000_000, 6, 3, faster=2)
WORKS = (
    NO_OP,
    Work("echo 64 B array", "array", 64, 10, 50),
    Work("echo 4 KB array", "array", 4_000, 10, 50),
    Work("echo 64 KB array", "array", 64_000, 10, 50),
    Work("echo 1 MB array", "array", 1_000_000, 10, 20, faster=10),
    Work("echo 10 MB array", "array", 10_000_000, 6, 5),
    LARGE,
    Work("1 MB array, a new one comes back", "new array", 1_000_000, 10, 20),
    Work("100 MB array, a new one comes back", "new array", 100_000_000, 6, 3),
    Work("echo 64 B of bytes", "bytes", 64, 10, 50),
    Work("echo 64 KB of bytes", "bytes", 64_000, 10, 50),
    Work("echo 1 MB of bytes", "bytes", 1_000_000, 10, 20),
    Work("echo 100 MB of bytes", "bytes", 100_000_000, 3, 2),
    Work("echo a dict of 10,000 strings", "dict", 0, 5, 4),
    Work("echo a pandas frame of 100,000 rows", "frame", 0, 6, 3),
)
HUGE = Work("echo 1 GB array", "array", 1_000_000_000, 2, 1)
HUGE_NEEDS = 10
"""GiB of free memory, because a contender may hold a gigabyte six times."""
THREADS = 8
QUICK_SIZE = 10_000_000


class Warm:
    @lm.method()
    def echo(self, value: Any) -> Any:
        return value

    @lm.method()
    def negative(self, value: Any) -> Any:
        return -value

    @lm.method()
    def serve_raw(self, path: str) -> None:
        import subprocess
        import sys

        self.raw = subprocess.Popen([sys.executable, "-c", SERVER, path])

    @lm.exit()
    def wait_for_raw(self) -> None:
        self.raw.wait(10)


def measure(plan: Plan) -> Figures:
    """Return a sample of each work for each engine, baseline and peer, and the bounds on them."""
    figures = Figures()
    with ExitStack() as stack:
        warm: dict[str, Call] = {}
        raw: dict[str, Run] = {}
        for engine in plan.engines:
            app = stack.enter_context(lm.App(f"bench-calls-{engine}").run())
            warm[engine], raw[f"{engine}: raw socket"] = _ours(app, engine, stack)
        there, missing = stack.enter_context(peers(plan))
        figures += Figures(missing=missing)
        for work in WORKS:
            if plan.quick and work.size > QUICK_SIZE:
                continue
            print(f"  {work.name}", file=sys.stderr)
            yardsticks = raw if work is NO_OP else {}
            if work.kind == "array" and work.size >= 1_000_000:
                yardsticks = {"two warm copies": _two_copies(work.size)}
            figures += _measure(work, plan, warm, yardsticks, there)
        figures += _at_once(plan, warm, there)
    return figures if plan.quick else figures + _huge(plan)


@contextmanager
def peers(plan: Plan, workers: int = 1) -> Iterator[tuple[dict[str, Peer], tuple[str, ...]]]:
    """Start the installed peers with ``workers`` processes each; note why others are missing."""
    with ExitStack() as stack:
        there, missing = {}, []
        for name in plan.peers:
            peer = available(name, workers)
            if isinstance(peer, str):
                missing.append(f"{name}: {peer}")
            else:
                try:
                    there[name] = stack.enter_context(peer)
                except Unable as error:
                    missing.append(str(error))
        yield there, tuple(missing)


def _measure(
    work: Work,
    plan: Plan,
    warm: Mapping[str, Call],
    yardsticks: Mapping[str, Run],
    peers: Mapping[str, Peer],
) -> Figures:
    method, value = _work.method(work.kind), _work.payload(work.kind, work.size)
    runs: dict[str, Run] = {
        **{who: partial(_work.calls, partial(call, method), value) for who, call in warm.items()},
        **yardsticks,
        **{name: partial(peer.run, work=work.kind, size=work.size) for name, peer in peers.items()},
    }
    found = alternate(work.name, runs, rounds=plan.rounds(work.rounds), times=work.times)
    return found + Figures(bounds=tuple(_bounds(work, list(warm), found)))


def _bounds(work: Work, engines: list[str], found: Figures) -> Iterator[Bound]:
    for engine in engines:
        ours = found.median(engine)
        if ours is None:
            continue
        yardsticks = {}
        if work is NO_OP:
            yardsticks[f"{engine}: raw socket"] = "a raw pickle ping-pong", 2.2
        if work is LARGE:
            yardsticks["two warm copies"] = "two warm copies", 2.5
        for who, (name, most) in yardsticks.items():
            least = found.median(who)
            if least is not None:
                text = f"{work.name}: at most {most:g} x {name}"
                yield Bound(text, engine, ours, most * least)
        ray = found.median("ray")
        if work.faster and ray is not None:
            text = f"{work.name}: at least {work.faster:g} x faster than a Ray actor"
            yield Bound(text, engine, ours, ray / work.faster)


def _huge(plan: Plan) -> Figures:
    """Measure a gigabyte, one contender at a time: together they need too much memory."""
    print(f"  {HUGE.name}", file=sys.stderr)
    figures = Figures()
    for who in (*plan.engines, *plan.peers):
        free = psutil.virtual_memory().available >> 30
        if free < HUGE_NEEDS:
            why = f"{HUGE.name}, {who}: {free} GiB of memory are free, {HUGE_NEEDS} are needed"
            figures += Figures(missing=(why,))
            continue
        with ExitStack() as stack:
            if who in plan.engines:
                app = stack.enter_context(lm.App(f"bench-huge-{who}").run())
                warm = {who: _ours(app, who, stack)[0]}
                figures += _measure(HUGE, plan, warm, {}, {})
            else:
                there, missing = stack.enter_context(peers(replace(plan, peers=(who,))))
                figures += _measure(HUGE, plan, {}, {}, there) + Figures(missing=missing)
    yardstick = {"two warm copies": _two_copies(HUGE.size)}
    return figures + _measure(HUGE, plan, {}, yardstick, {})


def _at_once(plan: Plan, warm: Mapping[str, Call], peers: Mapping[str, Peer]) -> Figures:
    """Measure calls from several threads to one container, for which they queue."""

    def ours(call: Call) -> Run:
        return lambda times: _work.calls_at_once(partial(call, "echo"), THREADS, times)

    runs: dict[str, Run] = {engine: ours(call) for engine, call in warm.items()}
    for name, peer in peers.items():
        runs[name] = partial(peer.run, work="threads", size=THREADS)
    name = f"no-op calls from {THREADS} threads at once, per call"
    print(f"  {name}", file=sys.stderr)
    return alternate(name, runs, rounds=plan.rounds(10), times=25)


def _ours(app: lm.App, engine: str, stack: ExitStack) -> tuple[Call, Run]:
    """Return the calls of a warm container, and the bare socket into the same container."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lm-bench-")))
    warm = app.cls(
        Warm,
        engine=engine,
        image=lm.Image.debian_slim().uv_pip_install("numpy", "pandas"),
        volumes={str(folder): lm.Volume.from_path(folder)},  # its own path: every engine can do it
    )()
    raw = Raw(folder / "raw")
    stack.callback(raw.close)  # before the app stops, so that the far end's process goes too
    warm.serve_raw.remote(str(raw.path))
    raw.accept()
    remote = {name: getattr(warm, name).remote for name in ("echo", "negative")}
    return lambda name, value: remote[name](value), raw.run


def _two_copies(size: int) -> Run:
    """Return the least time for an array there and back, if it is copied once in each direction."""
    source = np.ones(size, np.uint8)
    there, back = np.ones_like(source), np.ones_like(source)

    def copy() -> None:
        np.copyto(there, source)
        np.copyto(back, there)

    return timed(copy)
