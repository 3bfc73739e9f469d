"""When a pool gives up on its containers, and when it tries again."""

from __future__ import annotations

from lifecycle_magic.pool.crash_loop import MAX_CRASHES, CrashLoop


def test_a_few_that_die_are_replaced_and_one_more_is_one_too_many() -> None:
    loop = CrashLoop()
    assert [loop.record_crash() for _ in range(MAX_CRASHES)] == [False] * (MAX_CRASHES - 1) + [True]
    assert not loop.may_start(alive=0, waiting=0)


def test_a_call_starts_another_attempt_and_resets_the_count() -> None:
    loop = CrashLoop()
    for _ in range(MAX_CRASHES):
        loop.record_crash()
    assert loop.may_start(alive=0, waiting=1)
    assert not loop.may_start(alive=0, waiting=0)
    loop.resume()
    assert loop.may_start(alive=0, waiting=0)
    assert not loop.record_crash()


def test_an_answer_in_between_breaks_the_row() -> None:
    loop = CrashLoop()
    for _ in range(MAX_CRASHES):
        assert not loop.record_crash()
        loop.crashes = 0


def test_starts_that_fail_are_tried_again_only_for_a_call_that_has_no_other_container() -> None:
    loop = CrashLoop()
    for _ in range(MAX_CRASHES):
        assert loop.may_start(alive=1, waiting=0)
        loop.record_failed_start()
    assert not loop.may_start(alive=0, waiting=0)
    assert not loop.may_start(alive=1, waiting=1)
    assert loop.may_start(alive=0, waiting=1)
    loop.record_start()
    assert loop.may_start(alive=1, waiting=0)
