"""Parts of the guest that need no container: interrupts, notes, the journal, taking exceptions
apart."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_magic.exception import RemoteError
from lifecycle_magic.failure import rebuild, strip
from lifecycle_magic.guest import failures, journal, notes, output
from lifecycle_magic.guest.interrupts import ANY, Interrupts, NotBegun, Target, ask


@pytest.fixture
def pipe() -> Iterator[tuple[int, Target]]:
    """The supervisor's end of the cancel pipe, and what one lane runs."""
    read, write = os.pipe()
    before = signal.getsignal(signal.SIGINT)
    yield write, Target(Interrupts(read))
    signal.signal(signal.SIGINT, before)
    os.close(read)
    os.close(write)


def sigint() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_running_call_is_interrupted(pipe: tuple[int, Target]) -> None:
    write, target = pipe
    target.begin(7)
    ask(write, 7)
    with pytest.raises(KeyboardInterrupt):
        sigint()
    assert target.current is None


def test_an_interrupt_that_comes_late_hits_nothing(pipe: tuple[int, Target]) -> None:
    write, target = pipe
    target.begin(7)
    target.end()
    target.answered(7)
    ask(write, 7)
    sigint()
    target.begin(8)  # does not raise


def test_an_interrupt_that_comes_early_is_remembered(pipe: tuple[int, Target]) -> None:
    write, target = pipe
    ask(write, 7)
    sigint()
    with pytest.raises(KeyboardInterrupt):
        target.begin(7)


def test_an_interrupt_that_comes_early_is_remembered_though_younger_calls_are_over(
    pipe: tuple[int, Target],
) -> None:
    write, target = pipe
    other = Target(target.interrupts)
    other.begin(100)
    other.end()
    other.answered(100)
    ask(write, 7)  # an older call, which waited longer for its turn
    sigint()
    with pytest.raises(NotBegun):
        target.begin(7)


def test_a_sigint_from_elsewhere_hits_nothing(pipe: tuple[int, Target]) -> None:
    _, target = pipe
    target.begin(7)
    sigint()
    assert target.current == 7


def test_whatever_runs_can_be_asked_to_stop(pipe: tuple[int, Target]) -> None:
    write, target = pipe
    target.begin(7)
    ask(write, ANY)
    with pytest.raises(KeyboardInterrupt):
        sigint()


def test_an_interrupt_waits_for_the_end_of_a_frame(pipe: tuple[int, Target]) -> None:
    write, target = pipe
    target.begin(7)
    ask(write, 7)
    sent = False
    with pytest.raises(KeyboardInterrupt), target:  # noqa: PT012
        sigint()
        sent = True
    assert sent


def test_a_coroutine_is_cancelled_first_and_stopped_when_asked_again(
    pipe: tuple[int, Target],
) -> None:
    write, target = pipe
    cancelled: list[bool] = []
    target.begin(7)
    target.cancel_task = lambda: cancelled.append(True)
    ask(write, 7)
    sigint()
    assert cancelled == [True]
    ask(write, 7)
    with pytest.raises(KeyboardInterrupt):
        sigint()


def test_a_method_on_a_thread_is_interrupted_there(pipe: tuple[int, Target]) -> None:
    write, main = pipe
    running, ended = threading.Event(), threading.Event()

    def lane() -> None:
        target = Target(main.interrupts)
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
    ask(write, 8)
    sigint()
    assert ended.wait(10)
    assert main.current == 7


def test_lines_are_put_together_from_pieces() -> None:
    lines = notes.Lines()
    whole = notes.line(note="a", text="one\ntwo") + notes.line(note="b")
    told = [one for byte in whole for one in lines.feed(bytes([byte]))]
    assert told == [{"note": "a", "text": "one\ntwo"}, {"note": "b"}]


@pytest.mark.parametrize("data", [b"no json\n", b"[1]\n", b"x" * (notes.MAX_LINE + 1)])
def test_what_is_no_line_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|JSON|Expecting|delimiter"):
        notes.Lines().feed(data)


def test_behind_a_bad_line_the_next_ones_are_read() -> None:
    bad: list[ValueError] = []
    lines = notes.Lines(bad.append)
    whole = b'{"note": "to' + notes.line(note="a") + notes.line(note="b")
    too_long = b"x" * (2 * notes.MAX_LINE) + b"\n"
    told = [
        one for part in (whole, too_long[:-9], too_long[-9:], whole) for one in lines.feed(part)
    ]
    assert told == [{"note": "b"}, {"note": "b"}]
    assert len(bad) == 3


