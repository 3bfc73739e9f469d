"""Many connections over one stream: whole, in order, bounded, and with an end that is noticed."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire import multiplexer, packed_files
from lifecycle_magic.wire.multiplexer import (
    LEASE_SECONDS,
    PING_SECONDS,
    STREAM_ENDED,
    Multiplexer,
)
from lifecycle_magic.wire.mux_channel import WINDOW_BYTES
from lifecycle_magic.wire.mux_frames import MAX_PAYLOAD_BYTES, FrameKind, FrameReader, pack_frame


class SocketStream:
    """A socket as the stream of a multiplexer."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.reader = self.writer = sock.fileno()
        self._sock = sock

    def read(self) -> bytes | None:
        try:
            return self._sock.recv(1 << 18)
        except BlockingIOError:
            return None

    def write(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._sock.close()


class Pair:
    """The container's end, which opens channels, and the kernel's end, which connects them."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.ends: dict[str, str] = {}
        self.messages: list[bytes] = []
        self.gone: list[None] = []
        self.kernel: list[socket.socket] = []  # the kernel's side of each channel
        self.refuse = False
        near, far = socket.socketpair()
        self.opener = Multiplexer(
            SocketStream(far),
            self.selector,
            on_end=lambda why: self.ends.setdefault("opener", why),
            on_message=self.messages.append,
            most=1 << 20,
            on_gone=lambda: self.gone.append(None),
        )
        self.connector = Multiplexer(
            SocketStream(near),
            self.selector,
            on_end=lambda why: self.ends.setdefault("connector", why),
            on_message=self.messages.append,
            most=1 << 20,
            connect=self._connect,
            pings=True,
        )

    def _connect(self, target: str) -> socket.socket | None:
        if self.refuse:
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.kernel.append(ours)
        return theirs

    def open(self) -> socket.socket:
        """Open a channel and return the guest's side of it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.opener.open("sock", theirs)
        return ours

    def pump(self, until: Callable[[], object] = lambda: False) -> None:
        """Carry what there is, until nothing moves."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not until():
            ready = self.selector.select(0)
            if not ready:
                return
            for key, events in ready:
                key.data(events)

    def close(self) -> None:
        self.opener.end("over")
        self.connector.end("over")
        for sock in self.kernel:
            sock.close()
        self.selector.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.closing(Pair()) as found:
        yield found


def received(sock: socket.socket) -> bytes:
    """What can be read now."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := sock.recv(1 << 20):
            data += more
    return data


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 300_000)),
        min_size=1,
        max_size=25,
    )
)
def test_what_is_written_arrives_whole_and_in_order(
    writes: list[tuple[int, bool, int]],
) -> None:
    with contextlib.closing(Pair()) as pair, contextlib.ExitStack() as stack:
        guests = [stack.enter_context(pair.open()) for _ in range(4)]
        pair.pump()
        sent: dict[tuple[int, bool], bytes] = {}
        got: dict[tuple[int, bool], bytes] = {}
        for number, (channel, down, size) in enumerate(writes):
            source, target = (pair.kernel, guests) if down else (guests, pair.kernel)
            data = memoryview(bytes([number % 251]) * size)
            key = channel, down
            sent[key] = sent.get(key, b"") + data
            while data:
                with contextlib.suppress(BlockingIOError):
                    data = data[source[channel].send(data) :]
                pair.pump()
                got[key] = got.get(key, b"") + received(target[channel])
        for (channel, down), data in sent.items():
            target = guests if down else pair.kernel
            while len(got[channel, down]) < len(data):
                pair.pump()
                got[channel, down] += received(target[channel])
        assert got == sent
        assert pair.ends == {}


def test_an_end_of_data_passes_and_the_other_direction_goes_on(pair: Pair) -> None:
    with pair.open() as guest:
        pair.pump()
        guest.sendall(b"last")
        guest.shutdown(socket.SHUT_WR)
        pair.pump()
        kernel = pair.kernel[0]
        assert kernel.recv(10) == b"last"
        assert kernel.recv(10) == b""
        kernel.sendall(b"answer")
        pair.pump()
        assert guest.recv(10) == b"answer"
        kernel.close()
        pair.pump()
        assert ended(guest)
        assert pair.opener.is_idle
        assert pair.connector.is_idle


def test_a_reader_that_does_not_read_stops_its_writer_and_nobody_else(pair: Pair) -> None:
    with pair.open() as slow, pair.open() as quick:
        pair.pump()
        written = 0
        block = bytes(1 << 16)
        for _ in range(400):  # 25 MiB, far beyond the window
            with contextlib.suppress(BlockingIOError):
                written += slow.send(block)
            pair.pump()
        assert WINDOW_BYTES <= written < 2 * WINDOW_BYTES
        quick.sendall(b"hello")
        pair.pump()
        assert received(pair.kernel[1]) == b"hello"
        read = len(received(pair.kernel[0]))
        while read < written:
            pair.pump()
            read += len(received(pair.kernel[0]))
        assert read == written


def test_a_writer_learns_that_its_reader_is_gone(pair: Pair) -> None:
    with pair.open() as guest:
        pair.pump()
        pair.kernel[0].close()
        guest.sendall(b"to nobody")
        pair.pump()
        assert ended(guest)
        with pytest.raises(OSError, match=r"pipe|reset"):
            guest.sendall(b"again")


def test_a_refused_connection_ends_at_once(pair: Pair) -> None:
    pair.refuse = True
    with pair.open() as guest:
        pair.pump()
        assert ended(guest)
    assert pair.ends == {}


