"""Random edits over programs of the corpus give what plain Python gives.

``CORPUS_EDITS`` says how many edits, 50 if it says nothing; `make soak` asks for 1,000. A program
gets four of them, one after the other.
"""

from __future__ import annotations

import os

import pytest
from corpus.edits import editable, with_random_edits
from corpus.program import Program, all_programs
from corpus.runner import Difference, Runner, check
from corpus.test_corpus import PENDING
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EDITS = int(os.environ.get("CORPUS_EDITS", "50"))
EACH = 4
SHARES = 8  # tests, so that pytest workers share the work
KINDS = ("names", "inheritance", "edits", "state", "datatypes", "decorators", "properties")
# The plain run can't carry a dispatcher over when only the cell that registers more runs again: its
# classes stay the former ones, and the registry has the new ones. A function that is an argument
# reads the notebook's newest values; in the plain run it reads those of the declaration.
BEYOND_THE_PLAIN_RUN = {"decorators-singledispatch-over-cells", "closures-function-argument"}
PROGRAMS = [
    one
    for one in all_programs()
    if one.kind in (*KINDS, "closures", "exceptions", "generators", "threads", "running")
    and editable(one)
    and one.id not in BEYOND_THE_PLAIN_RUN
    and not one.words("needs")
    and one.words("engines") in ((), ("process",))
    and f"{one.id} process" not in PENDING
]


@pytest.mark.process
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("share", range(SHARES))
def test_random_edits_give_what_plain_python_gives(share: int, runner: Runner) -> None:
    programs = PROGRAMS[share::SHARES]

    @settings(
        max_examples=max(1, EDITS // EACH // SHARES),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(st.sampled_from(programs), st.randoms(use_true_random=False))
    def edited(program: Program, random: object) -> None:
        pick = lambda below: random.randrange(below)  # type: ignore[attr-defined]  # noqa: E731
        changed = with_random_edits(program, pick, EACH)
        try:
            check(runner, changed, "process")
        except Difference as difference:
            told = [str(difference)]
            told += [f"--- {a.name}\n{a.what}" for s in changed.steps for a in s.actions if a.what]
            pytest.fail("\n".join(told), pytrace=False)

    edited()
