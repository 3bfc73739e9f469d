"""The package, its front end and its documents use plain English, without puzzling words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORDS = (
    "mend",
    "whoever",
    "so long",
    "kin",
    "lest",
    "stead",
    "for people",
    "is told",
    "tells of",
    "to be had",
    "of ours",
    "told",
    "tells",
)
_GAP = r"[\s#*]+"  # a line break of a comment too
_PATTERN = re.compile(
    r"\b(" + "|".join(word.replace(" ", _GAP) for word in WORDS) + r")\b", re.IGNORECASE
)


def _files() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    for folder, suffixes in (("lifecycle_magic", {".py"}), ("js/src", {".ts", ".css"})):
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(found)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_the_list_is_found(word: str) -> None:
    assert _PATTERN.search(f"a sentence with {word} in it")
    assert not _PATTERN.search("mending, skin, kindness, instead, bestead")


def test_no_word_of_the_list_is_used() -> None:
    files = _files()
    assert len(files) > 100, "the tree was not found"
    hits = []
    for path in files:
        text = path.read_text()
        for match in _PATTERN.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            hits.append(f"{path.relative_to(ROOT)}:{line}: {match[0]}")
    assert not hits, "\n".join(hits)
