"""Large buffers by shared memory: nothing changes under its owner, and nothing is kept for ever."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channel_pair import Pair
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import HEADER, MAGIC, MOVED, PACKED, SHARED
from lifecycle_magic.wire.frames import PACK_BYTES, Channel, Kind
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.segment import FREE, LEASED, NAME
from lifecycle_magic.wire.shared import SEGMENT_MIN_BYTES


@pytest.fixture
def make() -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def make(**options: Any) -> Pair:
        pairs.append(Pair(**options))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


LARGE = SEGMENT_MIN_BYTES // 8 + 1000  # of float64


def test_a_large_array_arrives_equal_and_writable(make: Callable[..., Pair]) -> None:
    pair = make()
    array = np.arange(LARGE, dtype=np.float64)
    back = pair.carry(array)
    assert np.array_equal(back, array)
    back[:] = 0
    assert len(pair.segments) == 1


def test_a_small_array_takes_no_segment(make: Callable[..., Pair]) -> None:
    pair = make()
    assert np.array_equal(pair.carry(np.arange(1000)), np.arange(1000))
    assert pair.segments == []


def test_many_small_buffers_share_a_segment(make: Callable[..., Pair]) -> None:
    pair = make()
    sizes = [5000 + n % 97 for n in range(2500)] + [SEGMENT_MIN_BYTES + 1, 5000]
    for turn in range(2):  # a new segment is written, one that is used again is mapped
        arrays = [np.full(size, (n + turn) % 251, np.uint8) for n, size in enumerate(sizes)]
        back = pair.carry(arrays)
        assert all(map(np.array_equal, back, arrays))
        assert len(pair.segments) == 1
        del back


def test_a_segment_is_used_again_when_its_last_view_has_died(make: Callable[..., Pair]) -> None:
    pair = make()
    for number in range(50):
        back = pair.carry(np.full(LARGE, number))
        assert back[-1] == number
        del back
    assert [segment.state for segment in pair.segments] == [FREE]


def test_a_kept_view_of_a_part_keeps_the_whole_from_changing(make: Callable[..., Pair]) -> None:
    pair = make()
    kept = pair.carry(np.arange(LARGE))[10:20]
    for number in range(20):
        pair.carry(np.full(LARGE, number))
    assert np.array_equal(kept, np.arange(10, 20))
    assert [segment.state for segment in pair.segments] == [LEASED, FREE]


@settings(deadline=None, max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4 * LARGE), st.sampled_from(["keep", "drop", "forget"])),
        max_size=40,
    )
)
def test_what_is_kept_never_changes(steps: list[tuple[int, str]]) -> None:
    pair = Pair()
    kept: list[tuple[int, Any]] = []
    try:
        for number, (size, what) in enumerate(steps):
            back = pair.carry(np.full(size, number, dtype=np.int64))
            if what == "keep":
                kept.append((number, back))
            elif what == "forget" and kept:
                kept.pop(number % len(kept))
            del back
            assert all((array == value).all() for value, array in kept)
        kept.clear()
        assert all(segment.state == FREE for segment in pair.segments)
    finally:
        pair.close()


def double(array: Any) -> Any:
    array *= 2
    return array


def test_what_comes_back_changed_in_place_is_not_copied(make: Callable[..., Pair]) -> None:
    pair = make()
    for number in range(20):
        array = np.full(LARGE, number)
        back = pair.answer(double, array)
        assert np.array_equal(back, 2 * array)
        assert back.flags.writeable
        del back
    assert not pair.copied
    assert [segment.state for segment in pair.segments] == [FREE]


def test_a_result_that_moved_back_stays_while_it_is_kept(make: Callable[..., Pair]) -> None:
    pair = make()
    kept = [pair.answer(double, np.full(LARGE, number)) for number in range(5)]
    pair.answer(double, np.full(LARGE, 77))
    assert [int(array[-1]) for array in kept] == [0, 2, 4, 6, 8]
    assert [segment.state for segment in pair.segments] == [LEASED] * 5 + [FREE]


def test_what_the_other_end_keeps_is_copied_for_the_answer(make: Callable[..., Pair]) -> None:
    pair = make()
    kept: list[Any] = []

    def keep(array: Any) -> Any:
        kept.append(array[:10])
        return array

    back = pair.answer(keep, np.arange(LARGE))
    assert pair.copied
    back[:] = 0
    assert np.array_equal(kept[0], np.arange(10))
    kept.clear()
    assert [segment.state for segment in pair.segments] == [FREE]


def test_an_answer_that_moves_is_whole_only_with_its_last_byte(make: Callable[..., Pair]) -> None:
    pair = make()
    pair.here.send(Kind.CALL, *dumps([np.arange(LARGE), np.arange(2 * LARGE)]))
    frame = pair.there.receive()
    assert frame is not None
    payload, buffers = dumps(loads(frame.payload, buffers=frame.buffers))
    del frame
    sent = bytearray()
    pair.there._send_parts = lambda parts: sent.extend(b"".join(parts))  # type: ignore[method-assign]
    pair.there.send_on(Kind.RESULT, payload, buffers)
    assert sent[3] == MOVED
    for byte in sent:
        assert pair.here.read_available() is False
        pair.there.sock.sendall(bytes([byte]))
    assert pair.here.read_available() is True
    back = pair.here.receive()
    assert back is not None
    assert np.array_equal(loads(back.payload, buffers=back.buffers)[1], np.arange(2 * LARGE))


def test_a_segment_moves_back_once(make: Callable[..., Pair]) -> None:
    pair = make()
    kept = pair.answer(double, np.arange(LARGE))
    segment = pair.segments[0]
    head = HEADER.pack(MAGIC, Kind.RESULT, MOVED, 0, 1, 0) + (8).to_bytes(8, "little")
    pair.there.sock.sendall(head + segment.name + (4096).to_bytes(8, "little"))
    with pytest.raises(WireError, match="not with the other side"):
        pair.here.receive()
    assert np.array_equal(kept, 2 * np.arange(LARGE))


def test_an_empty_buffer_next_to_a_large_one_travels_in_a_used_segment(
    make: Callable[..., Pair],
) -> None:
    pair = make()
    for _ in range(2):
        pair.here.send(Kind.RESULT, b"", [bytearray(), bytearray(SEGMENT_MIN_BYTES + 1)])
        frame = pair.there.receive()
        assert frame is not None
        assert [len(one) for one in frame.buffers] == [0, SEGMENT_MIN_BYTES + 1]
        del frame


def test_two_views_of_the_same_memory_come_back_as_two_arrays(make: Callable[..., Pair]) -> None:
    pair = make()
    whole, part = pair.answer(lambda array: (array, array[5:]), np.arange(LARGE))
    whole[:] = 0
    assert np.array_equal(part, np.arange(5, LARGE))


def test_a_small_part_does_not_keep_the_whole(make: Callable[..., Pair]) -> None:
    pair = make()
    part = pair.answer(lambda array: array[: LARGE // 4], np.arange(4 * LARGE))
    assert np.array_equal(part, np.arange(LARGE // 4))
    assert [segment.state for segment in pair.segments] == [FREE]


def test_several_arrays_move_back_in_another_order(make: Callable[..., Pair]) -> None:
    pair = make()
    first, second = np.arange(LARGE), np.ones((7, 5000))
    back = pair.answer(lambda both: {"b": both[1], "a": both[0]}, (first, second))
    assert np.array_equal(back["a"], first)
    assert np.array_equal(back["b"], second)
    assert not pair.copied


def test_what_a_fork_sees_does_not_move(make: Callable[..., Pair]) -> None:
    pair = make()
    forks = []

    def fork(array: Any) -> Any:
        forks.append(fork_that_waits())
        return array

    back = pair.answer(fork, np.arange(LARGE))
    assert np.array_equal(back, np.arange(LARGE))
    assert pair.copied
    told, child = forks[0]
    os.close(told)
    os.waitpid(child, 0)


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 2 * LARGE), st.booleans(), st.booleans(), st.booleans()),
        max_size=30,
    )
)
def test_nothing_kept_on_either_side_changes(steps: list[tuple[int, bool, bool, bool]]) -> None:
    pair = Pair()
    here: list[tuple[int, Any]] = []
    there: list[tuple[int, Any]] = []
    try:
        for number, (size, keep_there, keep_here, in_part) in enumerate(steps):

            def work(array: Any, number: int = number, keep: bool = keep_there) -> Any:
                if keep:
                    there.append((number, array))
                return array

            sent = np.full(size, number)
            back = pair.answer(work, sent)
            assert (back == number).all()
            if keep_here:
                here.append((number, back[1:] if in_part else back))
            else:
                back[:] = -1  # it is the caller's own
            del back
            for kept in (here, there):
                assert all((array == value).all() for value, array in kept)
        here.clear()
        there.clear()
        assert all(segment.state == FREE for segment in pair.segments)
    finally:
        pair.close()


def test_several_buffers_share_a_segment(make: Callable[..., Pair]) -> None:
    pair = make()
    values = {"a": np.arange(LARGE), "b": np.ones((7, 5000)), "c": b"x" * 10}
    back = pair.carry(values)
    assert np.array_equal(back["a"], values["a"])
    assert np.array_equal(back["b"], values["b"])
    assert len(pair.segments) == 1


def test_above_the_limit_the_socket_is_used(make: Callable[..., Pair]) -> None:
    pair = make(limit=SEGMENT_MIN_BYTES)
    array = np.arange(LARGE)
    assert np.array_equal(pair.carry(array), array)
    assert pair.segments == []


def test_idle_segments_go_back_to_the_system_on_both_sides(make: Callable[..., Pair]) -> None:
    pair = make()
    back = pair.carry(np.arange(LARGE))
    assert pair.here.shared is not None
    assert pair.there.shared is not None
    assert pair.here.shared.trim(idle=0.0), "a leased segment stays"
    del back
    assert not pair.here.shared.trim(idle=0.0)
    assert not pair.there.shared.trim(idle=0.0)
    assert np.array_equal(pair.carry(np.arange(LARGE)), np.arange(LARGE)), "and a new one is made"


def fork_that_waits() -> tuple[int, int]:
    """A child, and its own, that live until something is written: where, and the child's pid."""
    ours, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.fork()
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    return told, child


