"""Frames arrive however the stream is cut, and invalid frames are refused."""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import HEADER, MAGIC, MAX_BUFFERS
from lifecycle_magic.wire.frames import INBOX_BYTES, Channel, Kind


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Channel]]:
    """A raw socket, and a channel at its other end."""
    raw, mine = socket.socketpair()
    raw.settimeout(10)
    mine.settimeout(10)
    with raw, mine:
        yield raw, Channel(mine)


def frame(kind: int, payload: bytes, buffers: tuple[bytes, ...] = ()) -> bytes:
    lengths = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    return (
        HEADER.pack(MAGIC, kind, 0, 0, len(buffers), len(payload))
        + lengths
        + payload
        + b"".join(buffers)
    )


payloads = st.one_of(
    st.binary(max_size=200), st.integers(INBOX_BYTES - 40, INBOX_BYTES + 40).map(bytes)
)


@settings(deadline=None, max_examples=60)
@given(
    sent=st.lists(st.tuples(payloads, st.lists(payloads, max_size=3)), min_size=1, max_size=5),
    cut=st.integers(1, 70_000),
)
def test_frames_arrive_whole_however_the_stream_is_cut(
    sent: list[tuple[bytes, list[bytes]]], cut: int
) -> None:
    raw, mine = socket.socketpair()
    with raw, mine:
        stream = b"".join(frame(Kind.CALL, payload, tuple(buffers)) for payload, buffers in sent)

        def feed() -> None:
            for start in range(0, len(stream), cut):
                raw.sendall(stream[start : start + cut])
            raw.shutdown(socket.SHUT_WR)

        feeder = threading.Thread(target=feed)
        feeder.start()
        channel = Channel(mine)
        for payload, buffers in sent:
            got = channel.receive()
            assert got is not None
            assert bytes(got.payload) == payload
            assert [bytes(buffer) for buffer in got.buffers] == buffers
        assert channel.receive() is None
        feeder.join()


def test_both_ends_of_a_channel_understand_each_other() -> None:
    one, other = socket.socketpair()
    with one, other:
        buffers = [pickle.PickleBuffer(bytearray(b"x" * 100_000)), pickle.PickleBuffer(b"")]
        sender = threading.Thread(
            target=Channel(one).send, args=(Kind.RESULT, b"p" * 70_000, buffers)
        )
        sender.start()
        got = Channel(other).receive()
        sender.join()
        assert got is not None
        assert (got.kind, bytes(got.payload)) == (Kind.RESULT, b"p" * 70_000)
        assert [len(buffer) for buffer in got.buffers] == [100_000, 0]


class Counted:
    """A socket of which each system call is counted."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sock, name)
        if not callable(found):
            return found

        def counted(*args: Any) -> Any:
            self.calls.append(name)
            return found(*args)

        return counted


def test_a_small_frame_costs_one_system_call_on_each_side() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sends, reads = Counted(ours), Counted(theirs)
        here, there = Channel(sends), Channel(reads)  # type: ignore[arg-type]
        for number in range(3):
            here.send(Kind.CALL, b"x" * 1000 * (number + 1))
            assert there.receive() is not None
        assert sends.calls == ["sendall"] * 3
        assert reads.calls == ["recv_into"] * 3


def test_more_buffers_than_one_system_call_takes() -> None:
    one, other = socket.socketpair()
    with one, other:
        buffers = [b"%d" % number for number in range(3000)]
        sender = threading.Thread(target=Channel(one).send, args=(Kind.RESULT, b"", buffers))
        sender.start()
        got = Channel(other).receive()
        sender.join()
        assert got is not None
        assert [bytes(buffer) for buffer in got.buffers] == buffers


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no frame of protocol"),
        (HEADER.pack(MAGIC, Kind.CALL, 7, 0, 0, 0), "no frame of protocol"),
        (HEADER.pack(MAGIC, Kind.CALL, 0, 0, 0, 1 << 60), "at most"),
        (HEADER.pack(MAGIC, Kind.CALL, 0, 0, MAX_BUFFERS + 1, 0), "buffers"),
        (
            HEADER.pack(MAGIC, Kind.CALL, 0, 0, 2, 0) + struct.pack("<2Q", 1 << 62, 1 << 62),
            "at most",
        ),
        (frame(Kind.CALL, b"whole")[:-2], "ended inside a frame"),
        (frame(Kind.CALL, b"")[:5], "ended inside a frame"),
    ],
)
def test_what_is_no_frame_is_refused(
    ends: tuple[socket.socket, Channel], stream: bytes, told: str
) -> None:
    raw, channel = ends
    raw.sendall(stream)
    raw.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError, match=told):
        channel.receive()


def test_a_frame_above_the_limit_is_refused_before_anything_is_sent() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(WireError, match="101 bytes; at most 100"):
            Channel(one, max_frame=100).send(Kind.RESULT, b"x" * 101)
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""


def test_a_frame_that_was_read_ahead_is_known_of(ends: tuple[socket.socket, Channel]) -> None:
    raw, channel = ends
    raw.sendall(frame(Kind.OUTPUT, b"one") + frame(Kind.RESULT, b"two"))
    assert channel.receive() is not None
    assert channel.has_buffered
    second = channel.receive()
    assert second is not None
    assert bytes(second.payload) == b"two"
    assert not channel.has_buffered


def test_a_frame_is_not_read_again_after_a_read_that_fails() -> None:
    here, there = socket.socketpair()
    channel = Channel(here)
    with here:
        with there:
            Channel(there).send(Kind.CALL, b"once")
            assert (frame := channel.receive()) is not None
            assert bytes(frame.payload) == b"once"
            here.send(b"what the other side never reads makes its end a reset")
        with pytest.raises(ConnectionResetError):
            channel.receive()
        assert not channel.has_buffered
        assert channel.receive() is None
