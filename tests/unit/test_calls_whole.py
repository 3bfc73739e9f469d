"""An interrupted call is made completely, with its own arguments, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.callers import many_calls
from lifecycle_magic.callers import with_aio as way
from lifecycle_magic.calls import (
    consumer_clock,
    detached,
    generator_close,
    generators,
    reply,
    streams,
)
from lifecycle_magic.calls import input as inputs
from lifecycle_magic.calls import sync as calls
from lifecycle_magic.calls.input import interrupt
from lifecycle_magic.calls.map import public
from lifecycle_magic.container import container, control, shutdown
from lifecycle_magic.exception import (
    InputCancelled,
    MethodTimeout,
    SerializationError,
    WireError,
)
from lifecycle_magic.handles import call_forms, methods
from lifecycle_magic.pool import crash_loop, pool, scale_down, starts, state, swap
from lifecycle_magic.wire import frames, pickling, shared
from lifecycle_magic.wire.frames import Channel

pytestmark = pytest.mark.every_python


class Work:
    @lm.method()
    def echo(self, x: Any) -> Any:
        return x

    @lm.method()
    def first(self, array: Any, fail: bool = False) -> float:
        if fail:
            raise LookupError(len(array))
        return float(array[0])

    @lm.method()
    def total(self, arrays: Any) -> int:
        return sum(int(array[-1]) for array in arrays)

    @lm.method()
    async def echo_async(self, x: Any) -> Any:
        return x

    @lm.method()
    def firsts(self, array: Any, times: int = 1) -> Iterator[float]:
        for _ in range(times):
            yield float(array[0])

    @lm.method()
    def stops(self) -> Iterator[int]:
        yield 0
        while True:
            import time

            time.sleep(600)

    @lm.method()
    def pid(self) -> int:
        return os.getpid()

    @lm.method()
    def hold(self, path: str) -> None:
        with open(path) as fifo:
            fifo.read()

    @lm.method()
    def large(self, size: int) -> bytes:
        return bytes(size)

    @lm.method()
    def hang(self) -> None:
        import time

        time.sleep(600)


class Concurrent:
    @lm.method()
    def echo(self, x: Any) -> Any:
        return x


class Batches:
    @lm.batched(max_batch_size=2, wait_ms=600_000)
    def firsts(self, arrays: Any) -> Any:
        print("a batch")
        return [float(array[0]) for array in arrays]


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def work(engine: ForkEngine) -> Iterator[Forked]:
    with Forked(engine, Work) as made:
        yield made


def reused(count: int, size: int) -> Iterator[Any]:
    """The same array again and again, with other contents."""
    array = np.zeros(size)
    for number in range(count):
        array[:] = number
        yield array


# --- what was passed ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 2_000, 40_000])
def test_a_map_over_one_array_that_is_reused_sees_each_of_its_contents(
    work: Forked, size: int
) -> None:
    assert list(work.first.map(reused(200, size))) == list(range(200))


@pytest.mark.parametrize("size", [2_000, 40_000])
def test_a_spawned_call_keeps_what_it_was_given(work: Forked, size: int, tmp_path: Any) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    before = work.hold.spawn(fifo)  # those behind it wait for its slot
    calls = [work.first.spawn(array) for array in reused(3, size)]
    with open(fifo, "w"):
        pass
    before.get()
    assert [call.get() for call in calls] == [0, 1, 2]


def test_a_generator_gets_its_argument_as_it_was_when_it_was_called(work: Forked) -> None:
    array = np.zeros(2_000)
    items = work.firsts.remote_gen(array)
    array[:] = 7
    assert list(items) == [0]


def test_each_input_of_a_batch_is_what_it_was_when_it_came(engine: ForkEngine) -> None:
    with Forked(engine, Batches) as batches:
        calls = [batches.firsts.spawn(array) for array in reused(2, 2_000)]
        assert [call.get() for call in calls] == [0, 1]
        calls = [batches.firsts.spawn(array) for array in reused(2, 40_000)]
        assert [call.get() for call in calls] == [0, 1]


def test_an_input_of_a_batch_that_can_not_travel_is_refused_alone(engine: ForkEngine) -> None:
    with Forked(engine, Batches) as batches:
        good = batches.firsts.spawn([1])
        with pytest.raises(SerializationError, match="argument 1, a lock"):
            batches.firsts.spawn(threading.Lock())
        assert (batches.firsts.remote([2]), good.get()) == (2, 1)


def test_more_arrays_than_a_frame_has_buffers_travel_all_the_same(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pickling.MAX_BUFFERS == frames.MAX_BUFFERS
    for module in (pickling, frames):
        monkeypatch.setattr(module, "MAX_BUFFERS", 100)
    many = [np.full(4096, number, np.uint8) for number in range(250)]
    one, total, two = work.total.map([many[:1], many, many[:3]])
    assert (one, total, two) == (0, sum(range(250)), 3)


def test_an_input_that_is_too_large_fails_alone(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = work.pid.remote()
    (slot,) = work.made[0].slots
    monkeypatch.setattr(slot.channel, "max_frame", 1 << 20)
    large = bytes(2 << 20)
    one, error, two = work.first.map([[1], large, [2]], return_exceptions=True)
    assert (one, two) == (1, 2)
    assert "bytes" in str(error)
    with pytest.raises(WireError, match="bytes"):
        next(work.firsts.remote_gen(large))
    with pytest.raises(WireError, match="bytes"):
        work.first.spawn(large).get()
    assert work.pid.remote() == before


# --- SIGINT -------------------------------------------------------------------------------------

TRACED = (
    detached,
    calls,
    container,
    control,
    shutdown,
    crash_loop,
    generator_close,
    public,
    many_calls,
    call_forms,
    methods,
    pool,
    scale_down,
    starts,
    state,
    reply,
    inputs,
    consumer_clock,
    generators,
    streams,
    swap,
    way,
)
OURS = {module.__file__ for module in TRACED}


def interrupted_at(what: Callable[[], Any], line: int) -> str:
    """Raise SIGINT at the ``line``-th line of our code in ``what``, and return it."""
    left, where = line, ""

    def at_line(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left, where
        code = frame.f_code
        # The interpreter looks for signals where functions begin and end, and at no "try:".
        if (
            event == "line"
            and linecache.getline(code.co_filename, frame.f_lineno).strip() != "try:"
        ):
            left -= 1
            if not left:
                where = f"{code.co_name}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return at_line

    def at_call(frame: Any, event: str, argument: Any) -> Any:
        return at_line if frame.f_code.co_filename in OURS else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        what()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return where


def spawned(work: Forked) -> Any:
    return work.echo.spawn(1)


def awaited(work: Forked) -> Any:
    return work.echo_async.remote(1)


def awaited_in_a_loop(work: Forked) -> Any:
    async def main() -> Any:
        return work.echo_async.remote(1).get()

    return asyncio.run(main())


def gathered(work: Forked) -> Any:
    return lm.gather(work.echo.spawn(1), work.echo.spawn(2))


def cancelled(work: Forked) -> Any:
    return work.echo.spawn(1).cancel()


def read(work: Forked) -> Any:
    return list(work.firsts.remote_gen([1], 3))


def left(work: Forked) -> Any:
    items = work.firsts.remote_gen([1], 3)
    next(items)
    items.close()  # type: ignore[attr-defined]


def mapped(work: Forked) -> Any:
    return list(work.echo.map([1, 2]))


def left_map(work: Forked) -> Any:
    results = work.echo.map([1, 2])
    next(results)
    results.close()  # type: ignore[attr-defined]


# An interrupt may fall between the call and the wait for its value.
@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "way", [spawned, awaited, awaited_in_a_loop, gathered, cancelled, read, left, mapped, left_map]
)
def test_an_interrupt_at_any_line_loses_no_slot(work: Forked, way: Callable[[Forked], Any]) -> None:
    before = work.pid.remote()
    answers: list[Any] = []
    line = 1
    while where := interrupted_at(lambda: way(work), line):
        # On another thread, which does not hang for ever if there is no slot.
        asks = threading.Thread(target=lambda: answers.append(work.pid.remote()), daemon=True)
        asks.start()
        asks.join(30)
        assert answers == [before] * line, f"after an interrupt at {where}"
        line += 1
    assert line > 10


# --- time ---------------------------------------------------------------------------------------


def pass_time(work: Forked, seconds: float) -> None:
    """Wait until the event loop has seen that much time go by, and all timers due before."""
    passed = threading.Event()
    work.event_loop.call_later(seconds, passed.set)
    assert passed.wait(60)


@contextlib.contextmanager
def time_limit(work: Forked, seconds: float) -> Iterator[None]:
    """Give the calls in here a ``timeout``. The others of a test may take their time."""
    work.pool.timeout = seconds
    yield
    work.pool.timeout = None


def test_the_time_that_a_consumer_takes_is_not_the_generator_s(work: Forked) -> None:
    before = work.pid.remote()
    with time_limit(work, 3):
        items = work.firsts.remote_gen([1], 3)
        next(items)
        pass_time(work, 3.5)
        assert list(items) == [1, 1]
    assert work.pid.remote() == before


def test_a_generator_that_exceeds_its_timeout_raises_even_after_a_pause(work: Forked) -> None:
    before = work.pid.remote()
    with time_limit(work, 1.5):
        items = work.stops.remote_gen()
        next(items)
        pass_time(work, 2)
        with pytest.raises(MethodTimeout, match=r"timeout=1\.5 s"):
            next(items)
    assert work.pid.remote() == before


def test_an_unread_response_costs_no_container(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "INTERRUPT_GRACE_SECONDS", 60)
    before = work.pid.remote()
    input = streams.Stream(work.pool, "stops", (), {})
    items = generators.items_of(input)
    next(items)
    work.event_loop.call_soon(lambda: interrupt(input))
    while not input.has_unread_answer():
        pass_time(work, 0.01)
    monkeypatch.setattr(inputs, "INTERRUPT_GRACE_SECONDS", 0.1)
    work.event_loop.call_soon(lambda: interrupt(input))
    pass_time(work, 0.5)  # it has stopped, and nobody reads that
    with pytest.raises(InputCancelled):
        next(items)
    assert work.pid.remote() == before


def test_a_generator_that_is_cancelled_before_it_was_sent_spares_its_container(
    work: Forked,
) -> None:
    before = work.pid.remote()
    items = work.firsts
    items._ready = lambda: work.pool

    async def cancelled_after(steps: int) -> None:
        stream: Any = items.remote_gen.aio([1], 2)
        task = asyncio.ensure_future(stream.__anext__())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await stream.aclose()

    for steps in range(6):
        asyncio.run(cancelled_after(steps))
        assert (work.pid.remote(), len(work.made)) == (before, 1)


# --- who waits for whom -------------------------------------------------------------------------


def test_a_container_that_stalls_in_a_result_holds_up_no_timer_of_another(
    engine: ForkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    take = Channel._read_exactly

    def noted(channel: Channel, size: int) -> bytearray:
        if size > 1 << 26:
            os.kill(stalls, signal.SIGSTOP)
            begun.set()
        return take(channel, size)

    monkeypatch.setattr(Channel, "_read_exactly", noted)
    with Forked(engine, Work) as stalling, Forked(engine, Work) as other:
        own, other.pool.event_loop = other.pool.event_loop, stalling.event_loop  # as in one session
        other.event_loop = stalling.event_loop
        stalls = stalling.pid.remote()
        call = stalling.large.spawn(1 << 27)
        try:
            assert begun.wait(60)
            with time_limit(other, 0.3), pytest.raises(MethodTimeout):
                other.hang.remote()
            assert other.echo.spawn(5).get(timeout=60) == 5
            assert not call.done()
        finally:
            os.kill(stalls, signal.SIGCONT)
        assert len(call.get(timeout=60)) == 1 << 27
        other.pool.close("the test is over")
        assert all(one.exited.wait(60) for one in other.made)
        other.event_loop = own


def test_awaiting_a_call_that_was_cancelled_is_no_cancellation_of_the_task(work: Forked) -> None:
    async def main() -> None:
        call = work.hang.spawn()
        call.cancel()
        with pytest.raises(InputCancelled, match="was cancelled"):
            await call

    asyncio.run(main())


def test_a_batch_prints_where_the_first_of_its_inputs_was_called(
    engine: ForkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = contextvars.ContextVar("cell", default="none")
    told: list[tuple[str, str]] = []

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            told.append((cell.get(), text))
            return len(text)

    with Forked(engine, Batches) as batches:
        monkeypatch.setattr(sys, "stdout", Out())
        cell.set("seven")
        first = batches.firsts.spawn([1])
        cell.set("eight")
        batches.firsts.spawn([2]).get()
        first.get()
    assert {where for where, text in told if "a batch" in text} == {"seven"}


# --- shared memory ------------------------------------------------------------------------------

LARGE = 40_000  # of float64: more than what goes over the socket


def segments(work: Forked) -> list[shared.Segment]:
    """Those that the arguments of calls have lain in."""
    memory = work.made[0].slots[0].channel.shared
    assert memory is not None
    return memory.mine


def test_a_method_that_failed_keeps_no_argument(engine: ForkEngine) -> None:
    with Forked(engine, Work) as work:
        for _ in range(3):
            with pytest.raises(LookupError):
                work.first.remote(np.ones(LARGE), fail=True)
        with pytest.raises(TypeError):
            list(work.firsts.remote_gen(np.ones(LARGE), times="many"))
        assert segments(work)
        for segment in segments(work):
            while segment.state != shared.FREE:  # the answer comes a moment before
                pass_time(work, 0.01)


def test_unused_memory_is_returned_although_nothing_is_called(
    engine: ForkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "IDLE_SECONDS", 0.05)
    with Forked(engine, Work) as work:
        assert work.first.remote(np.ones(LARGE)) == 1
        memory = segments(work)
        while memory:
            pass_time(work, 0.01)
        assert work.first.remote(np.ones(LARGE)) == 1, "and is had again"


def test_a_container_s_slots_share_the_limit_of_its_segments(engine: ForkEngine) -> None:
    with Forked(engine, lm.concurrent(max_inputs=4)(Concurrent)) as work:
        assert work.echo.remote(1) == 1
        limits = [slot.channel.shared.limit for slot in work.made[0].slots if slot.channel.shared]
        assert sum(limits) == shared.SEGMENT_LIMIT_BYTES