def test_a_fork_pins_what_is_leased_as_long_as_it_lives(make: Callable[..., Pair]) -> None:
    pair = make()
    assert pair.there.shared is not None
    back = pair.carry(np.arange(LARGE))
    told, child = fork_that_waits()
    del back
    for number in range(3):
        assert pair.carry(np.full(LARGE, number))[0] == number
    assert [segment.state for segment in pair.segments] == [LEASED, FREE]
    os.close(told)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 60
    while pair.segments[0].state != FREE and time.monotonic() < deadline:  # its own child goes too
        pair.there.shared.trim()
    assert [segment.state for segment in pair.segments] == [FREE, FREE]


def test_what_is_kept_here_stays_after_a_fork_has_exited(make: Callable[..., Pair]) -> None:
    pair = make()
    kept = pair.carry(np.arange(LARGE))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for number in range(3):
        pair.carry(np.full(LARGE, number))
    assert np.array_equal(kept, np.arange(LARGE))
    del kept
    assert [segment.state for segment in pair.segments] == [FREE, FREE]


def test_another_program_pins_nothing(make: Callable[..., Pair]) -> None:
    pair = make()
    back = pair.carry(np.arange(LARGE))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        del back
        assert [segment.state for segment in pair.segments] == [FREE]


def test_a_large_string_takes_a_segment_and_gives_it_back(make: Callable[..., Pair]) -> None:
    pair = make()
    text = "x" * PACK_BYTES
    for value in (
        text,
        [bytes(PACK_BYTES), np.arange(LARGE)],
        bytes(PACK_BYTES),
        bytearray(PACK_BYTES),
    ):
        back = pair.carry(value)
        assert type(back) is type(value)
        assert back[0] == value[0]
        assert len(back) == len(value)
        del back
    assert all(segment.state == FREE for segment in pair.segments)
    assert 1 <= len(pair.segments) <= 2


