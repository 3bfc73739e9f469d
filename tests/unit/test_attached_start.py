"""A guest that has nothing but its standard input and output, without an engine around it."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lifecycle_magic.engines.base import Launch
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.launch import attached_config
from lifecycle_magic.engines.relay.process import packed_guest
from lifecycle_magic.services import bundle
from lifecycle_magic.wire import packed_files
from lifecycle_magic.wire.hello import BootFile
from lifecycle_magic.wire.multiplexer import STREAM_ENDED, Multiplexer
from lifecycle_magic.wire.mux_frames import FrameKind

FACTS = Facts("box", "28", "Debian", "linux", 4, 1 << 34, (), True, True, True)


class Pipes:
    """A process's standard input and output as the stream of a multiplexer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.reader, self.writer = process.stdout.fileno(), process.stdin.fileno()
        self._process = process
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def read(self) -> bytes | None:
        try:
            return os.read(self.reader, 1 << 16)
        except BlockingIOError:
            return None

    def write(self, data: memoryview) -> int:
        try:
            return os.write(self.writer, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


@pytest.mark.every_python
@pytest.mark.parametrize("ends_by", ["a frame", "the end of the stream"])
def test_a_guest_arrives_connects_and_ends_with_its_kernel(tmp_path: Path, ends_by: str) -> None:
    guest, run = tmp_path / "guest", tmp_path / "run"
    guest.mkdir()
    run.mkdir()
    boot = BootFile(f"relay:{run}/sock", "a-token", "lm-test", 1, 5.0)
    boot.write(str(tmp_path / "boot.json"))
    files = {
        "boot.json": (tmp_path / "boot.json").read_bytes(),
        "modules/beside.py": b"WORD = 'here'\n",
    }
    first = packed_guest(bundle.guest_folder()).read_bytes() + packed_files.pack(files)
    launch = Launch("lm-test", "image", run, guest, {})
    command = attached_config(launch, FACTS)["Entrypoint"]
    assert command[0] == "python3"
    process = subprocess.Popen(
        [sys.executable, *command[1:-2], str(guest), str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ends: list[str] = []
    messages: list[bytes] = []
    kernel: list[socket.socket] = []
    byes: list[None] = []

    def connect(target: str) -> socket.socket:
        assert target == "sock"
        ours, theirs = socket.socketpair()
        kernel.append(ours)
        return theirs

    with process, contextlib.closing(selectors.DefaultSelector()) as selector:
        mux = Multiplexer(
            Pipes(process),
            selector,
            on_end=ends.append,
            on_message=messages.append,
            most=1 << 20,
            connect=connect,
            on_bye=lambda: byes.append(None),
            first=first,
        )

        def pump(until: object) -> None:
            deadline = time.monotonic() + 30
            while not until and not ends:
                assert time.monotonic() < deadline, "nothing happened"
                for key, events in selector.select(1):
                    key.data(events)

        pump(kernel)
        assert (run / "modules" / "beside.py").read_bytes() == files["modules/beside.py"]
        assert not (run / "boot.json").exists()
        if ends_by == "a frame":
            mux.send(FrameKind.GONE)
            pump(byes)
            assert messages == [b""]  # it had started nothing, so it reports nothing
            mux.send(FrameKind.BYE)
            pump(ends)
            assert ends == [STREAM_ENDED]
        else:
            mux.end("for this test")
        assert process.stderr is not None
        told = process.stderr.read().decode()
        assert process.wait(30) == 1
        assert "could not reach the kernel" in told
    for sock in kernel:
        sock.close()
