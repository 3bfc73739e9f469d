"""Values of libraries there and back: tensors, tables and frames, beside an array of the same size.

The libraries are those of ``scripts/test-packages.sh``, in one folder that the kernel, our
containers and the peer share. So every side has the same versions, and no image is built for them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lifecycle_magic as lm
from benchmarks.calls import peers
from benchmarks.figures import Bound, Figures, Run, alternate
from benchmarks.peers import Peer, _work
from benchmarks.plan import Plan

LIBRARIES = Path(__file__).parents[1] / ".venv/test-libraries/site-packages"
INSIDE = "/libraries/site-packages"
SIZE, QUICK_SIZE = 100_000_000, 10_000_000
AS_ARRAY = 1.5
"""How many times as long as the array a value with a bound may take."""


@dataclass(frozen=True)
class Payload:
    """A kind of value: see `_work.payload`.

    ``faster`` is how many times faster than a Ray actor its echo must be; 0 for no promise.
    ``bounded`` values take at most `AS_ARRAY` times as long as the array.
    """

    name: str
    kind: str
    faster: float = 0
    bounded: bool = False


ARRAY = Payload("array", "array", faster=2)
PAYLOADS = (
    ARRAY,
    Payload("torch tensor, float32", "tensor", faster=4, bounded=True),
    Payload("torch tensor, bfloat16", "bfloat16 tensor", faster=4, bounded=True),
    Payload("state dict of 20 tensors", "state dict", faster=4, bounded=True),
    Payload("Arrow table", "Arrow table", bounded=True),
    Payload("pandas frame of numbers", "number frame", bounded=True),
    Payload("pandas frame of strings", "string frame", faster=4),
    Payload("pandas frame of strings as objects", "object frame"),
    Payload("polars frame of numbers", "polars frame", bounded=True),
    Payload("list of arrays of 8 KB", "small arrays"),
)


class Echo:
    @lm.enter()
    def find_libraries(self) -> None:
        sys.path.append(INSIDE)

    @lm.method()
    def echo(self, value: Any) -> Any:
        return value


def measure(plan: Plan) -> Figures:
    """Return a sample of each value for each engine and Ray, and the bounds on them.

    They are measured in a process of their own: a pandas that was imported without Arrow makes
    frames of other strings, and Ray would get others than we.
    """
    if not LIBRARIES.is_dir():
        return Figures(missing=("payloads: no libraries: run scripts/test-packages.sh",))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_measure_all, plan).result()


def _measure_all(plan: Plan) -> Figures:
    with ExitStack() as stack:
        stack.enter_context(_libraries())
        ours = {}
        for engine in plan.engines:
            app = stack.enter_context(lm.App(f"bench-payloads-{engine}").run())
            ours[engine] = app.cls(
                Echo,
                engine=engine,
                image=lm.Image.debian_slim().uv_pip_install("numpy", "pandas"),
                volumes={INSIDE: lm.Volume.from_path(LIBRARIES)},
            )().echo.remote
        only_ray = replace(plan, peers=tuple(name for name in plan.peers if name == "ray"))
        there, missing = stack.enter_context(peers(only_ray))
        figures, array = Figures(missing=missing), Figures()
        size = QUICK_SIZE if plan.quick else SIZE
        for payload in PAYLOADS:
            print(f"  {payload.name}", file=sys.stderr)
            found = _measure(payload, size, plan, ours, there)
            array = found if payload is ARRAY else array
            figures += found
            if not plan.quick:
                figures += Figures(bounds=tuple(_bounds(payload, list(ours), found, array)))
    return figures


@contextmanager
def _libraries() -> Iterator[None]:
    """Let this process and the programs that it starts import the libraries."""
    before = os.environ.get("PYTHONPATH")
    sys.path.append(str(LIBRARIES))
    os.environ["PYTHONPATH"] = str(LIBRARIES)
    try:
        yield
    finally:
        sys.path.remove(str(LIBRARIES))
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _measure(
    payload: Payload, size: int, plan: Plan, ours: Mapping[str, Any], peers: Mapping[str, Peer]
) -> Figures:
    value = _work.payload(payload.kind, size)
    runs: dict[str, Run] = {
        **{engine: partial(_work.calls, echo, value) for engine, echo in ours.items()},
        **{name: partial(peer.run, work=payload.kind, size=size) for name, peer in peers.items()},
    }
    work = f"echo {size // 1_000_000} MB: {payload.name}"
    return alternate(work, runs, rounds=plan.rounds(6), times=3)


def _bounds(
    payload: Payload, engines: list[str], found: Figures, array: Figures
) -> Iterator[Bound]:
    ray = found.median("ray")
    for engine in engines:
        took, least = found.median(engine), array.median(engine)
        if took is None:
            continue
        if payload.bounded and least is not None:
            text = f"{payload.name}: at most {AS_ARRAY:g} x an array of that size"
            yield Bound(text, engine, took, AS_ARRAY * least)
        if payload.faster and ray is not None:
            text = f"{payload.name}: at least {payload.faster:g} x faster than a Ray actor"
            yield Bound(text, engine, took, ray / payload.faster)
