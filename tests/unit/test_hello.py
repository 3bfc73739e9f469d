"""The handshake: the right container gets in, anybody else is refused by name and never
unpickled."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.exception import HandshakeError
from lifecycle_magic.wire import hello, shared
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.shared import Shared

TOKEN = "the-right-token"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    guest, kernel = socket.socketpair()
    guest.settimeout(10)
    kernel.settimeout(10)
    with guest, kernel:
        yield guest, kernel


class Dialler(threading.Thread):
    """The guest's end of a connection on a thread of its own; ``refusal`` is the answer it got."""

    def __init__(self, sock: socket.socket, told: hello.Hello) -> None:
        super().__init__()
        self.sock, self.told, self.refusal = sock, told, ""
        self.start()

    def run(self) -> None:
        channel = Channel(self.sock)
        channel.send(Kind.HELLO, json.dumps(self.told._asdict()).encode())
        answer = channel.receive()
        assert answer is not None
        self.refusal = json.loads(bytes(answer.payload)).get("why", "")


def admit(sock: socket.socket) -> tuple[hello.Hello, Channel] | None:
    """Do the kernel's side of the handshake on a new connection."""
    return hello.admit_channel(Channel(sock, max_frame=hello.MAX_HELLO_BYTES), TOKEN)


RIGHT = hello.Hello(TOKEN, hello.DATA, 2, PROTOCOL, hello.python_minor())


def test_a_container_with_the_right_token_gets_in(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    guest, kernel = ends
    dialler = Dialler(guest, RIGHT)
    admitted = admit(kernel)
    dialler.join()
    assert admitted is not None
    assert (admitted[0].role, admitted[0].slot) == (hello.DATA, 2)
    assert dialler.refusal == ""


def test_a_wrong_token_is_refused_and_is_no_error_of_the_package(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    guest, kernel = ends
    dialler = Dialler(guest, RIGHT._replace(token="guessed"))
    assert admit(kernel) is None
    dialler.join()
    assert "wrong token" in dialler.refusal


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (RIGHT._replace(protocol=PROTOCOL + 1), f"speaks protocol {PROTOCOL + 1}"),
        (RIGHT._replace(python="2.7"), "has Python 2.7"),
    ],
)
def test_another_protocol_or_python_is_refused_by_name(
    ends: tuple[socket.socket, socket.socket], told: hello.Hello, named: str
) -> None:
    guest, kernel = ends
    dialler = Dialler(guest, told)
    with pytest.raises(HandshakeError, match=named):
        admit(kernel)
    dialler.join()
    assert named in dialler.refusal


