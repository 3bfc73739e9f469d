"""Measured times, and the bounds they are compared with.

A `Sample` holds the times of one contender for one kind of work; a `Bound` is a promise about it.
Both are frozen and independent of how they were measured, so a new row of the table is a new
function that returns samples and bounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import quantiles
from typing import Any

OURS = ("docker", "process")
"""Our contenders, by engine. Others are compared with the first that did the same work."""

Run = Callable[[int], list[float]]
"""A function that does the work that many times and returns the seconds of each."""


@dataclass(frozen=True)
class Sample:
    """The times of ``who`` for ``work``, in seconds, one for each repetition."""

    work: str
    who: str
    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return self._percentile(50)

    @property
    def p99(self) -> float:
        return self._percentile(99)

    def _percentile(self, percent: int) -> float:
        if len(self.seconds) == 1:
            return self.seconds[0]
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Bound:
    """A promise, described by ``text``: ``measured`` is at most ``limit``; both are seconds."""

    text: str
    who: str
    measured: float
    limit: float

    @property
    def met(self) -> bool:
        return self.measured <= self.limit


@dataclass(frozen=True)
class Amount:
    """A ``value`` that is no time, in ``unit``; at most ``limit`` if that is promised."""

    work: str
    who: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def met(self) -> bool:
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class Figures:
    """The results of one benchmark. ``missing`` lists what could not be measured, with reasons."""

    samples: tuple[Sample, ...] = ()
    bounds: tuple[Bound, ...] = ()
    missing: tuple[str, ...] = field(default=())
    amounts: tuple[Amount, ...] = ()

    def median(self, who: str) -> float | None:
        """Return the median of ``who`` for the one work of these samples, or None."""
        return next((sample.p50 for sample in self.samples if sample.who == who), None)

    def ratio(self, sample: Sample) -> float | None:
        """Return the ratio of a sample's time to ours, or None if ours did not do the same work."""
        ours = {s.who: s.p50 for s in self.samples if s.work == sample.work and s.who in OURS}
        first = next((ours[who] for who in OURS if who in ours), None)
        return sample.p50 / first if first else None

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.samples + other.samples,
            self.bounds + other.bounds,
            self.missing + other.missing,
            self.amounts + other.amounts,
        )


class Unable(Exception):
    """A contender can't do this work; the message says why."""


ENOUGH = 15.0
"""Seconds after which no further round of a work begins."""


def alternate(work: str, runs: Mapping[str, Run], *, rounds: int, times: int) -> Figures:
    """Let each contender do the work ``times`` times in turn, ``rounds`` times.

    Taking turns spreads other load of the machine over all contenders. The first turn of each is a
    warm-up and is not counted. Work that takes seconds ends after fewer rounds: after `ENOUGH`
    seconds, but not before two rounds. A contender that raises `Unable` is left out and listed as
    missing.
    """
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    missing = []
    began = time.monotonic()
    for turn in range(rounds + 1):
        if turn > 2 and time.monotonic() - began > ENOUGH:
            break
        for who in list(seconds):
            try:
                took = runs[who](times)
            except Unable as error:
                del seconds[who]
                missing.append(f"{work}, {who}: {error}")
                continue
            if turn:
                seconds[who] += took
    samples = [Sample(work, who, tuple(took)) for who, took in seconds.items()]
    return Figures(tuple(samples), missing=tuple(missing))


def timed(call: Callable[[], object]) -> Run:
    """Return ``call`` as a contender that is timed from outside for each repetition."""

    def run(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return seconds

    return run


def table(figures: Figures) -> str:
    """Return the figures as text: measurements, then bounds, and finally the missed bounds."""
    measured = [
        (
            s.work,
            s.who,
            human(s.p50),
            human(s.p99),
            len(s.seconds),
            times_as_long(figures.ratio(s)),
        )
        for s in figures.samples
    ]
    bounds = [
        (b.text, b.who, human(b.measured), human(b.limit), _verdict(b.met)) for b in figures.bounds
    ]
    amounts = [
        (a.work, a.who, f"{a.value:.4g} {a.unit}", *_held(a.limit, a.unit, a.met))
        for a in figures.amounts
    ]
    parts = [
        _columns(("work", "who", "p50", "p99", "times", "ratio"), measured),
        _columns(("amount", "who", "measured", "at most", ""), amounts),
        _columns(("bound", "who", "measured", "at most", ""), bounds),
        *(f"not measured: {text}" for text in figures.missing),
        _summary(figures),
    ]
    return "\n\n".join(part for part in parts if part)


def _summary(figures: Figures) -> str:
    missed = [f"{b.text} ({b.who})" for b in figures.bounds if not b.met]
    missed += [f"{a.work} ({a.who})" for a in figures.amounts if not a.met]
    total = len(figures.bounds) + sum(1 for a in figures.amounts if a.limit is not None)
    if not total:
        return ""
    lines = [f"{total - len(missed)} of {total} bounds met"]
    return "\n".join([*lines, *(f"  MISSED: {text}" for text in missed)])


def _verdict(met: bool) -> str:
    return "ok" if met else "MISSED"


def times_as_long(ratio: float | None) -> str:
    """Format a ratio of times in a few digits.

    >>> times_as_long(1.0), times_as_long(27.84), times_as_long(0.256), times_as_long(None)
    ('1 x', '28 x', '0.26 x', '')
    """
    return "" if ratio is None else f"{ratio:.2g} x" if ratio < 100 else f"{ratio:.0f} x"


def _held(limit: float | None, unit: str, met: bool) -> tuple[str, str]:
    return ("", "") if limit is None else (f"{limit:.4g} {unit}", _verdict(met))


def _columns(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    if len(lines) == 1:
        return ""
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def human(seconds: float) -> str:
    """Format seconds with a unit that reads well.

    >>> human(0.0000412), human(0.25), human(12.0)
    ('41 us', '250 ms', '12.0 s')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1e-2:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s"


def as_json(figures: Figures, machine: Mapping[str, Any]) -> str:
    """Return the figures for a file, with percentiles of each sample instead of all its times."""
    return json.dumps(
        {
            "machine": dict(machine),
            "samples": [
                {
                    "work": s.work,
                    "who": s.who,
                    "p50": s.p50,
                    "p99": s.p99,
                    "times": len(s.seconds),
                    "ratio": figures.ratio(s),
                }
                for s in figures.samples
            ],
            "bounds": [{**asdict(b), "met": b.met} for b in figures.bounds],
            "amounts": [{**asdict(a), "met": a.met} for a in figures.amounts],
            "missing": list(figures.missing),
        },
        indent=1,
    )
