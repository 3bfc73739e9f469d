"""``python -m benchmarks``: measure, print the tables, and write results, plot and README.

python -m benchmarks                    everything, on every engine, with every peer
python -m benchmarks --quick            everything, in a fraction of the time and less exactly
python -m benchmarks calls maps         the named benchmarks

Only a complete run writes files: ``benchmarks/results.json``, ``docs/figures.svg`` and the figures
section of the README.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

from benchmarks import (
    addresses,
    builds,
    calls,
    cells,
    cold,
    ends,
    far,
    imports,
    keep,
    maps,
    panel,
    payloads,
    publish,
    resting,
    swarm,
    web,
)
from benchmarks.figures import Figures, as_json, table
from benchmarks.peers import PEERS, versions
from benchmarks.plan import Plan

BENCHMARKS: dict[str, Callable[[Plan], Figures]] = {
    "imports": imports.measure,
    "calls": calls.measure,
    "payloads": payloads.measure,
    "maps": maps.measure,
    "addresses": addresses.measure,
    "cold": cold.measure,
    "cells": cells.measure,
    "keep": keep.measure,
    "builds": builds.measure,
    "ends": ends.measure,
    "resting": resting.measure,
    "panel": panel.measure,
    "web": web.measure,
    "far": far.measure,
    "swarm": swarm.measure,
}
ENGINES = ("docker", "process")


def main() -> int:
    chosen = _arguments()
    # State of its own: images of the process engine and histories of the user's stay untouched.
    state = tempfile.mkdtemp(prefix="lm-bench-")
    os.environ["LIFECYCLE_MAGIC_STATE"] = state
    # Every contender starts interpreters, and those find what they compiled the time before.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    try:
        engines, missing = _engines(chosen.engine)
        plan = Plan(tuple(engines), chosen.peers, chosen.quick)
        figures = Figures(missing=tuple(missing))
        broken = []
        for name in chosen.only:
            print(f"measuring {name} …, after {time.monotonic() - began:.0f} s", file=sys.stderr)
            try:
                figures += BENCHMARKS[name](plan)
            except Exception as error:  # costs its own figures, and not the hour of all others
                traceback.print_exc()
                broken.append(f"{name}: {type(error).__name__}: {error}")
        figures += Figures(missing=tuple(broken))
    finally:
        from lifecycle_magic.session import session

        session.close("the benchmark is over")
        shutil.rmtree(state, ignore_errors=True)
    print(table(figures))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    everything = (
        not broken
        and not chosen.quick
        and chosen.only == tuple(BENCHMARKS)
        and chosen.engine == ENGINES
        and chosen.peers == PEERS
    )
    if everything:
        publish.RESULTS.write_text(as_json(figures, _machine(engines)) + "\n")
        print(f"written: {', '.join([publish.RESULTS.name, *publish.publish()])}")
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, nothing large")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the same as --only NAME,…")
    names = {"only": tuple(BENCHMARKS), "engine": ENGINES, "peers": PEERS}
    for name, there in names.items():
        parser.add_argument(
            f"--{name}",
            type=_several(there),
            default=there,
            metavar="NAME,…",
            help=f"some of {', '.join(there)}" + (", or none" if name == "peers" else ""),
        )
    chosen = parser.parse_args()
    if chosen.names:
        try:
            chosen.only = _several(tuple(BENCHMARKS))(",".join(chosen.names))
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    if not chosen.only or not chosen.engine:
        parser.error("that leaves nothing to measure")
    return chosen


def _several(there: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        wanted = set(text.split(",")) - {"", "none"}
        if unknown := wanted - set(there):
            raise argparse.ArgumentTypeError(
                f"no {', '.join(sorted(unknown))}: there are {', '.join(there)}"
            )
        return tuple(name for name in there if name in wanted)

    return read


def _engines(wanted: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Return the available engines with their descriptions, and why others are missing."""
    from lifecycle_magic.engines.choose import choose
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
        "peers": versions(),
    }


if __name__ == "__main__":
    sys.exit(main())
