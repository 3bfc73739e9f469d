"""Messages of a supervisor on the control connection, and reports of a container's end."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_magic.container.control import (
    ExitStarted,
    PrintedOutput,
    SupervisorConnection,
    SupervisorMessage,
)
from lifecycle_magic.engines.base import Ended
from lifecycle_magic.guest.json_lines import encode_line
from lifecycle_magic.lifecycle.report import Report, describe_end
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import clock


class Supervisor:
    """The container's end of a connection, and the messages that it received."""

    def __init__(self, event_loop: EventLoop) -> None:
        here, self.sock = socket.socketpair()
        self.told: list[SupervisorMessage] = []
        self.ends = 0
        self.ended = threading.Event()
        self.control = SupervisorConnection(here, event_loop, self.told.append, self._on_end)
        self.control.watch()

    def _on_end(self) -> None:
        self.ends += 1
        self.ended.set()

    def heard(self, *lines: bytes) -> list[SupervisorMessage]:
        """Send these messages, close the connection, and return the messages that arrived."""
        self.sock.sendall(b"".join(lines))
        self.sock.close()
        assert self.ended.wait(20)
        return self.told


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    event_loop = EventLoop("control-test")
    made = Supervisor(event_loop)
    yield made
    made.sock.close()
    assert made.ended.wait(20)
    event_loop.stop()
    assert made.ends == 1


REPORT = {"container": "c1", "orderly": True, "entered": True, "why": "it was asked to"}


def test_messages_are_shown_in_order(supervisor: Supervisor) -> None:
    assert supervisor.heard(
        encode_line(event="log", stream="stderr", text="loading", shown=False),
        encode_line(event="exiting", why="it was asked to"),
        encode_line(event="ended", report=REPORT),
    ) == [
        PrintedOutput("stderr", "loading", shown=False),
        ExitStarted("it was asked to"),
        Report("c1", orderly=True, entered=True, why="it was asked to"),
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"event": "dancing"},
        {"event": "log", "stream": "stdout"},
        {"event": "exiting"},
        {"event": "ended", "report": 3},
        {"event": "ended", "report": ["container"]},
        {"event": "ended", "report": {"hooks": [7]}},
    ],
)
def test_what_makes_no_sense_costs_nothing_of_what_follows(
    supervisor: Supervisor, nonsense: dict[str, Any]
) -> None:
    heard = supervisor.heard(encode_line(**nonsense), encode_line(event="exiting", why="so"))
    assert heard == [ExitStarted("so")]


def test_what_is_no_json_ends_the_connection(supervisor: Supervisor) -> None:
    assert supervisor.heard(b"junk\n", encode_line(event="exiting", why="so")) == []


def test_it_is_told_what_it_is_asked(supervisor: Supervisor) -> None:
    began = clock.now()
    supervisor.control.interrupt(7, time.monotonic())
    supervisor.control.exit("it is idle")
    with supervisor.sock.makefile() as lines:
        cancel, leave = [json.loads(lines.readline()) for _ in range(2)]
    assert (cancel["do"], cancel["call"], cancel["clock"]) == ("cancel", 7, clock.name())
    assert began - 0.001 <= cancel["since"] <= clock.now()
    assert cancel["seconds"] >= 0
    assert leave == {"do": "exit", "why": "it is idle", "at_once": False}


def test_one_that_is_gone_may_be_asked_all_the_same(supervisor: Supervisor) -> None:
    supervisor.heard()
    supervisor.control.interrupt(7, 0.5)
    supervisor.control.exit("it is idle")


@pytest.mark.parametrize(
    ("report", "ended", "killed", "leaving", "told"),
    [
        (Report(**REPORT), Ended(137), "we did", "", "it was asked to"),  # type: ignore[arg-type]
        (None, Ended(137, oom=True), "we did", "", "we did"),
        (None, Ended(137, oom=True), "", "", r"ran out of memory .*\(limit of 64 MiB\)"),
        (None, Ended(137), "", "", r"^it was killed from outside \(exit code 137\)$"),
        (None, None, "", "", "^it was killed from outside, or its engine stopped$"),
        (
            None,
            Ended(None),
            "",
            "so",
            r"^it was killed from outside, while it was stopping \(so\)$",
        ),
    ],
)
def test_an_end_is_described_by_its_best_source(
    report: Report | None, ended: Ended | None, killed: str, leaving: str, told: str
) -> None:
    sentence = describe_end(report, ended, killed=killed, leaving=leaving, memory_limit=64)
    assert re.search(told, sentence)


@pytest.mark.parametrize(
    ("own", "around", "told"),
    [
        (64, 64, r"\(limit of 64 MiB\); give it more with memory=$"),
        (None, 512, r"the container around this kernel has 512 MiB in all\. Fix: give that one"),
        (None, None, r"this machine has no more\. Fix: load less"),
    ],
)
def test_an_out_of_memory_report_names_the_limit(
    own: int | None, around: int | None, told: str
) -> None:
    killed = {**REPORT, "orderly": False, "oom": True, "memory_limit": around}
    assert re.search(told, Report(**killed).summary(own))  # type: ignore[arg-type]


def test_a_worker_that_could_not_be_forked_is_reported() -> None:
    why = "its worker could not be forked: Resource temporarily unavailable"
    told = Report(container="c", orderly=False, entered=False, why=why).summary()
    assert told.startswith("no further process or thread can be started")