def test_there_are_no_more_segments_than_fit_into_a_process(make: Callable[..., Pair]) -> None:
    pair = make(limit=8 << 20)
    kept = [pair.carry(np.full(LARGE, number)) for number in range(20)]
    assert len(pair.segments) == 8
    assert [int(one[-1]) for one in kept] == list(range(20))


def test_what_is_kept_takes_no_descriptor(make: Callable[..., Pair]) -> None:
    pair = make()
    before = len(os.listdir("/proc/self/fd"))
    kept = [pair.carry(np.full(LARGE, number)) for number in range(50)]
    kept += [pair.answer(double, np.full(LARGE, number)) for number in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert [int(one[-1]) for one in kept] == [*range(50), *range(0, 100, 2)]


def test_threads_that_fork_at_once_close_no_descriptors_of_others() -> None:
    # In a process that has no more than it needs: a fork of the one that runs all tests takes long.
    code = "from unit import test_shared_memory as here; here.fork_on_threads()"
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": tests}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def fork_on_threads() -> None:
    """Fork on three threads at once, while another one opens and closes descriptors."""
    pair = Pair()
    kept = pair.carry(np.arange(LARGE))
    over = threading.Event()

    def fork() -> None:
        for _ in range(100):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    def look() -> None:
        """Descriptors of its own, each of which is still there when it closes it."""
        while not over.is_set():
            ends = os.pipe()
            try:
                over.wait(0.0005)
                for end in ends:
                    os.close(end)
            except OSError as error:
                lost.append(error)

    lost: list[OSError] = []
    looker = threading.Thread(target=look)
    forkers = [threading.Thread(target=fork) for _ in range(3)]
    for thread in (looker, *forkers):
        thread.start()
    for thread in forkers:
        thread.join()
    over.set()
    looker.join()
    assert lost == []
    assert pair.there.shared is not None
    pair.there.shared.trim()
    assert pair.there.shared.leases._pins == [], "every fork is gone"
    assert np.array_equal(kept, np.arange(LARGE))
    pair.close()


def test_no_descriptor_is_left_when_a_channel_closes() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pair = Pair()
    back = pair.carry(np.arange(LARGE))
    pair.close()
    assert np.array_equal(back, np.arange(LARGE)), "what is viewed lives on"
    del back
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [(NAME.pack(7, 1 << 20), "descriptor"), (NAME.pack(0, 1 << 40), "fit|size|descriptor")],
)
def test_a_segment_that_can_not_be_is_refused(
    make: Callable[..., Pair], name: bytes, told: str
) -> None:
    pair = make()
    assert pair.here.shared is not None
    pair.here.shared.sock.sendall(b"\0")  # with no descriptor
    head = HEADER.pack(MAGIC, Kind.RESULT, SHARED, 0, 1, 0) + (8).to_bytes(8, "little")
    pair.here.sock.sendall(head + name)
    with pytest.raises(WireError, match=told):
        pair.there.receive()


