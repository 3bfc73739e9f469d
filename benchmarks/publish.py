"""The published results of a complete run: a plot, a page, and a section of the README.

All are made from ``benchmarks/results.json`` alone, so they match what was measured. After a change
of wording, ``python -m benchmarks.publish`` makes them again without measuring.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import cold, plot, resting
from benchmarks.figures import OURS, human, times_as_long

RESULTS = Path(__file__).with_name("results.json")
ROOT = RESULTS.parents[1]
PLOT = ROOT / "docs" / "figures.svg"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Results = Mapping[str, Any]

_CALLS = {
    "warm no-op call": "a small integer",
    "echo 1 MB array": "a 1 MB array",
    "echo 100 MB array": "a 100 MB array",
    "100 MB array, a new one comes back": "a 100 MB array; another one is returned",
    "map, 2 containers: per input": "one of many in `.map`, 2 containers",
}
_CONTENDERS = {
    "docker": "lifecycle_magic on Docker",
    "process": "lifecycle_magic on processes",
    "loky": "loky",
    "ray": "Ray actor",
    "dask": "Dask actor",
    "ipyparallel": "ipyparallel",
    "docker: raw socket": "for comparison: pickle over a bare socket",
    "two warm copies": "for comparison: one copy in each direction",
}
_STEPS = {
    "cold call, image built": "first call: image built, container not started",
    "re-run an unchanged cell": "run an unchanged cell again",
    "edit a method, call it": "edit a method and call it",
    "edit enter, call: above enter's own time": "edit `enter` and call, without `enter`'s own time",
    "edit enter, call, with a spare: above enter's own time": "the same with `buffer_containers=1`",
    "adopt a kept container": "adopt a kept container in a new kernel",
    "kernel SIGKILLed, exit begins": "from SIGKILL of the kernel to the start of `exit`",
}


def publish() -> list[str]:
    """Write all of them; return the names of what was written."""
    results = json.loads(RESULTS.read_text())
    PLOT.write_text(plot.draw(results))
    README.write_text(put(README.read_text(), summary(results)))
    PAGE.write_text(put(PAGE.read_text(), section(results)))
    return [str(path.relative_to(ROOT)) for path in (PLOT, README, PAGE)]


def put(page: str, text: str) -> str:
    """Return the page with ``text`` between the two marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def summary(results: Results) -> str:
    """Return Markdown for the README: medians, and how many bounds are missed."""
    missed, total, which = _bounds(results)
    held = f"{missed} of the {total} bounds that {which} are missed" if missed else "no bound is"
    return "\n".join(
        [
            f"Measured by `make bench` in {_where(results)}, in turns; medians.",
            f"[All figures](docs/figures.md): {held}"
            + ("; the page gives the known reasons." if missed else " missed."),
            "",
            *_calls(results),
            "",
            *_steps(results),
        ]
    )


def section(results: Results) -> str:
    """Return Markdown for the page: medians, bounds and misses, and what it costs at rest."""
    return "\n".join(
        [
            f"Measured by `make bench` in {_where(results)}, in turns. Medians;",
            "percentiles, every payload from 64 B to 1 GB and all the rest are in",
            "[results.json](../benchmarks/results.json). What the largest gains come from:",
            "[performance](performance.md).",
            "",
            "![Medians beside loky, Ray, Dask and ipyparallel](figures.svg)",
            "",
            *_calls(results),
            "",
            "An argument that a method returns, also changed in place, moves back without a copy.",
            "A new array is copied once.",
            "",
            *_tables(_payloads(results), _addresses(results)),
            *_steps(results),
            "",
            *_rest(results),
            "",
            *_web(results),
            "",
            *_missed(results),
            *_unmeasured(results),
        ]
    )


def _where(results: Results) -> str:
    machine = results["machine"]
    return f"one run on {machine['cores']} cores ({machine['processor']})"


def _bounds(results: Results) -> tuple[int, int, str]:
    """Return how many bounds are missed, how many there are, and which those are."""
    bounds, amounts = results["bounds"], results["amounts"]
    missed = sum(not one["met"] for one in [*bounds, *amounts])
    total = len(bounds) + sum(one["limit"] is not None for one in amounts)
    return missed, total, "were measured" if results["missing"] else "the benchmarks set"


