"""The start of a container by an engine that takes long, or that answers no more."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lifecycle_magic.engines.relay import starting
from lifecycle_magic.engines.relay.engine_http import RequestError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PING_SECONDS", 0.01)
    monkeypatch.setattr(starting, "LEASE_SECONDS", 0.2)


class SlowEngine:
    """It starts a container when it is let, and answers pings unless it is ``silent``."""

    def __init__(self, *, silent: bool = False) -> None:
        self.let = threading.Event()
        self._silent = silent

    def ask(self, method: str, path: str, timeout: float = 60.0) -> Any:
        if path == "/_ping":
            if self._silent:
                raise RequestError("timed out")
            return None
        assert (method, path) == ("POST", "/containers/one/start")
        self.let.wait(30)
        return None


def test_an_engine_that_starts_slowly_and_answers_has_its_time() -> None:
    engine, answers = SlowEngine(), [0]

    def on_answer() -> None:
        answers[0] += 1
        if answers[0] == 60:  # longer than the lease
            engine.let.set()

    starting.start_container(engine.ask, "one", on_answer)
    assert answers[0] > 60


def test_an_engine_that_is_silent_for_a_lease_has_failed() -> None:
    engine = SlowEngine(silent=True)
    with pytest.raises(RequestError, match=r"nothing was received for 0\.2 s"):
        starting.start_container(engine.ask, "one", lambda: None)
    engine.let.set()


def test_the_error_of_a_start_is_the_engines() -> None:
    def ask(*_: Any, timeout: float) -> None:
        raise RequestError("no such image", 404)

    with pytest.raises(RequestError, match="no such image"):
        starting.start_container(ask, "one", lambda: None)


def test_a_lease_is_held_until_the_container_speaks_and_no_longer_than_the_engine_answers() -> None:
    engine, held, is_over = SlowEngine(), threading.Event(), threading.Event()
    starting.hold_lease(engine.ask, is_over.is_set, held.set)
    assert held.wait(30)
    is_over.set()
    silent, asked = SlowEngine(silent=True), threading.Event()

    def is_over_at_the_third_look() -> bool:
        looks.append(1)
        if len(looks) == 3:
            asked.set()
        return len(looks) >= 3

    looks: list[int] = []
    held.clear()
    starting.hold_lease(silent.ask, is_over_at_the_third_look, held.set)
    assert asked.wait(30)
    assert not held.is_set()