def test_a_ping_is_answered_and_silence_ends_both(pair: Pair) -> None:
    with pair.open() as guest:
        pair.pump()
        now = time.monotonic()
        assert pair.connector.tick(now + PING_SECONDS) <= PING_SECONDS
        pair.pump()
        assert pair.ends == {}
        # What the other end sends never arrives.
        pair.connector.tick(now + LEASE_SECONDS + 5)
        pair.opener.tick(now + LEASE_SECONDS + 5)
        silence = f"nothing was received for {LEASE_SECONDS:g} s"
        assert pair.ends == {"opener": silence, "connector": silence}
        assert ended(guest)
        assert ended(pair.kernel[0])


def test_what_was_heard_of_by_other_means_has_a_new_lease(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LEASE_SECONDS)
    pair.connector.hear()
    pair.connector.tick(now + LEASE_SECONDS + 5)
    pair.opener.tick(now + LEASE_SECONDS + 5)
    assert list(pair.ends) == ["opener"]


def test_the_end_of_the_stream_ends_every_connection(pair: Pair) -> None:
    with pair.open() as guest:
        pair.pump()
        pair.connector.end("for this test")
        pair.pump()
        assert pair.ends == {"connector": "for this test", "opener": STREAM_ENDED}
        assert ended(guest)


def test_gone_and_messages_pass_in_order(pair: Pair) -> None:
    pair.connector.send_message(b"a" * 200_000)
    pair.connector.send_message(b"")
    pair.connector.send(FrameKind.GONE)
    pair.pump()
    assert pair.messages == [b"a" * 200_000, b""]
    assert pair.gone == [None]


def test_more_channels_than_there_may_be_are_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair.open(), pair.open() as second, pair.open() as third:
        monkeypatch.setattr(multiplexer, "MAX_CHANNELS", 2)
        with pair.open() as fourth:  # refused at this end, the third at the other
            pair.pump()
            assert [ended(one) for one in (second, third, fourth)] == [False, True, True]
    assert pair.ends == {}


HOSTILE = {
    "an unknown kind": b"\x63" + bytes(8),
    "a payload that is too long": FrameKind.DATA.to_bytes(1, "big")
    + (1).to_bytes(4, "big")
    + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big"),
    "an empty payload": pack_frame(FrameKind.DATA, 1, b""),
    "a channel that never was": pack_frame(FrameKind.DATA, 7, b"x"),
    "channel 0": pack_frame(FrameKind.EOF, 0),
    "a channel that is skipped": pack_frame(FrameKind.OPEN, 9, b"sock"),
    "a channel that is opened twice": pack_frame(FrameKind.OPEN, 1, b"sock") * 2,
    "credit that was never given": pack_frame(FrameKind.OPEN, 1, b"sock")
    + pack_frame(FrameKind.CREDIT, 1, b"\xff\xff\xff\xff"),
    "data after its end": pack_frame(FrameKind.OPEN, 1, b"sock")
    + pack_frame(FrameKind.EOF, 1)
    + pack_frame(FrameKind.DATA, 1, b"x"),
    "a ping with a payload": FrameKind.PING.to_bytes(1, "big")
    + bytes(4)
    + (5).to_bytes(4, "big")
    + b"12345",
    "a message without an end": pack_frame(FrameKind.PART, 0, bytes(MAX_PAYLOAD_BYTES)) * 17,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_container_sends_ends_the_stream(what: str) -> None:
    selector = selectors.DefaultSelector()
    near, far = socket.socketpair()
    ends: list[str] = []
    given: list[socket.socket] = []

    def connect(target: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        given.append(ours)
        return theirs

    mux = Multiplexer(
        SocketStream(near),
        selector,
        on_end=ends.append,
        on_message=lambda data: None,
        most=1 << 20,
        connect=connect,
    )
    with contextlib.closing(selector), far:
        far.setblocking(False)
        data = memoryview(HOSTILE[what])
        while not mux.ended:
            with contextlib.suppress(BlockingIOError):
                data = data[far.send(data) :] if data else data
            for key, events in selector.select(1):
                key.data(events)
        assert ends[0].startswith("it sent ")
    for sock in given:
        sock.close()


def test_more_data_than_the_window_ends_the_stream() -> None:
    selector = selectors.DefaultSelector()
    near, far = socket.socketpair()
    ours, theirs = socket.socketpair()
    ends: list[str] = []
    mux = Multiplexer(
        SocketStream(near),
        selector,
        on_end=ends.append,
        on_message=lambda data: None,
        most=1,
        connect=lambda target: theirs,
    )
    with contextlib.closing(selector), far, ours:
        far.setblocking(False)
        frame = pack_frame(FrameKind.DATA, 1, bytes(MAX_PAYLOAD_BYTES))
        data = memoryview(pack_frame(FrameKind.OPEN, 1, b"sock") + frame * 100)
        while not mux.ended:
            with contextlib.suppress(BlockingIOError):
                data = data[far.send(data) :]
            for key, events in selector.select(0):
                key.data(events)
        assert "more bytes on channel 1 than it may send" in ends[0]


@given(
    st.lists(st.tuples(st.integers(1, 100), st.binary(min_size=1, max_size=2000)), max_size=8),
    st.data(),
)
def test_frames_are_read_from_pieces_of_any_size(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(pack_frame(FrameKind.DATA, *one) for one in frames)
    reader, found = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert [(one.channel, one.payload) for one in found] == frames


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_frames_or_refused(data: bytes) -> None:
    with contextlib.suppress(WireError):
        FrameReader().feed(data)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?\.py", fullmatch=True), st.binary()))
def test_packed_files_are_unpacked_as_they_were(files: dict[str, bytes]) -> None:
    packed = packed_files.pack(files)
    assert int(packed[:32], 16) == len(packed) - 32
    assert packed_files.unpack(packed[32:], None) == files
