"""``python -m benchmarks``: measure, print the table, write ``benchmarks/results.json``.

python -m benchmarks                        everything, on every engine that answers
python -m benchmarks calls --engine docker  one benchmark, one engine
python -m benchmarks calls --peers          warm calls against loky, ipyparallel, Dask and Ray
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import builds, calls, cells, cold, ends, imports, panel, web
from benchmarks.figures import Figures, as_json, table
from benchmarks.peers import PEERS

RESULTS = Path(__file__).with_name("results.json")
BENCHMARKS = ("imports", "calls", "cold", "cells", "builds", "ends", "panel", "web")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("only", nargs="*", metavar="BENCHMARK", help=", ".join(BENCHMARKS))
    parser.add_argument("--engine", choices=("docker", "process"), action="append")
    parser.add_argument(
        "--peers",
        nargs="?",
        const=",".join(PEERS),
        default="",
        help="measure peers too, all of them or those named: --peers=loky,ray",
    )
    parser.add_argument("--no-save", action="store_true", help="leave results.json as it is")
    chosen = parser.parse_args()
    for name in chosen.only:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name}: there are {', '.join(BENCHMARKS)}")
    peers = [name for name in chosen.peers.split(",") if name]
    for name in peers:
        if name not in PEERS:
            parser.error(f"no peer {name}: there are {', '.join(PEERS)}")

    # State of its own: images of the process engine and histories of the user's stay untouched.
    state = tempfile.mkdtemp(prefix="lm-bench-")
    os.environ["LIFECYCLE_MAGIC_STATE"] = state
    try:
        engines, missing = _engines(chosen.engine or ["docker", "process"])
        figures = Figures(missing=tuple(missing))
        for name in chosen.only or BENCHMARKS:
            print(f"measuring {name} …", file=sys.stderr)
            figures += _measure(name, list(engines), peers)
    finally:
        from lifecycle_magic import session

        session.close("the benchmark is over")
        shutil.rmtree(state, ignore_errors=True)
    print(table(figures))
    if not chosen.no_save and not chosen.only:
        RESULTS.write_text(as_json(figures, _machine(engines)) + "\n")
        print(f"\nwritten to {RESULTS.parent.name}/{RESULTS.name}")
    return 0


def _measure(name: str, engines: list[str], peers: list[str]) -> Figures:
    measure: dict[str, Callable[[], Figures]] = {
        "imports": imports.measure,
        "calls": lambda: calls.measure(engines, peers),
        "cold": lambda: cold.measure(engines),
        "cells": lambda: cells.measure(engines),
        "builds": lambda: builds.measure(engines),
        "ends": lambda: ends.measure(engines),
        "panel": panel.measure,
        "web": lambda: web.measure(engines),
    }
    return measure[name]()


def _engines(wanted: list[str]) -> tuple[dict[str, str], list[str]]:
    """Those that answer, each with what it says of itself; and why others do not."""
    from lifecycle_magic.engines import choose
    from lifecycle_magic.exception import EngineUnavailable

    answering, missing = {}, []
    for name in wanted:
        try:
            engine, _ = choose(name)
            answering[name] = engine.check()
        except EngineUnavailable as error:
            missing.append(f"engine {name}: {error}")
    return answering, missing


def _machine(engines: dict[str, str]) -> dict[str, object]:
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
        model = names[0] if names else ""
    return {
        "cores": os.cpu_count(),
        "processor": model or platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "engines": engines,
    }


if __name__ == "__main__":
    sys.exit(main())
