"""Parts of the guest that need no container: interrupts, notes, the journal, taking exceptions
apart."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from lifecycle_magic.callers.internal_frames import strip, strip_all
from lifecycle_magic.errors.remote import rebuild
from lifecycle_magic.exception import RemoteError
from lifecycle_magic.guest import container_log, failures, json_lines, output
from lifecycle_magic.guest.interrupts import (
    ANY_CALL,
    SIGNAL,
    InterruptedBeforeStart,
    InterruptHandler,
    InterruptTarget,
    request_interrupt,
)
from lifecycle_magic.threads.futures import await_future
from lifecycle_magic.wire import messages
from lifecycle_magic.wire.leases import Lease
from lifecycle_magic.wire.segment import Segment, create

pytestmark = pytest.mark.every_python


@pytest.fixture
def pipe() -> Iterator[tuple[int, InterruptTarget]]:
    """Yield the supervisor's end of the cancel pipe, and the target that reads the other end."""
    read, write = os.pipe()
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    yield write, InterruptTarget(InterruptHandler(read))
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(read)
    os.close(write)


def interrupt() -> None:
    signal.raise_signal(SIGNAL)


def test_the_running_call_is_interrupted(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    target.begin(7)
    request_interrupt(write, 7)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    request_interrupt(write, 7)  # it has not ended, so it can be interrupted once more
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    target.end()
    request_interrupt(write, 7)
    interrupt()


def test_an_interrupt_that_comes_late_hits_nothing(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    target.begin(7)
    target.end()
    target.mark_answered(7)
    request_interrupt(write, 7)
    interrupt()
    target.begin(8)  # does not raise


def test_an_interrupt_that_comes_early_is_remembered(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    request_interrupt(write, 7)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        target.begin(7)


def test_an_interrupt_that_comes_early_is_remembered_though_younger_calls_are_over(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    other = InterruptTarget(target.interrupts)
    other.begin(100)
    other.end()
    other.mark_answered(100)
    request_interrupt(write, 7)  # an older call, which waited longer for its turn
    interrupt()
    with pytest.raises(InterruptedBeforeStart):
        target.begin(7)


def test_a_signal_without_a_request_hits_nothing(pipe: tuple[int, InterruptTarget]) -> None:
    _, target = pipe
    target.begin(7)
    interrupt()
    assert target.current == 7


@pytest.mark.parametrize(
    "send",
    [
        lambda: signal.raise_signal(signal.SIGINT),
        lambda: os.kill(os.getpid(), signal.SIGINT),
        _thread.interrupt_main,
    ],
)
def test_a_method_that_sends_itself_sigint_is_interrupted(
    pipe: tuple[int, InterruptTarget], send: Callable[[], None]
) -> None:
    _, target = pipe
    target.begin(7)
    with pytest.raises(KeyboardInterrupt):
        send()
    target.end()
    send()  # between two calls
    target.begin(8)  # does not raise


def test_a_sigint_is_for_no_call_where_several_run(pipe: tuple[int, InterruptTarget]) -> None:
    _, target = pipe
    other = InterruptTarget(target.interrupts)
    target.begin(7)
    other.begin(8)
    signal.raise_signal(signal.SIGINT)
    other.end()
    interrupt()  # does not raise: the SIGINT is used up


def test_a_sigint_waits_for_the_end_of_a_frame(pipe: tuple[int, InterruptTarget]) -> None:
    _, target = pipe
    target.begin(7)
    sent = False
    with pytest.raises(KeyboardInterrupt), target:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        sent = True
    assert sent


def test_a_handler_of_the_users_takes_interrupts(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    taken: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: taken.append(number))
    target.begin(7)
    request_interrupt(write, 7)
    interrupt()
    assert taken == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request_interrupt(write, 7)
    interrupt()
    request_interrupt(write, ANY_CALL)  # the container has to go
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_whatever_runs_can_be_asked_to_stop(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    target.begin(7)
    request_interrupt(write, ANY_CALL)
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_waits_for_the_end_of_a_frame(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    target.begin(7)
    request_interrupt(write, 7)
    sent = False
    with pytest.raises(KeyboardInterrupt), target:  # noqa: PT012
        interrupt()
        sent = True
    assert sent


def test_an_interrupt_is_not_lost_where_memory_is_given_back(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    again: list[bool] = []
    target.interrupts.signal_again = lambda: again.append(True)
    fd = create(4096, [])
    lease = Lease(Segment(1, fd, 4096))
    os.close(fd)
    target.begin(7)
    request_interrupt(write, 7)
    view = lease.begin(lambda _: interrupt())
    del view
    assert again == [True]
    assert lease.is_over
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_coroutine_is_cancelled_first_and_stopped_when_asked_again(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    cancelled: list[bool] = []
    target.begin(7)
    target.cancel_task = lambda: cancelled.append(True)
    request_interrupt(write, 7)
    interrupt()
    assert cancelled == [True]
    request_interrupt(write, 7)
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_method_on_a_thread_is_interrupted_there(pipe: tuple[int, InterruptTarget]) -> None:
    write, main = pipe
    running, ended = threading.Event(), threading.Event()

    def lane() -> None:
        target = InterruptTarget(main.interrupts)
        try:
            target.begin(8)
            running.set()
            while True:
                pass
        except KeyboardInterrupt:
            ended.set()

    threading.Thread(target=lane, daemon=True).start()
    assert running.wait(10)
    main.begin(7)
    request_interrupt(write, 8)
    interrupt()
    assert ended.wait(10)
    assert main.current == 7


def test_lines_are_put_together_from_pieces() -> None:
    lines = json_lines.JsonLineReader()
    whole = json_lines.encode_line(note="a", text="one\ntwo") + json_lines.encode_line(note="b")
    told = [one for byte in whole for one in lines.feed(bytes([byte]))]
    assert told == [{"note": "a", "text": "one\ntwo"}, {"note": "b"}]


@pytest.mark.parametrize("data", [b"no json\n", b"[1]\n", b"x" * (json_lines.MAX_LINE_BYTES + 1)])
def test_what_is_no_line_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|JSON|Expecting|delimiter"):
        json_lines.JsonLineReader().feed(data)


def test_behind_a_bad_line_the_next_ones_are_read() -> None:
    bad: list[ValueError] = []
    lines = json_lines.JsonLineReader(bad.append)
    whole = b'{"note": "to' + json_lines.encode_line(note="a") + json_lines.encode_line(note="b")
    too_long = b"x" * (2 * json_lines.MAX_LINE_BYTES) + b"\n"
    told = [
        one for part in (whole, too_long[:-9], too_long[-9:], whole) for one in lines.feed(part)
    ]
    assert told == [{"note": "b"}, {"note": "b"}]
    assert len(bad) == 3


def test_an_interrupt_waits_for_the_end_of_a_note(pipe: tuple[int, InterruptTarget]) -> None:
    """The line is longer than the pipe, so that the interrupt comes in the middle of it."""
    write, target = pipe
    read, fd = os.pipe()
    main = threading.get_ident()
    text = "é" * 60_000
    told: list[dict[str, object]] = []

    def supervise() -> None:
        lines = json_lines.JsonLineReader()
        told.extend(lines.feed(os.read(read, 1 << 16)))
        assert not told
        request_interrupt(write, 7)
        signal.pthread_kill(main, SIGNAL)
        while not told:
            told.extend(lines.feed(os.read(read, 1 << 16)))

    target.begin(7)
    reader = threading.Thread(target=supervise)
    reader.start()
    with pytest.raises(KeyboardInterrupt):
        output.SupervisorPipe(fd, target.interrupts).send("print", text=text)
    reader.join()
    os.close(read)
    os.close(fd)
    assert told == [{"note": "print", "text": text}]


def test_a_note_of_a_signal_handler_goes_out_behind_the_one_that_it_interrupts(
    pipe: tuple[int, InterruptTarget],
) -> None:
    _, target = pipe
    read, fd = os.pipe()
    main = threading.get_ident()
    worker = output.SupervisorPipe(fd, target.interrupts)
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.send("second"))
    told: list[dict[str, object]] = []

    def supervise() -> None:
        lines = json_lines.JsonLineReader()
        told.extend(lines.feed(os.read(read, 1 << 16)))
        signal.pthread_kill(main, signal.SIGUSR1)
        while len(told) < 2:
            told.extend(lines.feed(os.read(read, 1 << 16)))

    reader = threading.Thread(target=supervise)
    reader.start()
    try:
        worker.send("first", text="é" * 60_000)
        reader.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(read)
        os.close(fd)
    assert [one["note"] for one in told] == ["first", "second"]


def test_the_journal_does_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_log, "MAX_BYTES", 1000)
    log = container_log.ContainerLog(str(tmp_path / "log"))
    for number in range(500):
        log.write(f"line {number}\n")
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    assert log.tail().splitlines()[-1] == "line 499"
    assert len(log.tail().splitlines()) == container_log.TAIL_LINES


class TwoArguments(Exception):
    """Pickles, but does not unpickle: its constructor wants more than ``args``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_exception_comes_back_as_its_own_type_with_its_frames() -> None:
    error = raised(KeyError("missing"))
    error.add_note("a note") if hasattr(error, "add_note") else None
    back = rebuild(failures.to_failure(error), "Model.predict")
    assert type(back) is KeyError
    assert back.args == ("missing",)
    assert getattr(back, "__notes__", None) == getattr(error, "__notes__", None)
    tb = back.__traceback__
    assert tb is not None
    assert tb.tb_frame.f_code.co_name == "raised"
    assert tb.tb_frame.f_code.co_filename == __file__
    assert tb.tb_next is None


def test_an_exception_with_a_constructor_of_its_own_comes_back() -> None:
    back = rebuild(failures.to_failure(raised(TwoArguments(3, "broken"))), "Model.predict")
    assert type(back) is TwoArguments
    assert back.code == 3
    assert str(back) == "broken"


def test_causes_and_contexts_come_along() -> None:
    try:
        try:
            raise ValueError("first")
        except ValueError as first:
            raise TypeError("second") from first
    except TypeError as second:
        back = rebuild(failures.to_failure(second), "Model.predict")
    assert isinstance(back.__cause__, ValueError)
    assert back.__suppress_context__


def test_a_loop_of_contexts_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    back = rebuild(failures.to_failure(one), "Model.predict")
    assert isinstance(back.__context__, ValueError)


def test_sys_exit_does_not_end_the_kernel() -> None:
    back = rebuild(failures.to_failure(raised(SystemExit(3))), "Model.predict")
    assert type(back) is RemoteError
    assert "sys.exit()" in str(back)
    assert "3" in str(back)


def test_stripping_removes_only_frames_of_the_package() -> None:
    error = raised(ValueError("x"))
    tb = strip(error).__traceback__
    assert tb is not None
    assert tb.tb_frame.f_code.co_filename == __file__


def test_a_signal_handler_that_prints_does_not_wait_for_the_thread_that_it_stopped(
    pipe: tuple[int, InterruptTarget],
) -> None:
    read, write = os.pipe()
    told = output.SupervisorPipe(write, InterruptHandler(pipe[0]))
    with told._lock:  # where the handler may come
        told.send("print")
    os.close(write)
    with open(read, "rb") as reader:
        assert json_lines.JsonLineReader().feed(reader.read()) == [{"note": "print"}]


def test_lines_that_follow_each_other_are_read_as_one() -> None:
    def printed(text: object, stream: str = "stdout") -> dict[str, object]:
        return {"note": "print", "stream": stream, "text": text, "shown": True}

    told = [printed("a\n"), printed("b\n"), printed("c", "stderr"), {"note": "done"}, printed(3)]
    assert json_lines.join_prints(told) == [
        printed("a\nb\n"),
        printed("c", "stderr"),
        {"note": "done"},
        printed(3),
    ]


def fails_inside() -> BaseException:
    """An exception that our own code raised by mistake."""
    try:
        json_lines.JsonLineReader().feed(None)  # type: ignore[arg-type]
    except Exception as error:
        return error
    raise AssertionError


def test_a_bug_in_the_package_keeps_its_frames() -> None:
    bug = fails_inside()
    strip_all(bug)
    assert [frame.name for frame in traceback.extract_tb(bug.__traceback__)] == [
        "fails_inside",
        "feed",
    ]


def test_a_cancelled_wait_keeps_no_frames() -> None:
    async def main() -> BaseException:
        try:
            await asyncio.wait_for(await_future(Future()), 0.01)
        except BaseException as error:
            return error
        raise AssertionError

    error = asyncio.run(main())
    strip_all(error)
    for one in (error, error.__cause__ or error.__context__):
        frames = traceback.extract_tb(one.__traceback__ if one is not None else None)
        assert [frame.name for frame in frames if frame.name == "await_future"] == []


def test_everything_keeps_its_frames_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_TRACEBACK", "full")
    error = raised_by_us()
    strip_all(error)
    assert len(traceback.extract_tb(error.__traceback__)) == 2
    monkeypatch.delenv("LIFECYCLE_MAGIC_TRACEBACK")
    strip_all(error)
    assert [one.name for one in traceback.extract_tb(error.__traceback__)] == ["raised_by_us"]


def raised_by_us() -> BaseException:
    try:
        messages.output(memoryview(b"nothing"))
    except Exception as error:
        return error
    raise AssertionError
