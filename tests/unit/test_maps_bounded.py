"""Memory of a map: it holds few inputs and few bytes, and the next input is always ready."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.calls.map import mapping
from lifecycle_magic.calls.map.map_slots import Item, MapSlot
from lifecycle_magic.calls.map.mapping import WINDOW
from lifecycle_magic.calls.map.pump import Pump


class Work:
    @lm.method()
    def echo(self, x: Any) -> Any:
        return x

    @lm.method()
    def size(self, x: Any) -> int:
        return len(x)

    @lm.method()
    def hold(self, path: str, array: Any) -> float:
        with open(path) as fifo:
            fifo.read()
        return float(array[0])


@pytest.fixture(scope="module")
def work() -> Iterator[Forked]:
    engine = ForkEngine()
    with Forked(engine, Work) as made:
        yield made
    engine.close()


def test_a_map_over_many_inputs_holds_a_window_of_them(work: Forked) -> None:
    count, most = 30_000, 0
    for index, value in enumerate(work.echo.map(iter(range(count)))):
        if index % 5_000 == 2_500:
            gc.collect()
            most = max(most, sum(type(one) is Item for one in gc.get_objects()))
        assert value == index
    assert index == count - 1
    assert most <= 2 * WINDOW


def wait_for_rest(fed: list[int], work: Forked, least: int) -> int:
    """Return how many inputs were taken, after the map has stopped taking more."""
    while True:
        before = len(fed)
        passed = threading.Event()
        work.event_loop.call_later(0.2, passed.set)
        passed.wait()
        if len(fed) == before >= least:
            return before


def arrays(fed: list[int], count: int) -> Iterator[Any]:
    for number in range(count):
        fed.append(number)
        yield np.full(125_000, number, np.float64)  # 1 MB


def test_a_map_over_large_inputs_holds_no_more_than_some_bytes_of_them(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "WINDOW_BYTES", 20_000_000)
    fed: list[int] = []
    results = work.echo.map(arrays(fed, 100))
    first = next(results)
    assert 2 <= wait_for_rest(fed, work, 2) <= 22, "nobody takes what comes back"
    assert [int(one[0]) for one in itertools.chain([first], results)] == list(range(100))


def test_small_results_of_large_inputs_are_held_in_number(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "WINDOW_BYTES", 20_000_000)
    fed: list[int] = []
    results = work.size.map(arrays(fed, 100))
    next(results)
    assert wait_for_rest(fed, work, 100) == 100
    assert sum(1 for _ in results) == 99


def test_inputs_larger_than_the_window_go_through_all_the_same(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "WINDOW_BYTES", 1)
    assert list(work.size.map(arrays([], 10))) == [125_000] * 10


@pytest.mark.parametrize("size", [10, 3_000, 30_000, 300_000])
def test_the_next_input_is_there_while_one_runs_however_large_it_is(
    work: Forked, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    slots: list[MapSlot] = []
    opened = Pump._add_slot
    monkeypatch.setattr(
        Pump, "_add_slot", lambda pump, slot: (slots.append(slot), opened(pump, slot))[1]
    )
    gates = [str(tmp_path / name) for name in "abc"]
    for gate in gates:
        os.mkfifo(gate)
    results = work.hold.map(gates, [np.full(size, number) for number in range(3)])
    got: list[float] = []
    reader = threading.Thread(target=lambda: got.extend(results), daemon=True)
    reader.start()
    for gate, there in zip(gates, (2, 2, 1), strict=True):
        with open(gate, "w"):  # the method has begun
            deadline = time.monotonic() + 60
            while (sent := len(slots[0].sent)) != there and time.monotonic() < deadline:
                time.sleep(0.001)
        assert sent == there
    reader.join()
    assert got == [0, 1, 2]
