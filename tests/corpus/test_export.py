"""Exported programs of the corpus give what their notebooks give.

The ten of `SHARE` run each time, one for each kind of dependency that an export has to find; with
``CORPUS=all``, as ``make soak`` sets it, all run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpus import exported
from corpus.program import Program, all_programs

pytestmark = pytest.mark.process

SHARE = {
    "closures-counters-of-a-factory",
    "datatypes-newtype-argument",
    "decorators-registering",
    "decorators-singledispatch-function",
    "inheritance-abstract-lifecycle-base",
    "inheritance-init-subclass",
    "logging-warnings-as-errors-and-values",
    "names-by-string-made-at-run-time",
    "names-constant-added-after-the-class",
    "names-global-statements",
}
REFUSED = (
    "export: no cell declares a class that runs in containers",  # it is made by a function
    "and no cell of this session defines it. Fix: define",  # a method makes the name in a string
    "has values of the running notebook in it. Fix: write them into the line",
    "uses get_ipython, which exists in IPython only. Fix: write it without",
)
"""What the messages of refused programs have in them, each with a fix."""

MISSED = {"values-parsers-and-keys"}
"""Programs that change an object by another name of it, which the guide says an export misses."""


def _chosen() -> list[Program]:
    everything = os.environ.get("CORPUS") == "all"
    return [one for one in all_programs() if everything or one.id in SHARE]


@pytest.mark.parametrize("program", _chosen(), ids=lambda program: program.id)
def test_an_exported_program_shows_what_its_notebook_shows(
    program: Program, corpus_state: Path, tmp_path: Path
) -> None:
    try:
        differences = exported.compare(program, tmp_path, corpus_state)
    except exported.NotComparable as reason:
        assert program.id not in SHARE
        pytest.skip(str(reason))
    except exported.Refused as refused:
        if program.id in SHARE or not any(text in str(refused) for text in REFUSED):
            pytest.fail(str(refused), pytrace=False)
        return
    if program.id in MISSED:
        assert differences, "it is right now: remove it from MISSED"
    elif differences:
        pytest.fail("\n".join(differences), pytrace=False)