def _medians(results: Results) -> dict[tuple[str, str], float]:
    return {(s["work"], s["who"]): s["p50"] for s in results["samples"]}


def _calls(results: Results) -> Iterator[str]:
    median = _medians(results)
    works = {work: name for work, name in _CALLS.items() if any(w == work for w, _ in median)}
    yield f"| time of a call that sends a value and returns it | {' | '.join(works.values())} |"
    yield "| --- |" + " --- |" * len(works)
    for who, name in _CONTENDERS.items():
        cells = [_cell(median.get((work, who))) for work in works]
        if any(cells):
            yield f"| {name} | {' | '.join(cells)} |"


def _tables(*tables: Iterator[str]) -> Iterator[str]:
    """Return the lines of those tables that have any, with an empty line after each."""
    for lines in map(list, tables):
        if lines:
            yield from (*lines, "")


_PAYLOAD = re.compile(r"echo \d+ MB: .+")


def _payloads(results: Results) -> Iterator[str]:
    """Return the times of calls that return a value of a library, beside a Ray actor."""
    median = _medians(results)
    works = [work for work in dict.fromkeys(w for w, _ in median) if _PAYLOAD.fullmatch(work)]
    if works:
        yield "| time of a call that sends a value and returns it | Docker | process | Ray actor |"
        yield "| --- | --- | --- | --- |"
    for work in works:
        cells = (_cell(median.get((work, who))) for who in (*OURS, "ray"))
        yield f"| {work.removeprefix('echo ')} | {' | '.join(cells)} |"


def _addresses(results: Results) -> Iterator[str]:
    """Return the calls that begin in the kernel, in a container and in another process."""
    median = _medians(results)
    works = [
        work for work in dict.fromkeys(w for w, _ in median) if work.endswith("where it begins")
    ]
    ways = ("direct", "nested", "by name")
    if works:
        yield f"| | {' | '.join(f'{name}, {way}' for name in OURS for way in ways)} |"
        yield "| --- |" + " --- |" * len(OURS) * len(ways)
    for work in works:
        cells = (_cell(median.get((work, f"{name}: {way}"))) for name in OURS for way in ways)
        yield f"| {work} | {' | '.join(cells)} |"


def _steps(results: Results) -> Iterator[str]:
    median = _medians(results)
    yield "| duration | Docker | process |"
    yield "| --- | --- | --- |"
    for work, name in _STEPS.items():
        cells = [_cell(median.get((work, engine))) for engine in OURS]
        if not any(cells):
            continue
        yield f"| {name} | {' | '.join(cells)} |"
        bare = median.get((work, cold.YARDSTICK))
        if bare is not None:
            yield f"| `docker run` of the same image, doing nothing | {_cell(bare)} | |"


def _rest(results: Results) -> Iterator[str]:
    amount = {(a["work"], a["who"]): a for a in results["amounts"]}
    found = []
    load = _medians(results).get(("%load_ext in a fresh interpreter", "kernel"))
    if load is not None:
        found.append(f"`%load_ext lifecycle_magic` takes {_cell(load)}")
    for who in ("docker", "process"):
        memory = amount.get(("memory of an idle container above a bare python3, PSS", who))
        if memory:
            found.append(f"an idle container on {who} is {memory['value']:.1f} MiB above `python3`")
    kernel = amount.get(("memory above a bare kernel, PSS", "kernel, one warm class on docker"))
    if kernel:
        found.append(f"a kernel with a warm class is {kernel['value']:.0f} MiB above a bare one")
    idle = [
        a
        for a in results["amounts"]
        if a["work"].startswith("CPU while idle") and a["who"].startswith("container")
    ]
    if idle:
        most = max(a["value"] for a in idle)
        span = idle[0]["work"].removeprefix("CPU while idle for ")
        found.append(f"in {span} of idleness a container uses {most:.1f} ms of CPU")
    found += _crowd(amount)
    if found:
        yield "; ".join(found) + "."


