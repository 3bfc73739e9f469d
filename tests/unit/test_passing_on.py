"""Segments that pass through a process: caller → session → worker, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from channel_pair import Pair

from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.passing_on import newest_lease, pass_on
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.segment import FREE, LEASED, RETIRED
from lifecycle_magic.wire.shared import SEGMENT_MIN_BYTES

SIZE = 4 * SEGMENT_MIN_BYTES


class Way:
    """The two connections. ``here`` of both pairs sends the call."""

    def __init__(self) -> None:
        self.caller, self.worker = Pair(), Pair()
        assert self.caller.there.shared is not None
        self.caller.there.shared.keeps_descriptors = True

    def call(self, value: Any) -> None:
        """Send a call from the caller, and pass it on to the worker."""
        self.caller.here.send(Kind.CALL, *dumps(value))
        assert self.pass_on(self.caller.there, self.worker.here, Kind.CALL)

    def answer(self) -> None:
        """Pass the worker's answer on to the caller."""
        assert self.pass_on(self.worker.here, self.caller.there, Kind.RESULT)

    @staticmethod
    def pass_on(source: Channel, target: Channel, kind: int) -> bool:
        frame = received(source)
        return pass_on(target, kind, bytes(frame.payload), frame.buffers, newest_lease(source), 1)

    @property
    def segment(self) -> Any:
        [one] = self.caller.segments
        return one


def received(channel: Channel) -> Frame:
    frame = channel.receive()
    assert frame is not None
    return frame


def value_at(channel: Channel) -> Any:
    frame = received(channel)
    return loads(frame.payload, buffers=frame.buffers)


@pytest.fixture
def way() -> Iterator[Way]:
    made = Way()
    yield made
    made.caller.close()
    made.worker.close()


def test_what_a_worker_returns_changed_comes_back_without_a_copy(way: Way) -> None:
    for number in range(3):
        way.call({"array": np.full(SIZE, number, np.uint8), "text": "x"})
        got = value_at(way.worker.there)
        assert got["array"].sum() == number * SIZE
        got["array"] += 1
        data, buffers = dumps(got["array"])
        del got
        way.worker.there.send_on(Kind.RESULT, data, buffers)
        way.answer()
        back = value_at(way.caller.here)
        assert back.sum() == (number + 1) * SIZE
        assert way.segment.state == LEASED
        del back
        assert way.segment.state == FREE
    for one in (way.worker.here, way.worker.there, way.caller.there):
        assert one.shared is not None
        assert one.shared.mine == []


def test_the_worker_frees_the_segment(way: Way) -> None:
    way.call(np.ones(SIZE, np.uint8))
    got = value_at(way.worker.there)
    assert way.segment.state == LEASED
    del got
    assert way.segment.state == FREE


def test_what_the_worker_keeps_never_changes(way: Way) -> None:
    way.call(np.ones(SIZE, np.uint8))
    kept = value_at(way.worker.there)
    way.call(np.zeros(SIZE, np.uint8))
    assert value_at(way.worker.there).sum() == 0
    assert kept.sum() == SIZE
    assert len(way.caller.segments) == 2


def test_the_end_of_the_worker_frees_what_it_had(way: Way) -> None:
    way.call(np.ones(SIZE, np.uint8))
    way.worker.there.close()
    assert way.segment.state == LEASED
    assert way.worker.here.shared is not None
    way.worker.here.shared.release_passed()
    assert way.segment.state == FREE


def test_the_end_of_the_caller_gives_the_memory_back_when_the_worker_has_no_view(
    way: Way,
) -> None:
    way.call(np.ones(SIZE, np.uint8))
    got = value_at(way.worker.there)
    segment = way.segment
    way.caller.here.close()
    way.caller.there.close()
    here, there = way.worker.here.shared, way.worker.there.shared
    assert here is not None
    assert there is not None
    here.trim(0)
    assert got.sum() == SIZE
    assert here.passed
    del got
    assert not here.trim(0)
    assert segment.state == RETIRED
    assert not there.trim(0)
    assert there.theirs == {}


def test_a_segment_without_a_descriptor_is_not_passed_on(way: Way) -> None:
    assert way.caller.there.shared is not None
    way.caller.there.shared.keeps_descriptors = False
    way.caller.here.send(Kind.CALL, *dumps(np.ones(SIZE, np.uint8)))
    assert not way.pass_on(way.caller.there, way.worker.here, Kind.CALL)
    way.caller.here.send(Kind.CALL, *dumps(np.zeros(SIZE, np.uint8)))
    frame = received(way.caller.there)  # the first one was left as it was
    way.worker.here.send(Kind.CALL, bytes(frame.payload), frame.buffers)
    assert value_at(way.worker.there).sum() == 0


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    way = Way()
    for _ in range(3):
        way.call(np.ones(SIZE, np.uint8))
        value_at(way.worker.there)
    way.caller.close()
    way.worker.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
