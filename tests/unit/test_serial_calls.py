"""The caller's half of blocking calls by name, with the test in the place of the session."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_magic.guest.session_connection import CallTarget
from lifecycle_magic.peers.serial import PeerSerialConnections
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.nested import read_ask
from lifecycle_magic.wire.pickling import dumps

TARGET = CallTarget("app/Model", b"arguments", "method", "Model().method")


class Session:
    """Sockets of the session; each connection has its answers written before its calls."""

    def __init__(self) -> None:
        self.ends: list[Channel] = []
        self.changes = 0
        self.calls = PeerSerialConnections(self._open, lambda key, _: key, self._on_changed)

    def _open(self) -> Channel:
        near, far = socket.socketpair()
        self.ends.append(Channel(far))
        return Channel(near)

    def _on_changed(self) -> None:
        self.changes += 1

    def call(self) -> Any:
        return self.calls.call(TARGET, b"input", [])


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session()
    assert made.calls._add()
    yield made
    made.calls.close()
    for end in made.ends:
        end.close()


def test_output_of_an_earlier_call_is_dropped(session: Session, capsys: Any) -> None:
    [end] = session.ends
    end.send(Kind.RESULT, b"first", (), 1)
    answer = session.call()
    assert (answer.kind, answer.data, answer.lost) == (Kind.RESULT, b"first", "")
    end.send(Kind.OUTPUT, dumps(("stdout", "late"))[0], (), 1)
    end.send(Kind.CHANGED)
    end.send(Kind.OUTPUT, dumps(("stdout", "now"))[0], (), 2)
    end.send(Kind.RESULT, b"second", (), 2)
    assert session.call().data == b"second"
    assert capsys.readouterr().out == "now"
    assert session.changes == 1
    first, second = end.receive(), end.receive()
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == (Kind.ASK, Kind.AGAIN)


def test_the_first_call_names_what_later_ones_repeat(session: Session) -> None:
    [end] = session.ends
    end.send(Kind.RESULT, b"", (), 1)
    session.call()
    frame = end.receive()
    assert frame is not None
    ask = read_ask(frame.payload)
    assert (ask.key, ask.arguments, ask.method, ask.form) == (*TARGET[:3], "remote")
    assert bytes(frame.buffers[0]) == b"input"


def test_an_answer_to_another_call_ends_the_connection(session: Session) -> None:
    session.ends[0].send(Kind.RESULT, b"", (), 9)
    assert session.call().lost
    assert session.ends[0].receive() is not None  # the call
    assert session.ends[0].receive() is None


def test_a_connection_that_ends_is_replaced(session: Session) -> None:
    session.ends[0].sock.shutdown(socket.SHUT_RDWR)
    assert session.call().lost
    assert session.calls._add()
    session.ends[1].send(Kind.RESULT, b"again", (), 1)
    assert session.call().data == b"again"


def test_there_are_no_more_connections_after_the_end(session: Session) -> None:
    session.calls.close()
    assert session.ends[0].receive() is None
    assert session.call() is None
    assert len(session.ends) == 1


def test_a_session_that_takes_no_connection_leaves_the_call_to_others() -> None:
    def refuse() -> Channel:
        raise ConnectionRefusedError

    calls = PeerSerialConnections(refuse, lambda key, _: key, lambda: None)
    assert calls.call(TARGET, b"input", []) is None
