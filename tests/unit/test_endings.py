"""What each kind of ending does to a warm container, held against its row of the table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.container.endings import RULES, Ending, EndKind, effective
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.lifecycle.states import ENDED_STATES, MOVES, PENDING_STATES, State


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Blocks:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @lm.method()
    def block(self) -> str:
        (Path(self.folder) / "began").write_text("")
        return (Path(self.folder) / "go").read_text()

    @lm.exit()
    def close(self) -> None:
        (Path(self.folder) / "exit").touch()


WARM = [kind for kind in EndKind if State.BUSY in RULES[kind].states]


@pytest.mark.parametrize("kind", WARM, ids=lambda kind: kind.name)
def test_a_busy_container_ends_as_the_table_says(
    engine: ForkEngine, tmp_path: Path, kind: EndKind
) -> None:
    rule = RULES[kind]
    for name in ("began", "go"):
        os.mkfifo(tmp_path / name)
    with Forked(engine, Blocks, str(tmp_path)) as work:
        call = work.block.spawn()
        (tmp_path / "began").read_text()
        [container] = work.made
        container.end(Ending(kind, "the test ends it"))
        assert container.state not in (State.IDLE, State.BUSY)
        if rule.callers_get is None:
            (tmp_path / "go").write_text("its value")
            assert call.get() == "its value"
        else:
            early = kind in (EndKind.CUT_SHORT, EndKind.STARTUP_TIMEOUT)  # the row is of a start
            expected = ContainerDied if early else rule.callers_get
            with pytest.raises(expected) as caught:
                call.get()
            assert type(caught.value) is expected
            assert kind is EndKind.DISCONNECTED or "the test ends it" in str(caught.value)
        assert container.exited.wait(20)
        assert (tmp_path / "exit").exists() is rule.runs_exit
        assert container.state is (State.EXITED if rule.runs_exit else State.FAILED)
        before = container.history
        for other in EndKind:
            container.end(Ending(other, "again"))
        assert container.history == before


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("builds", [False, True])
def test_a_stop_is_cut_short_where_no_exit_can_run(state: State, builds: bool) -> None:
    given = Ending(EndKind.STOP, "why")
    found = effective(given, state, builds=builds)
    if builds or state in PENDING_STATES:
        assert found.kind is EndKind.CUT_SHORT
        assert found.why.endswith(": why")
    else:
        assert found is given


@pytest.mark.parametrize("kind", EndKind, ids=lambda kind: kind.name)
def test_no_ending_begins_in_a_state_that_has_no_way_out(kind: EndKind) -> None:
    assert not RULES[kind].states & ENDED_STATES
    assert all(MOVES[state] for state in RULES[kind].states)
