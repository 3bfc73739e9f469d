"""The state table: every allowed move, every refused move, and the history in the error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lifecycle_magic.lifecycle.states import (
    ENDED_STATES,
    MOVES,
    WARM_STATES,
    IllegalMove,
    State,
    StateMachine,
)


def life() -> StateMachine:
    ticks = itertools.count()
    return StateMachine("lm-model-1", "Model", lambda: float(next(ticks)))


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_moves_in_the_table(state: State) -> None:
    assert state in MOVES


@pytest.mark.parametrize("state", sorted(ENDED_STATES, key=lambda state: state.value))
def test_an_exited_container_does_not_move_again(state: State) -> None:
    assert MOVES[state] == frozenset()


@pytest.mark.parametrize("state", [state for state in State if state not in ENDED_STATES])
def test_whatever_still_lives_can_fail(state: State) -> None:
    assert State.FAILED in MOVES[state]


def test_what_has_entered_is_exited_only_by_way_of_exiting_or_draining() -> None:
    before = {state for state, moves in MOVES.items() if State.EXITED in moves}
    assert before == {State.STARTING, State.DRAINING, State.EXITING}


def test_an_illegal_move_shows_the_history() -> None:
    one = life()
    one.move(State.STARTING)
    one.move(State.ENTERING)
    with pytest.raises(IllegalMove, match="building → starting → entering") as raised:
        one.move(State.BUSY, "a call came early")
    assert "lm-model-1" in str(raised.value)
    assert "a call came early" in str(raised.value)
    assert one.state is State.ENTERING


class AnyLife(RuleBasedStateMachine):
    """Whatever moves are tried: the state changes exactly when the table has the move, and is
    recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.life = life()
        self.taken: list[State] = [State.BUILDING]

    @rule(to=st.sampled_from(State))
    def try_a_move(self, to: State) -> None:
        before = self.life.state
        if to in MOVES[before]:
            record = self.life.move(to, "why")
            assert (record.previous, record.state, record.why) == (before, to, "why")
            self.taken.append(to)
        else:
            with pytest.raises(IllegalMove):
                self.life.move(to)

    @invariant()
    def the_history_is_what_happened(self) -> None:
        recent = self.taken[-len(self.life.history) :] if self.life.history else []
        assert [record.state for record in self.life.history] == recent
        assert self.life.state is self.taken[-1]

    @invariant()
    def warm_means_that_enter_has_run(self) -> None:
        if self.life.state in WARM_STATES:
            assert State.ENTERING in self.taken


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
