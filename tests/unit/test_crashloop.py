"""When a pool gives up on its containers, and when it tries again."""

from __future__ import annotations

from lifecycle_magic.pools.crashloop import CRASH_LOOP, CrashLoop


def test_a_few_that_die_are_replaced_and_one_more_is_one_too_many() -> None:
    loop = CrashLoop()
    assert [loop.died() for _ in range(CRASH_LOOP)] == [False] * (CRASH_LOOP - 1) + [True]
    assert not loop.may_start(alive=0, waiting=0)


def test_a_call_makes_it_try_again_and_then_the_count_is_anew() -> None:
    loop = CrashLoop()
    for _ in range(CRASH_LOOP):
        loop.died()
    assert loop.may_start(alive=0, waiting=1)
    assert loop.may_start(alive=0, waiting=0)
    assert not loop.died()


def test_an_answer_in_between_breaks_the_row() -> None:
    loop = CrashLoop()
    for _ in range(CRASH_LOOP):
        assert not loop.died()
        loop.crashes = 0


def test_starts_that_fail_are_tried_again_only_for_a_call_that_has_no_other_container() -> None:
    loop = CrashLoop()
    for _ in range(CRASH_LOOP):
        assert loop.may_start(alive=1, waiting=0)
        loop.did_not_come_up()
    assert not loop.may_start(alive=0, waiting=0)
    assert not loop.may_start(alive=1, waiting=1)
    assert loop.may_start(alive=0, waiting=1)
    loop.came_up()
    assert loop.may_start(alive=1, waiting=0)
