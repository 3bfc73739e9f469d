"""A container can connect while silent, slow or hostile clients connect too."""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from lifecycle_magic.container import newcomers
from lifecycle_magic.container.newcomers import Newcomers
from lifecycle_magic.wire import hello
from lifecycle_magic.wire.frame_header import HEADER, MAGIC
from lifecycle_magic.wire.frames import Kind

TOKEN = "the-right-token"
WAIT = 30.0


@pytest.fixture
def door() -> Iterator[tuple[Newcomers, int]]:
    """Visitors that come by TCP, and the port."""
    admitted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Newcomers(listener, TOKEN, admitted)
        yield one, listener.getsockname()[1]
        one.close()
    for sock in admitted:
        sock.close()


def stranger(port: int, *pieces: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    for piece in pieces:
        sock.sendall(piece)
    return sock


def frame(payload: bytes, size: int | None = None) -> bytes:
    length = len(payload) if size is None else size
    return HEADER.pack(MAGIC, Kind.HELLO, 0, 0, 0, length) + payload


HOSTILE = [
    b"",
    b"L",
    b"GET / HTTP/1.1\r\n\r\n",
    frame(b"[" * 4000),
    frame(b'{"token": "\\ud800", "role": "data"}'),
    frame(b'{"token": {"a": [1]}, "role": 3, "slot": "x"}'),
    frame(b"\xff\xfe"),
    frame(b"", size=1 << 62),
    frame(json.dumps({"token": "guessed", "role": "data"}).encode()),
    struct.pack("<2sBBHHQ", MAGIC, Kind.HELLO, 255, 9, 65535, 3),
]


def test_a_container_connects_among_other_clients(door: tuple[Newcomers, int]) -> None:
    visitors_, port = door
    strangers = [stranger(port, data) for data in HOSTILE]
    left = stranger(port)
    left.close()
    introduced: list[object] = []

    def container() -> None:
        sock = stranger(port)
        introduced.append(hello.introduce(sock, TOKEN, hello.DATA, 2))

    thread = threading.Thread(target=container)
    thread.start()
    admitted = visitors_.admit(WAIT)
    thread.join()
    assert admitted is not None
    assert (admitted[0].role, admitted[0].slot) == (hello.DATA, 2)
    assert len(introduced) == 1
    introduced[0].close()  # type: ignore[attr-defined]
    for sock in strangers:
        sock.close()


def test_a_hello_has_one_deadline(
    door: tuple[Newcomers, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "HELLO_SECONDS", 0.05)
    visitors_, port = door
    with stranger(port) as sock:
        sent = threading.Event()

        def trickle() -> None:
            try:
                for byte in frame(b"x" * 4000):
                    sock.sendall(bytes([byte]))
                    time.sleep(0.01)  # the stranger's pace: so it would take 40 s
            except OSError:
                sent.set()

        thread = threading.Thread(target=trickle)
        thread.start()
        while not sent.is_set():
            assert visitors_.admit(0.05) is None
        thread.join()


def test_no_more_than_a_few_strangers_are_kept(
    door: tuple[Newcomers, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "MAX_NEWCOMERS", 2)
    visitors_, port = door
    strangers = [stranger(port) for _ in range(3)]
    while not select.select([strangers[0]], [], [], 0)[0]:
        assert visitors_.admit(0.05) is None
    assert strangers[0].recv(1) == b""
    for sock in strangers:
        sock.close()


def test_a_stranger_makes_room_if_no_descriptor_is_left() -> None:
    code = f"""
import os, resource, socket, threading
from lifecycle_magic.container import handshake  # with all that it imports
from lifecycle_magic.container.newcomers import Newcomers
from lifecycle_magic.wire import hello

listener = socket.create_server(("127.0.0.1", 0))
here, container = socket.create_connection, listener.getsockname()
strangers = [here(container) for _ in range(3)]
newcomers = Newcomers(listener, {TOKEN!r}, [])
while newcomers.waiting < 3:
    newcomers.admit(0.05)
sock = here(container)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
taken = []

def take_all():
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == 24

take_all()
said = (sock, {TOKEN!r}, hello.DATA, 2)
threading.Thread(target=hello.introduce, args=said, daemon=True).start()
admitted = newcomers.admit({WAIT})
assert admitted is not None and admitted[0].slot == 2
assert strangers[0].recv(1) == b""
newcomers.close()
take_all()
os.close(taken.pop())  # for the client, which leaves none for the listener
last = here(container)
try:
    newcomers.admit({WAIT})
except OSError as error:
    assert error.errno == 24
else:
    raise AssertionError("it waits for a descriptor that nobody will close")
for one in taken:
    os.close(one)  # Python's exit opens a library to end the threads that still run
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=2 * WAIT)
