"""The largest gains: the same work with a mechanism switched off and on, and profiles of both.

``python -m benchmarks.profiles`` writes them into ``docs/performance.md``. Each measurement is a
process of its own, in turns, on the process engine. A thread samples the stacks of the kernel's
other threads every millisecond; threads that wait for each other or are idle do not count.
"""

from __future__ import annotations

import json
import linecache
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import lifecycle_magic as lm
from benchmarks.figures import human
from benchmarks.publish import ROOT, put
from lifecycle_magic.calls.map import map_slots
from lifecycle_magic.services import bundle
from lifecycle_magic.wire import frames

ROUNDS = 3
PAGE = ROOT / "docs" / "performance.md"
LEAST_PERCENT = 4
"""Percent of the time; lines with less are not shown."""
WAITING = ("threading.py", "selectors.py", "queue.py")
NEVER = 1 << 62


@dataclass
class Node:
    count: int = 0
    children: dict[str, Node] = field(default_factory=dict)


class Echo:
    """A class that can switch off its side of a mechanism: ``shared`` or ``moving`` memory."""

    @lm.enter()
    def set_up(self) -> None:
        from lifecycle_magic.wire import frames, leases

        if not self.shared:
            frames.SEGMENT_MIN_BYTES = 1 << 62
        if not self.moving:
            leases.Lease.places = lambda *_: None  # type: ignore[method-assign]

    def __init__(self, shared: bool = True, moving: bool = True) -> None:
        self.shared = shared
        self.moving = moving

    @lm.method()
    def echo(self, value: Any) -> Any:
        return value


def _replace(module: ModuleType, **values: object) -> None:
    """Set constants of a module. Raises AttributeError for a name that the module does not have."""
    for name, value in values.items():
        getattr(module, name)
        setattr(module, name, value)


def shared_memory(on: bool) -> list[float]:
    """Return the seconds for 100 MB there and back; when off, they use the socket."""
    if not on:
        _replace(frames, SEGMENT_MIN_BYTES=NEVER)
    return _large(shared=on)


def moving_back(on: bool) -> list[float]:
    """Return the seconds for 100 MB there and back; when off, the answer is copied."""
    return _large(moving=on)


def _large(**mechanism: bool) -> list[float]:
    value = np.ones(100_000_000, np.uint8)
    with lm.App("profile").run() as app:
        echo = app.cls(
            Echo, engine="process", image=lm.Image.debian_slim().uv_pip_install("numpy")
        )(**mechanism)
        echo.echo.remote(value)
        return _profiled(lambda: echo.echo.remote(value), 15)


def sent_ahead(on: bool) -> list[float]:
    """Return the seconds per input of a map; when off, an input waits for the last answer."""
    if not on:
        _replace(map_slots, MAX_ITEMS_AHEAD=1, SHORT_ITEM_SECONDS=float("inf"))
    count = 5000
    with lm.App("profile").run() as app:
        echo = app.cls(Echo, engine="process")()
        list(echo.echo.map(range(100), progress=False))
        took = _profiled(lambda: list(echo.echo.map(range(count), progress=False)), 3)
    return [seconds / count for seconds in took]


def compiled_guest(on: bool) -> list[float]:
    """Return the seconds for a first call; when off, each container compiles the guest."""
    if not on:
        bundle.py_compile.compile = lambda *_, **__: None  # type: ignore[assignment]
    seconds = []
    for turn in range(4):
        with lm.App("profile").run() as app:
            echo = app.cls(Echo, engine="process")()
            began = time.perf_counter()
            echo.echo.remote(1)
            if turn:  # the first one made the environment
                seconds.append(time.perf_counter() - began)
    return seconds


MECHANISMS: dict[str, tuple[Callable[[bool], list[float]], str]] = {
    "shared memory": (shared_memory, "echo 100 MB array"),
    "moving back": (moving_back, "echo 100 MB array"),
    "inputs sent ahead": (sent_ahead, "map of 5,000 no-ops, one container, per input"),
    "compiled guest": (compiled_guest, "first call, image built"),
}

_stacks: Counter[tuple[str, ...]] = Counter()


def _profiled(work: Callable[[], object], times: int) -> list[float]:
    """Measure once without a profile and once with one."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(done,))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # otherwise the sampler sees only threads that release the lock
    sampler.start()
    for _ in range(times):
        work()
    done.set()
    sampler.join()
    sys.setswitchinterval(interval)
    return seconds


def _sample(done: threading.Event) -> None:
    own = threading.get_ident()
    while not done.wait(0.001):
        for thread, frame in sys._current_frames().items():
            if thread == own or frame.f_code.co_filename.endswith(WAITING):
                continue
            lines = []
            at: Any = frame
            while at is not None:
                lines.append(_line(at))
                at = at.f_back
            ours = [line for line in reversed(lines) if line]
            if ours:
                _stacks[tuple(ours)] += 1


def _line(frame: Any) -> str:
    path = Path(frame.f_code.co_filename)
    if "lifecycle_magic" not in path.parts:
        return ""
    module = ".".join(path.with_suffix("").parts[-2:]).removeprefix("lifecycle_magic.")
    text = linecache.getline(str(path), frame.f_lineno or 0).strip()
    return f"{module}.{frame.f_code.co_name}: {text}"


def _flame() -> str:
    root = Node()
    for stack, count in _stacks.items():
        root.count += count
        node = root
        for line in stack:
            node = node.children.setdefault(line, Node())
            node.count += count
    lines: list[str] = []

    def show(node: Node, depth: int) -> None:
        for line, child in sorted(node.children.items(), key=lambda pair: -pair[1].count):
            percent = 100 * child.count / root.count
            if percent >= LEAST_PERCENT:
                lines.append(f"{percent:3.0f} %  {'  ' * depth}{line}")
                show(child, depth + 1)

    show(root, 0)
    return "\n".join(lines)


def _one(name: str, on: bool) -> tuple[list[float], str]:
    """Make one measurement in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="lm-bench-", ignore_cleanup_errors=True) as state:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.profiles", name, "on" if on else "off"],
            env={**os.environ, "LIFECYCLE_MAGIC_STATE": state},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    seconds, flame = json.loads(done.stdout.splitlines()[-1])
    return seconds, flame


def main() -> None:
    if len(sys.argv) == 3:
        seconds = MECHANISMS[sys.argv[1]][0](sys.argv[2] == "on")
        print(json.dumps([seconds, _flame()]))
        return
    flames = {}
    lines = ["| mechanism | work | off | on | gain |", "| --- | --- | --- | --- | --- |"]
    for name, (_, work) in MECHANISMS.items():
        took: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for on in (False, True):
                seconds, flames[name, on] = _one(name, on)
                took[on] += seconds
        off, on_ = (statistics.median(took[on]) for on in (False, True))
        lines.append(f"| {name} | {work} | {human(off)} | {human(on_)} | {off / on_:.1f} x |")
        print(lines[-1], flush=True)
    for (name, on), flame in flames.items():
        if flame:
            lines += ["", f"{name}, {'on' if on else 'off'}:", "", "```text", flame, "```"]
    PAGE.write_text(put(PAGE.read_text(), "\n".join(lines)))


if __name__ == "__main__":
    main()