def _crowd(amount: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    """Return what a kernel with many classes and containers takes, all of them idle."""
    found = {
        work.partition(",")[0]: one["value"]
        for (work, who), one in amount.items()
        if who.endswith(resting.CROWD)
    }
    if not found:
        return
    yield (
        f"a kernel with {resting.CROWD} has for each of these containers "
        f"{found['descriptors of the kernel']:.1f} descriptors, "
        f"{found['threads of the kernel']:.1f} threads and "
        f"{found['memory of the kernel']:.2f} MiB, and a container takes "
        f"{found['memory of a container']:.1f} MiB (PSS)"
    )


def _web(results: Results) -> Iterator[str]:
    median = _medians(results)
    found = []
    for connections, which in (("1 connection", ""), ("8 connections", ", 16 at once")):
        work = f"HTTP request, {connections}"
        ours = [(name, median.get((work, name + which))) for name in OURS]
        alone = median.get((work, "uvicorn alone"))
        if alone is None or not any(seconds for _, seconds in ours):
            continue
        cells = [f"{_cell(seconds)} on {name}" for name, seconds in ours if seconds]
        found.append(
            f"over {connections} {' and '.join(cells)} ({_cell(alone)} under uvicorn alone)"
        )
    if found:
        yield f"An HTTP request to a FastAPI application in a warm class takes {', '.join(found)}."


def _missed(results: Results) -> Iterator[str]:
    bounds = [b for b in results["bounds"] if not b["met"]]
    over = [a for a in results["amounts"] if not a["met"]]
    count, total, which = _bounds(results)
    if not count:
        yield f"All {total} bounds that {which} are met."
        return
    yield f"**Missed**: {count} of the {total} bounds that {which}."
    yield ""
    for text in dict.fromkeys(b["text"] for b in bounds):
        took = [
            f"{_cell(b['measured'])} on {b['who']}, where {_cell(b['limit'])} are allowed"
            for b in bounds
            if b["text"] == text
        ]
        yield f"- {text}: {'; '.join(took)}.{_why(text, results)}"
    for a in over:
        allowed = f"where {a['limit']:g} are allowed"
        yield f"- {a['work']}, {a['who']}: {a['value']:.4g} {a['unit']}, {allowed}."


def _unmeasured(results: Results) -> Iterator[str]:
    if results["missing"]:
        yield ""
        yield "Not measured, with what was to be held against it:"
        yield ""
        yield from (f"- {text}" for text in results["missing"])


def _why(text: str, results: Results) -> str:
    """Return the known reasons for a missed bound, with the measurements that show them."""
    median = _medians(results)
    if text.startswith("echo") and "Ray" in text:
        work = text.partition(":")[0]
        ray, copies = median[work, "ray"], median.get((work, "two warm copies"))
        if copies is None:
            return ""
        return (
            f" Ray took {_cell(ray)}. Two warm copies alone take {_cell(copies)} here, "
            f"{times_as_long(copies / ray)} Ray's time; of those ours needs the one that brings "
            "the argument."
        )
    if "raw" in text:
        return (
            " The bare ping-pong has no frames, no ids, no pool, no interrupts, no output and no "
            "timeout."
        )
    if "uvicorn" in text:
        return (
            " Two processes handle it, the kernel's server and the container, where uvicorn alone "
            "is one; what that adds is about as much as this small application itself takes."
        )
    if "docker run" in text:
        return (
            " The engine's create and start are nearly all of both; ours adds Python's imports and "
            "the handshake, the command adds its own start and the container's removal."
        )
    if "x one" in text:
        return _why_several(text.partition(":")[0], median)
    return ""


def _why_several(work: str, median: Mapping[tuple[str, str], float]) -> str:
    one = median.get(("cold call, image built", cold.YARDSTICK))
    all_of_them = median.get((work, f"{cold.COUNT} x {cold.YARDSTICK}"))
    why = " All of them are created at once; what they take is the time of the processors"
    if one is None or all_of_them is None:
        return f"{why}."
    ratio = times_as_long(all_of_them / one)
    return f"{why}: {cold.COUNT} `docker run` at once take {ratio} as long as one here."


def _cell(seconds: float | None) -> str:
    return "" if seconds is None else human(seconds).replace("us", "µs")


if __name__ == "__main__":
    print("written:", ", ".join(publish()))
