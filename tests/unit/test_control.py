"""What a supervisor says over the control connection, and what is told of an end."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_magic.containers.control import Control, Exiting, Printed, Told
from lifecycle_magic.engines.base import Ended
from lifecycle_magic.guest.notes import line
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.report import Report, obituary


class Supervisor:
    """The far end of a connection, and what this end was told by it."""

    def __init__(self, monitor: Monitor) -> None:
        here, self.sock = socket.socketpair()
        self.told: list[Told] = []
        self.ends = 0
        self.ended = threading.Event()
        self.control = Control(here, monitor, self.told.append, self._on_end)
        self.control.watch()

    def _on_end(self) -> None:
        self.ends += 1
        self.ended.set()

    def heard(self, *lines: bytes) -> list[Told]:
        """What comes of these, said by one who leaves then."""
        self.sock.sendall(b"".join(lines))
        self.sock.close()
        assert self.ended.wait(20)
        return self.told


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    monitor = Monitor("control-test")
    made = Supervisor(monitor)
    yield made
    made.sock.close()
    assert made.ended.wait(20)
    monitor.stop()
    assert made.ends == 1


REPORT = {"container": "c1", "orderly": True, "entered": True, "why": "it was asked to"}


def test_what_it_says_is_told_in_order(supervisor: Supervisor) -> None:
    assert supervisor.heard(
        line(event="log", stream="stderr", text="loading", shown=False),
        line(event="exiting", why="it was asked to"),
        line(event="ended", report=REPORT),
    ) == [
        Printed("stderr", "loading", shown=False),
        Exiting("it was asked to"),
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
    heard = supervisor.heard(line(**nonsense), line(event="exiting", why="so"))
    assert heard == [Exiting("so")]


def test_what_is_no_json_ends_the_connection(supervisor: Supervisor) -> None:
    assert supervisor.heard(b"junk\n", line(event="exiting", why="so")) == []


def test_it_is_told_what_it_is_asked(supervisor: Supervisor) -> None:
    supervisor.control.interrupt(7)
    supervisor.control.exit("it is idle")
    with supervisor.sock.makefile() as lines:
        asked = [json.loads(lines.readline()) for _ in range(2)]
    assert asked == [{"do": "cancel", "call": 7}, {"do": "exit", "why": "it is idle"}]


def test_one_that_is_gone_may_be_asked_all_the_same(supervisor: Supervisor) -> None:
    supervisor.heard()
    supervisor.control.interrupt(7)
    supervisor.control.exit("it is idle")


@pytest.mark.parametrize(
    ("report", "ended", "killed", "leaving", "told"),
    [
        (Report(**REPORT), Ended(137), "we did", "", "it was asked to"),  # type: ignore[arg-type]
        (None, Ended(137, oom=True), "we did", "", "we did"),
        (None, Ended(137, oom=True), "", "", r"ran out of memory .*\(limit of 64 MiB\)"),
        (None, Ended(137), "", "", r"^it was killed from outside \(exit code 137\)$"),
        (None, None, "", "", "^it was killed from outside, or its engine went away$"),
        (None, Ended(None), "", "so", r"^it was killed from outside, while it was going \(so\)$"),
    ],
)
def test_an_end_is_told_by_whoever_knows_best(
    report: Report | None, ended: Ended | None, killed: str, leaving: str, told: str
) -> None:
    sentence = obituary(report, ended, killed=killed, leaving=leaving, memory_limit=64)
    assert re.search(told, sentence)