def test_memory_that_could_shrink_is_refused(make: Callable[..., Pair]) -> None:
    pair = make()
    size = 1 << 20
    memory = os.memfd_create("another's")
    os.ftruncate(memory, size)
    assert pair.here.shared is not None
    socket.send_fds(pair.here.shared.sock, [b"\0"], [memory])
    os.close(memory)
    head = HEADER.pack(MAGIC, Kind.RESULT, SHARED, 0, 1, 0) + (8).to_bytes(8, "little")
    pair.here.sock.sendall(head + NAME.pack(0, size))
    with pytest.raises(WireError, match="could shrink"):
        pair.there.receive()


@pytest.mark.parametrize(
    ("number", "start", "told"),
    [(0, 0, "fit"), (0, 1 << 40, "fit"), (1, 4096, "not with the other")],
)
def test_a_segment_that_can_not_have_moved_back_is_refused(
    make: Callable[..., Pair], number: int, start: int, told: str
) -> None:
    pair = make()
    back = pair.carry(np.arange(LARGE))
    size = pair.segments[0].size
    head = HEADER.pack(MAGIC, Kind.RESULT, MOVED, 0, 1, 0) + (8).to_bytes(8, "little")
    pair.there.sock.sendall(head + NAME.pack(number, size) + start.to_bytes(8, "little"))
    with pytest.raises(WireError, match=told):
        pair.here.receive()
    del back


@pytest.mark.parametrize("flags", [SHARED, MOVED, PACKED, SHARED | PACKED])
def test_without_shared_memory_a_shared_frame_is_refused(flags: int) -> None:
    raw, mine = socket.socketpair()
    with raw, mine:
        raw.sendall(HEADER.pack(MAGIC, Kind.RESULT, flags, 0, 1, 0))
        with pytest.raises(WireError, match="no frame"):
            Channel(mine).receive()


def test_a_readonly_array_stays_readonly(make: Callable[..., Pair]) -> None:
    array = np.arange(LARGE)
    array.flags.writeable = False
    back = make().carry(array)
    assert not back.flags.writeable
    assert pickle.dumps(back) == pickle.dumps(array)


def test_an_array_that_can_not_be_written_moves_back_too() -> None:
    pair = Pair()
    array = np.arange(100_000)
    array.flags.writeable = False
    back = pair.answer(lambda value: value, array)
    assert not pair.copied
    assert not back.flags.writeable
    assert np.array_equal(back, array)
    del back
    pair.close()