def test_an_interrupt_waits_for_the_end_of_a_note(pipe: tuple[int, Target]) -> None:
    """The line is longer than the pipe, so that the interrupt comes in the middle of it."""
    write, target = pipe
    read, fd = os.pipe()
    main = threading.get_ident()
    text = "é" * 60_000
    told: list[dict[str, object]] = []

    def supervise() -> None:
        lines = notes.Lines()
        told.extend(lines.feed(os.read(read, 1 << 16)))
        assert not told
        ask(write, 7)
        signal.pthread_kill(main, signal.SIGINT)
        while not told:
            told.extend(lines.feed(os.read(read, 1 << 16)))

    target.begin(7)
    reader = threading.Thread(target=supervise)
    reader.start()
    with pytest.raises(KeyboardInterrupt):
        output.Notes(fd, target.interrupts).tell("print", text=text)
    reader.join()
    os.close(read)
    os.close(fd)
    assert told == [{"note": "print", "text": text}]


def test_a_note_of_a_signal_handler_goes_out_behind_the_one_that_it_interrupts(
    pipe: tuple[int, Target],
) -> None:
    _, target = pipe
    read, fd = os.pipe()
    main = threading.get_ident()
    worker = output.Notes(fd, target.interrupts)
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.tell("second"))
    told: list[dict[str, object]] = []

    def supervise() -> None:
        lines = notes.Lines()
        told.extend(lines.feed(os.read(read, 1 << 16)))
        signal.pthread_kill(main, signal.SIGUSR1)
        while len(told) < 2:
            told.extend(lines.feed(os.read(read, 1 << 16)))

    reader = threading.Thread(target=supervise)
    reader.start()
    try:
        worker.tell("first", text="é" * 60_000)
        reader.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(read)
        os.close(fd)
    assert [one["note"] for one in told] == ["first", "second"]


def test_the_journal_does_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_BYTES", 1000)
    log = journal.Journal(str(tmp_path / "log"))
    for number in range(500):
        log.write(f"line {number}\n")
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2000
    assert log.tail().splitlines()[-1] == "line 499"
    assert len(log.tail().splitlines()) == journal.TAIL_LINES


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
    back = rebuild(failures.take_apart(error), "Model.predict")
    assert type(back) is KeyError
    assert back.args == ("missing",)
    assert getattr(back, "__notes__", None) == getattr(error, "__notes__", None)
    tb = back.__traceback__
    assert tb is not None
    assert tb.tb_frame.f_code.co_name == "raised"
    assert tb.tb_frame.f_code.co_filename == __file__
    assert tb.tb_next is None


def test_an_exception_that_can_not_be_made_again_comes_as_remote_error() -> None:
    back = rebuild(failures.take_apart(raised(TwoArguments(3, "broken"))), "Model.predict")
    assert type(back) is RemoteError
    assert "TwoArguments" in str(back)
    assert "broken" in str(back)
    assert "Model.predict" in str(back)


def test_causes_and_contexts_come_along() -> None:
    try:
        try:
            raise ValueError("first")
        except ValueError as first:
            raise TypeError("second") from first
    except TypeError as second:
        back = rebuild(failures.take_apart(second), "Model.predict")
    assert isinstance(back.__cause__, ValueError)
    assert back.__suppress_context__


def test_a_loop_of_contexts_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    back = rebuild(failures.take_apart(one), "Model.predict")
    assert isinstance(back.__context__, ValueError)


def test_sys_exit_does_not_end_the_kernel() -> None:
    back = rebuild(failures.take_apart(raised(SystemExit(3))), "Model.predict")
    assert type(back) is RemoteError
    assert "sys.exit()" in str(back)
    assert "3" in str(back)


def test_stripping_leaves_only_frames_that_are_not_ours() -> None:
    error = raised(ValueError("x"))
    tb = strip(error).__traceback__
    assert tb is not None
    assert tb.tb_frame.f_code.co_filename == __file__


def test_a_signal_handler_that_prints_does_not_wait_for_the_thread_that_it_stopped(
    pipe: tuple[int, Target],
) -> None:
    read, write = os.pipe()
    told = output.Notes(write, Interrupts(pipe[0]))
    with told._lock:  # where the handler may come
        told.tell("print")
    os.close(write)
    with open(read, "rb") as reader:
        assert notes.Lines().feed(reader.read()) == [{"note": "print"}]
