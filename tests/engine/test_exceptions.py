"""Exceptions and output of methods, as in plain Python."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine.failing import Frozen, Locked, Old, Proxy, Refused, declare

import lifecycle_magic as lm
from lifecycle_magic.exception import RemoteError, SerializationError
from lifecycle_magic.session import session


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def failing(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_MAGIC_ENGINE", request.param)
        with lm.App("failing").run() as app:
            made = declare(app)()
            made.answer.remote()
            yield made
        session.close("the tests are over")


@pytest.fixture(autouse=True)
def stays_warm(failing: Any) -> Iterator[None]:
    """No exception, whatever it is, costs the container."""
    [before] = session.current().containers()
    yield
    assert failing.answer.remote() == 42
    assert session.current().containers() == [before]


def awaited(coroutine: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await coroutine()

    return asyncio.run(main())


def ways(failing: Any) -> dict[str, Callable[[str], Any]]:
    """Every way to have the exception raised here."""
    return {
        "remote": failing.fail.remote,
        "get": lambda what: failing.fail.spawn(what).get(),
        "async": failing.fail_later.remote,
        "iteration": lambda what: list(failing.items.remote_gen(what)),
        "aio": lambda what: awaited(lambda: failing.fail.remote.aio(what)),
        "await": lambda what: awaited(lambda: failing.fail.spawn(what)),
        "map": lambda what: list(failing.fail.map([what])),
        "for_each": lambda what: failing.fail.for_each([what]),
        "gather": lambda what: lm.gather(failing.fail.spawn(what)),
        "thread": lambda what: failing.in_a_thread.remote(what),
    }


BLOCKING = ("remote", "get", "async", "iteration")


@pytest.mark.parametrize("way", [*BLOCKING, "aio", "await", "map", "for_each", "gather", "thread"])
def test_an_exception_arrives_as_it_was(failing: Any, way: str) -> None:
    with pytest.raises(Refused, match="code 3") as refused:
        ways(failing)[way]("refused")
    assert vars(refused.value) == {"code": 3}
    with pytest.raises(Frozen) as frozen:
        ways(failing)[way]("frozen")
    assert frozen.value == Frozen(4)
    with pytest.raises(Locked, match="locked") as locked:
        ways(failing)[way]("locked")
    assert locked.value.code == 3
    assert not hasattr(locked.value, "lock")
    with pytest.raises(RemoteError, match="Fatal"):
        ways(failing)[way]("fatal")


@pytest.mark.parametrize("way", [*BLOCKING, "aio", "await", "map", "for_each"])
def test_system_exit_ends_what_blocks_and_nothing_else(failing: Any, way: str) -> None:
    with pytest.raises(SystemExit if way in BLOCKING else RemoteError) as left:
        ways(failing)[way]("exit")
    assert left.value.code == 5  # type: ignore[attr-defined]
    assert "make" not in [frame.name for frame in traceback.extract_tb(left.value.__traceback__)]


def test_system_exit_ends_no_thread(failing: Any) -> None:
    found: list[BaseException] = []

    def call() -> None:
        try:
            failing.fail.remote("exit")
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert type(found[0]) is RemoteError
    assert found[0].code == 5


@pytest.mark.parametrize("way", ["remote", "get", "aio", "await", "map"])
def test_stop_iteration_hangs_nothing(failing: Any, way: str) -> None:
    with pytest.raises(StopIteration if way in BLOCKING else RemoteError) as stopped:
        ways(failing)[way]("stop")
    if way in BLOCKING:
        assert stopped.value.value == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", ["remote", "get", "async", "iteration", "aio", "await", "map"])
def test_what_ends_calls_elsewhere_is_no_such_end_here(failing: Any, way: str) -> None:
    with pytest.raises(RemoteError, match="GeneratorExit"):
        ways(failing)[way]("generator")
    with pytest.raises(KeyboardInterrupt if way in BLOCKING else RemoteError):
        ways(failing)[way]("interrupt")
    with pytest.raises(asyncio.CancelledError if way in BLOCKING else RemoteError):
        ways(failing)[way]("cancelled")


def test_a_chain_arrives_with_its_frames(failing: Any) -> None:
    with pytest.raises(Refused) as refused:
        failing.chained.remote()
    cause = refused.value.__cause__
    assert cause == Frozen(4)
    text = "".join(traceback.format_exception(refused.value))
    assert 'raise make("frozen")' in text
    assert 'raise make("refused") from error' in text
    assert "in chained" in text


def test_an_exception_that_ends_a_user_s_thread_is_printed_and_ends_nothing_else(
    failing: Any,
) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as told:
        failing.unraised.remote()
    assert "Refused: code 3" in told.getvalue()
    assert "in raises" in told.getvalue()


def test_all_lines_arrive_in_order_before_the_exception(failing: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as told, pytest.raises(Refused):
        failing.prints.remote(3000)
    assert told.getvalue() == "".join(f"line {number}\n" for number in range(3000))
    assert failing.answer.remote() == 42


def test_the_streams_of_a_method_are_text_streams(failing: Any) -> None:
    with (
        contextlib.redirect_stdout(io.StringIO()) as told,
        contextlib.redirect_stderr(io.StringIO()) as warned,
    ):
        found = failing.streams.remote()
    assert told.getvalue() == "ab\nc\nd é\né last\n"
    assert warned.getvalue() == "warned\n"
    assert found == {
        "kept": "kept\n",
        "other": "other\n",
        "refused": "ordinal not in range(128)",
        "tty": False,
        "fileno": 1,
        "encoding": "utf-8",
    }


@pytest.mark.parametrize("way", ["remote", "aio", "map"])
def test_an_argument_that_cannot_be_rebuilt_has_a_note(failing: Any, way: str) -> None:
    with pytest.raises(ValueError, match="old format") as raised:
        ways(failing)[way](Old())  # type: ignore[arg-type]
    assert "An argument can't be rebuilt in the container. Fix: " in str(vars(raised.value))


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="pickle itself asks such an object for __getstate__, and fails",
)
def test_a_proxy_that_cannot_be_rebuilt_names_its_getattr(failing: Any) -> None:
    with pytest.raises(RecursionError) as raised:
        failing.fail.remote(Proxy())
    assert "__getattr__ raise AttributeError for names that begin" in str(vars(raised.value))
    with pytest.raises(SerializationError, match="__getattr__ raise AttributeError for names"):
        failing.rebuilt.remote()
