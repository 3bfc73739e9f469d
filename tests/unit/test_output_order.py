"""Outputs that wait for those of another connection."""

from __future__ import annotations

import threading

from lifecycle_magic.container.output_order import OutputOrder


def test_output_waits_until_enough_of_the_connection_is_shown() -> None:
    order, shown = OutputOrder(), list[str]()
    order.show_after(0, lambda: shown.append("at once"))
    order.show_after(2, lambda: shown.append("second"))
    order.show_after(2, lambda: shown.append("third"))
    order.note_shown()
    assert shown == ["at once"]
    order.note_shown()
    assert shown == ["at once", "second", "third"]


def test_output_follows_earlier_output_that_waits() -> None:
    order, shown = OutputOrder(), list[int]()
    order.show_after(1, lambda: shown.append(1))
    order.show_after(0, lambda: shown.append(2))
    assert shown == []
    order.note_shown()
    assert shown == [1, 2]


def test_the_end_of_the_input_shows_what_waits_for_lost_output() -> None:
    order, shown = OutputOrder(), list[int]()
    order.show_after(5, lambda: shown.append(1))
    order.end_input()
    order.show_after(6, lambda: shown.append(2))  # of a call that outlives its caller
    assert shown == [1, 2]
    order.begin_input()
    order.show_after(7, lambda: shown.append(3))
    assert shown == [1, 2]


def test_an_output_whose_display_prints_again_does_not_block() -> None:
    order, shown = OutputOrder(), list[int]()

    def show() -> None:
        order.show_after(0, lambda: shown.append(2))
        shown.append(1)

    order.show_after(0, show)
    assert sorted(shown) == [1, 2]


def test_threads_lose_nothing_and_keep_their_order() -> None:
    order, shown = OutputOrder(), list[tuple[int, int]]()
    count = 2000

    def add(thread: int) -> None:
        for number in range(count):
            order.show_after(number // 2, lambda number=number: shown.append((thread, number)))

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(count // 2):
        order.note_shown()
    for thread in threads:
        thread.join()
    assert len(shown) == 3 * count
    for thread in range(3):
        assert [number for one, number in shown if one == thread] == list(range(count))
