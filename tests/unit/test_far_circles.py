"""Circles of calls through several sessions, found in what each session knows."""

from __future__ import annotations

import pytest

from lifecycle_magic.calls.far_circles import FullPool, Graph, find_circle, merge


def graph(
    full: dict[str, tuple[str, ...]],
    waits: dict[str, tuple[str, ...]],
    queued: dict[str, tuple[str, float]],
    aliases: dict[str, str] | None = None,
) -> Graph:
    pools = {key: FullPool(key.upper(), len(all), len(all), all) for key, all in full.items()}
    calls = {key: (pool, since, f"{pool.upper()}.go") for key, (pool, since) in queued.items()}
    names = {key: key.upper() for key in waits}
    names |= {key: pool.upper() for key, (pool, _) in queued.items()}
    return Graph(pools, waits, calls, aliases or {}, names, set())


# a1 runs in pool a of one session and calls pool b of another one, where b1 calls a.
ONE = graph({"a": ("a1",)}, {"a1": ("r1",)}, {"x": ("a", 2.0)}, {"r2": "x"})
TWO = graph({}, {"b1": ("r2",)}, {}, {"r1": "b1"})


def test_a_circle_of_two_sessions_is_found_in_what_both_know() -> None:
    found = find_circle(merge([ONE, TWO]))
    assert found is not None
    assert found.call == "x"
    assert found.path == ("A", "B1", "A")
    assert "A.go would wait forever" in found.message
    assert "max_containers=2" in found.message


@pytest.mark.parametrize("known", [[ONE], [TWO], []])
def test_one_session_alone_knows_of_no_circle(known: list[Graph]) -> None:
    assert find_circle(merge(known)) is None


def test_a_slot_whose_input_does_not_wait_is_no_part_of_a_circle() -> None:
    free = graph({"a": ("a1", "a2")}, {"a1": ("r1",)}, {"x": ("a", 2.0)}, {"r2": "x"})
    assert find_circle(merge([free, TWO])) is None
    unknown = graph({"a": ("a1", "")}, {"a1": ("r1",)}, {"x": ("a", 2.0)}, {"r2": "x"})
    assert find_circle(merge([unknown, TWO])) is None


def test_the_newest_call_of_a_circle_fails() -> None:
    # Both inputs of a call b, which runs one and has the other one in its queue.
    one = graph({"a": ("a1", "a2")}, {"a1": ("r1",), "a2": ("r3",)}, {"x": ("a", 2.0)}, {"r2": "x"})
    two = graph({"b": ("b1",)}, {"b1": ("r2",)}, {"y": ("b", 3.0)}, {"r1": "b1", "r3": "y"})
    found = find_circle(merge([one, two]))
    assert found is not None
    assert (found.call, found.stuck) == ("y", {"a", "b"})
    older = two._replace(queued={"y": ("b", 1.0, "B.go")})
    found = find_circle(merge([one, older]))
    assert found is not None
    assert found.call == "x"


def test_a_call_that_waits_at_a_stuck_pool_from_outside_is_not_the_one_to_fail() -> None:
    one = ONE._replace(queued={**ONE.queued, "z": ("a", 9.0, "A.go")})
    found = find_circle(merge([one, TWO]))
    assert found is not None
    assert found.call == "x"


def test_inputs_that_seem_to_wait_for_each_other_are_followed_only_so_far() -> None:
    odd = graph({"a": ("a1",)}, {"a1": ("b1",), "b1": ("a1",)}, {"x": ("a", 1.0)})
    assert find_circle(odd) is None
