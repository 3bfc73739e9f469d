"""Inputs for decoders: what makes sense, with edits; and the corpus that is kept between runs.

The corpus of a decoder is a folder of files below ``.hypothesis``, which git ignores. It holds an
input for each way in which a decoder ended, and what atheris found to reach new lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from attack.fuzzing.targets import Target
from hypothesis import strategies as st

CACHE = Path(os.environ.get("FUZZ_CACHE", Path(__file__).parents[3] / ".hypothesis"))
"""Where the corpus and hypothesis's own examples lie."""

MOST = 1 << 15
"""Bytes of an input at most."""

_ODD = (
    *(b"\0", b"\n", b"\r\n", b"\xff", b"\xed\xa0\x80", b"\x1b[31m", b"'", b'"', b"\\", b"$", b"${"),
    *(b"[" * 2000, b'{"a":' * 2000, b"NaN", b"1e999", b"-1", b"9" * 400, b"null", b"true", b"{}"),
    *(b"\\ud800", b"../", b"~", b"%", b"=", b" ", b"--", b"-", b":", b"\xe2\x80\xae"),
    *((1 << bits).to_bytes(8, "little") for bits in (0, 16, 31, 32, 40, 63)),
)
_WORDS = re.compile(rb"[\w.]+|[^\w.]+")

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["\ud800", "\x1b]0;x\x07", "x" * 5000, 10**400, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def corpus(target: Target) -> Path:
    """Return the folder of a decoder's corpus, which is made if need be."""
    folder = CACHE / "corpus" / re.sub(r"\W+", "-", target.name).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep(target: Target, data: bytes) -> None:
    """Add an input to the corpus."""
    (corpus(target) / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)


def kept(target: Target, most: int | None = None) -> list[bytes]:
    """Return the inputs of the corpus, at most ``most`` of them: the newest."""
    files = sorted(corpus(target).iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    return [one.read_bytes()[:MOST] for one in files[:most]]


@st.composite
def edited(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds with a few parts removed, repeated, replaced, or from another seed."""
    data = draw(st.sampled_from(seeds))
    words = [word for seed in seeds for word in _WORDS.findall(seed[:2000])] or [b""]
    piece = st.sampled_from(_ODD) | st.sampled_from(words) | st.binary(max_size=12)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 4, 8, 16, 1 << 20])))
        middle = draw(piece) * draw(st.sampled_from([1, 1, 1, 2, 100]))
        data = (data[:start] + middle + data[end:])[:MOST]
    return data


@st.composite
def retyped(draw: st.DrawFn, objects: tuple[dict[str, Any], ...]) -> bytes:
    """A JSON object with values that it should not have, or without some."""
    found = dict(draw(st.sampled_from(objects)))
    for name in draw(st.lists(st.sampled_from(sorted(found)), max_size=3)):
        if draw(st.booleans()):
            found[name] = draw(_JSON)
        else:
            found.pop(name, None)
    return json.dumps(found).encode() + b"\n"


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return the strategy for a decoder's inputs, its corpus among them."""
    seeds = (*target.seeds, *kept(target, 100))
    objects = tuple(one for seed in target.seeds for one in _objects(seed))
    found = edited(seeds) | st.binary(max_size=200)
    return found | retyped(objects) if objects else found


def _objects(seed: bytes) -> list[dict[str, Any]]:
    found = []
    for line in seed.split(b"\n"):
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict) and one:
            found.append(one)
    return found