@pytest.mark.parametrize(
    "sent",
    [
        b"\x80\x05cos\nsystem\n",
        b"[1, 2]",
        b'{"token": "the-right-token"}',
        b'{"token": 5, "role": 7, "x": 1}',
    ],
)
def test_what_is_no_hello_is_refused(
    ends: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    guest, kernel = ends
    Channel(guest).send(Kind.HELLO, sent)
    assert admit(kernel) is None


def test_a_first_frame_that_is_too_long_is_refused(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    guest, kernel = ends
    guest.sendall(b"LM\x01\x00" + b"\x00" * 4 + (1 << 40).to_bytes(8, "little"))
    assert admit(kernel) is None


def test_a_silent_caller_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    guest, kernel = ends
    guest.shutdown(socket.SHUT_WR)
    assert admit(kernel) is None


def test_the_boot_file_is_private_and_is_removed_after_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "boot.json"
    boot = hello.BootFile("unix:/run/lifecycle/sock", TOKEN, "lm-model-1", 1, 30.0)
    boot.write(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hello.BootFile.read_and_delete(str(path)) == boot
    assert not path.exists()


def test_a_socket_with_a_path_too_long_for_sun_path_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        short = Path("/proc/self/cwd")
        import os

        before = os.getcwd()
        os.chdir(deep)
        try:
            listener.bind(str(short / "sock"))
        finally:
            os.chdir(before)
        listener.listen()
        with hello.dial(f"unix:{deep}/sock") as dialled:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"!")
                assert dialled.recv(1) == b"!"


def _introduced(sock: socket.socket, token: str, role: str) -> list[Any]:
    found: list[Any] = []

    def introduce() -> None:
        try:
            found.append(hello.introduce(sock, token, role))
        except HandshakeError as error:
            found.append(str(error))

    thread = threading.Thread(target=introduce)
    thread.start()
    found.append(thread)
    return found


@pytest.mark.parametrize("role", [hello.NAMED, hello.SERIAL, hello.CALLS])
@pytest.mark.parametrize("token", [TOKEN, "guessed"])
def test_a_caller_proves_that_it_knows_the_key(
    ends: tuple[socket.socket, socket.socket], role: str, token: str
) -> None:
    guest, kernel = ends
    found = _introduced(guest, token, role)
    channel = Channel(kernel)
    greeting = hello.read_hello(channel)
    assert greeting is not None
    assert token not in greeting  # it is not sent
    if role == hello.CALLS:
        admitted = hello.admit_hello(channel, greeting, TOKEN, is_key=True) is not None
    else:
        admitted = hello.admit_named(channel, greeting, TOKEN)
    found[0].join()
    assert admitted == (token == TOKEN)
    if token != TOKEN:
        assert "wrong token" in found[1]
    else:
        found[1].close()
        channel.close()


@pytest.mark.skipif(not shared.can_share(), reason="memory is shared on Linux alone")
@pytest.mark.parametrize("role", [hello.NAMED, hello.SERIAL, hello.CALLS])
def test_large_values_of_calls_are_shared_memory(
    ends: tuple[socket.socket, socket.socket], role: str
) -> None:
    guest, kernel = ends
    caller, session = _connected(guest, kernel, role)
    for sender, receiver in ((caller, session), (session, caller)):
        sender.send(Kind.ASK, b"it", [bytearray(b"x" * (8 << 20))])  # no socket takes that much
        frame = receiver.receive()
        assert frame is not None
        assert bytes(frame.payload) == b"it"
        assert frame.buffers[0] == b"x" * (8 << 20)
        assert list(receiver.shared.theirs), "a segment"
        del frame
    caller.close()
    session.close()


def _connected(
    guest: socket.socket, kernel: socket.socket, role: str, *, shares: bool = True
) -> tuple[Channel, Channel]:
    found = _introduced(guest, TOKEN, role)
    channel = Channel(kernel)
    greeting = hello.read_hello(channel)
    assert greeting is not None
    if role == hello.CALLS:
        assert hello.admit_hello(channel, greeting, TOKEN, is_key=True, shares=shares)
    else:
        assert hello.admit_named(channel, greeting, TOKEN)
    found[0].join()
    return found[1], channel


def test_a_connection_that_shares_no_memory_carries_large_values(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    guest, kernel = ends
    caller, session = _connected(guest, kernel, hello.CALLS, shares=False)
    assert caller.shared is session.shared is None


@pytest.mark.skipif(not shared.can_share(), reason="memory is shared on Linux alone")
@pytest.mark.parametrize("given", ["nothing", "a file", "the end"])
def test_what_is_no_offer_of_shared_memory_is_taken_for_none(
    ends: tuple[socket.socket, socket.socket], given: str
) -> None:
    guest, kernel = ends
    if given == "the end":
        guest.close()
        with pytest.raises(ConnectionResetError):
            shared.accept_offer(kernel)
        return
    with open(os.devnull) as file:
        socket.send_fds(guest, [b"\0"], [file.fileno()] if given == "a file" else [])
    assert shared.accept_offer(kernel) is None


def test_what_was_sent_for_one_connection_opens_no_other_one(tmp_path: Path) -> None:
    sent: list[bytes] = []
    for attempt in ("real", "replayed"):
        guest, kernel = socket.socketpair()
        with guest, kernel:
            guest.settimeout(10)
            kernel.settimeout(10)
            channel = Channel(kernel)
            if attempt == "real":
                found = _introduced(guest, TOKEN, hello.NAMED)
                receive = channel.receive

                def record() -> Any:
                    frame = receive()  # noqa: B023
                    assert frame is not None
                    sent.append(bytes(frame.payload))
                    return frame

                channel.receive = record  # type: ignore[method-assign]
            else:
                replayed = Channel(guest)
                for content in sent:
                    replayed.send(Kind.HELLO, content)
            greeting = hello.read_hello(channel)
            assert greeting is not None
            assert hello.admit_named(channel, greeting, TOKEN) == (attempt == "real")
            if attempt == "real":
                found[0].join()
                assert len(sent) == 2
                assert TOKEN.encode() not in b"".join(sent)
                found[1].close()
            channel.close()


def test_a_proof_for_one_role_is_none_for_another_one() -> None:
    from lifecycle_magic.wire.proofs import proof

    assert proof("key", hello.NAMED, "c") != proof("key", hello.SERIAL, "c")
    assert proof("key", hello.NAMED, "c") != proof("other", hello.NAMED, "c")


@pytest.mark.parametrize("answer", [b"[]", b'{"proof": null}', b'{"proof": [1]}', b"\xff", b"{}"])
def test_what_is_no_proof_is_refused(
    ends: tuple[socket.socket, socket.socket], answer: bytes
) -> None:
    guest, kernel = ends
    caller = Channel(guest)
    told = hello.Hello(hello.key_id(TOKEN), hello.NAMED, 0, PROTOCOL, hello.python_minor())
    caller.send(Kind.HELLO, json.dumps(told._asdict()).encode())
    caller.send(Kind.HELLO, answer)
    channel = Channel(kernel)
    greeting = hello.read_hello(channel)
    assert greeting is not None
    assert not hello.admit_named(channel, greeting, TOKEN)


def test_a_start_takes_no_connection_for_calls(ends: tuple[socket.socket, socket.socket]) -> None:
    guest, kernel = ends
    told = RIGHT._replace(role=hello.CALLS, token=hello.key_id(TOKEN))
    dialler = Dialler(guest, told)
    assert admit(kernel) is None
    dialler.join()
    assert "wrong token" in dialler.refusal


def test_memory_that_is_passed_right_behind_the_answer_arrives() -> None:
    far, near = socket.socketpair()
    with near:

        class Hasty(socket.socket):
            """The kernel has answered, and passed a segment, before this end reads."""

            def sendall(self, data: Any, flags: int = 0) -> None:
                super().sendall(data, flags)
                admitted = admit(near)
                assert admitted is not None
                shared = Shared(near)
                self.name = shared.place([memoryview(b"weights")])
                self.kept = shared  # its segments live as long

        with Hasty(fileno=far.detach()) as hasty:
            hello.introduce(hasty, TOKEN, hello.MEMORY)
            assert hasty.name is not None
            [view] = Shared(hasty).find(bytearray(hasty.name), [7])
            assert bytes(view) == b"weights"
