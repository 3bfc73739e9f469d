"""The number of containers that a pool should have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lifecycle_magic as lm
from lifecycle_magic.pool.sizing import Limits, wanted
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class


@pytest.mark.parametrize(
    ("limits", "inputs", "containers"),
    [
        (Limits(), 0, 0),
        (Limits(), 5, 1),
        (Limits(most=4), 3, 3),
        (Limits(most=4), 9, 4),
        (Limits(least=2, most=4), 0, 2),
        (Limits(least=2, most=4), 1, 2),
        (Limits(most=4, slots=2), 3, 2),
        (Limits(most=9, slots=10, target=2), 7, 4),  # as many as there should be, not could be
        (Limits(most=4, buffer=1), 0, 0),  # spares stand beside busy containers
        (Limits(most=4, buffer=1), 2, 3),
        (Limits(most=4, buffer=2), 3, 4),
        (Limits(least=1, most=4, buffer=1), 1, 2),
    ],
)
def test_there_are_enough_for_the_inputs_and_the_spares_inside_the_bounds(
    limits: Limits, inputs: int, containers: int
) -> None:
    assert wanted(limits, inputs) == containers


@st.composite
def any_limits(draw: st.DrawFn) -> Limits:
    least = draw(st.integers(0, 5))
    slots = draw(st.integers(1, 8))
    return Limits(
        least=least,
        most=draw(st.integers(max(least, 1), 12)),
        buffer=draw(st.integers(0, 3)),
        slots=slots,
        target=draw(st.none() | st.integers(1, slots)),
    )


@given(limits=any_limits(), inputs=st.integers(0, 200))
def test_whatever_the_options_are(limits: Limits, inputs: int) -> None:
    count = wanted(limits, inputs)
    assert limits.least <= count <= limits.most
    assert wanted(limits, inputs + 1) >= count  # never fewer for more
    if inputs:
        assert count >= 1
    if inputs and count < limits.most:
        assert count * limits.slots >= inputs
        assert (count - limits.buffer) * limits.slots >= inputs or count == limits.least


def test_what_a_class_asks_for_becomes_its_limits() -> None:
    class Model:
        @lm.method()
        @lm.concurrent(max_inputs=8, target_inputs=4)
        def f(self) -> None: ...

    def limits(**options: Any) -> Limits:
        return Limits.of(read_class(Model, Options.make("Model", **options)))

    assert (limits().slots, limits().target) == (8, 4)
    assert limits().most == 1
    assert limits(min_containers=2, buffer_containers=1).most == 3
    assert limits(min_containers=2, max_containers=5).most == 5
    assert limits(scaledown_window=60).scaledown_window == 60
