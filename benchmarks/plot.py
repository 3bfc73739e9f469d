"""The figures as a plot: an SVG written without a library, for light and dark themes.

There is a group for each kind of work and a bar for each contender. Each group has a logarithmic
scale of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.figures import OURS, human

GROUPS = (
    ("warm no-op call", "Call a warm method with a small integer"),
    ("echo 1 MB array", "Send a 1 MB array, get it back"),
    ("echo 100 MB array", "Send a 100 MB array, get it back"),
    (
        "map, 2 containers: per input",
        "map over 1,000 small inputs in 2 containers: time of each",
    ),
)
"""Works of the results that are drawn, with the heading of each."""

WIDTH, COLUMNS = 860, 2
ROW, BAR, HEAD, GAP = 22, 12, 30, 18
LABEL, VALUE, MARGIN = 138, 64, 12

_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #57606a }
    .head { font-weight: 600; fill: #24292f }
    .ours { fill: #1f6feb } .theirs { fill: #8c959f } .least { fill: #d0d7de }
    @media (prefers-color-scheme: dark) {
      text { fill: #9da7b3 } .head { fill: #e6edf3 }
      .ours { fill: #58a6ff } .theirs { fill: #6e7681 } .least { fill: #3d444d }
    }
"""

Rows = Sequence[tuple[str, float]]


def draw(results: Mapping[str, Any]) -> str:
    """Return the SVG of a results file: medians, shortest first."""
    groups = [(title, _rows(results, work)) for work, title in GROUPS]
    groups = [(title, rows) for title, rows in groups if rows]
    drawn = []
    top = MARGIN
    for start in range(0, len(groups), COLUMNS):
        line = groups[start : start + COLUMNS]
        for column, (title, rows) in enumerate(line):
            drawn += _group(title, rows, MARGIN + column * WIDTH // COLUMNS, top)
        top += HEAD + ROW * max(len(rows) for _, rows in line) + GAP
    title = "Medians beside loky, Ray, Dask and ipyparallel, on a logarithmic scale"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
            'aria-labelledby="title">',
            f'  <title id="title">{title}</title>',
            f"  <style>{_STYLE}  </style>",
            *drawn,
            "</svg>\n",
        ]
    )


def _rows(results: Mapping[str, Any], work: str) -> Rows:
    found = [(s["who"], s["p50"]) for s in results["samples"] if s["work"] == work]
    return sorted(found, key=lambda row: row[1])


def _group(title: str, rows: Rows, left: int, top: int) -> list[str]:
    wide = WIDTH // COLUMNS - LABEL - VALUE - 2 * MARGIN
    lowest = min(seconds for _, seconds in rows) / 2
    highest = max(max(seconds for _, seconds in rows), lowest * 100)
    lines = [f'  <text class="head" x="{left}" y="{top + 16}">{escape(title)}</text>']
    for index, (who, seconds) in enumerate(rows):
        y = top + HEAD + index * ROW
        length = wide * math.log(seconds / lowest) / math.log(highest / lowest)
        lines += [
            f'  <text x="{left}" y="{y + 11}">{escape(_name(who))}</text>',
            f'  <rect class="{_kind(who)}" x="{left + LABEL}" y="{y}" width="{length:.1f}" '
            f'height="{BAR}" rx="2"/>',
            f'  <text x="{left + LABEL + length + 6:.1f}" y="{y + 11}">'
            f"{human(seconds).replace('us', 'µs')}</text>",
        ]
    return lines


def _name(who: str) -> str:
    if who in OURS:
        return f"ours, on {who}"
    return who.replace(": raw socket", ", raw socket")


def _kind(who: str) -> str:
    if who in OURS:
        return "ours"
    return "least" if "raw" in who or "copies" in who else "theirs"
