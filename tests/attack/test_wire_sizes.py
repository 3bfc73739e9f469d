"""A peer that claims more than it sends costs address space, not memory and not time."""

from __future__ import annotations

import array
import os
import pickle
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import HEADER, MAGIC, SHARED
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.messages import asgi, failure, output
from lifecycle_magic.wire.segment import NAME
from lifecycle_magic.wire.shared import Shared

CLAIMED = 1 << 30
SENT = 8 << 20


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Channel]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, Channel(other)


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    "head",
    [
        HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 0, CLAIMED),
        HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 1, 0) + CLAIMED.to_bytes(8, "little"),
    ],
    ids=["payload", "buffer"],
)
def test_a_claimed_size_takes_memory_as_bytes_arrive(
    ends: tuple[socket.socket, Channel], head: bytes
) -> None:
    raw, channel = ends
    before, most = resident(), 0

    def send() -> None:
        nonlocal most
        raw.sendall(head)
        raw.sendall(bytes(SENT))
        most = resident()  # nearly all of it is read, and the reader waits for more
        raw.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(WireError, match="ended inside a frame"):
        channel.receive()
    sender.join()
    assert most - before < CLAIMED // 8


def test_a_large_part_arrives_whole_and_writable(ends: tuple[socket.socket, Channel]) -> None:
    raw, channel = ends
    data = os.urandom(5 << 20)
    sender = threading.Thread(
        target=Channel(raw).send, args=(Kind.RESULT, b"small", [data[: 3 << 20], data[3 << 20 :]])
    )
    sender.start()
    frame = channel.receive()
    sender.join()
    assert frame is not None
    assert b"".join(map(bytes, frame.buffers)) == data
    for part in frame.buffers:
        memoryview(part)[0] = 7


def test_no_descriptor_stays_of_a_message_with_two(ends: tuple[socket.socket, Channel]) -> None:
    raw, channel = ends
    mine, theirs = socket.socketpair()
    with mine:
        channel.shared = Shared(theirs)
        memory = os.memfd_create("two")
        before = len(os.listdir("/proc/self/fd"))
        sent = array.array("i", [memory, memory])
        mine.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
        head = HEADER.pack(MAGIC, Kind.RESULT, SHARED, 0, 1, 0) + (8).to_bytes(8, "little")
        raw.sendall(head + NAME.pack(0, 1 << 20))
        with pytest.raises(WireError, match="2 descriptors"):
            channel.receive()
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(memory)
        channel.shared.close()


class Leaves:
    def __reduce__(self) -> tuple[object, ...]:
        return exit, (3,)


@pytest.mark.parametrize("read", [output, failure, lambda data: asgi(data, ())])
def test_what_exits_when_it_is_read_is_a_broken_frame(read: object) -> None:
    assert callable(read)
    with pytest.raises(WireError, match="SystemExit"):
        read(memoryview(pickle.dumps(Leaves())))
