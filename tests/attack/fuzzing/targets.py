"""Every decoder of the package as a function of bytes, with what it may raise and what it reads.

A decoder returns, or raises an exception that it documents. It does so in little time and memory,
and it unpickles nothing: the hook below sees every import that a pickle asks for.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import socket
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.building import build_log
from lifecycle_magic.container import control
from lifecycle_magic.container.record import ContainerRecord
from lifecycle_magic.engines.docker import progress as docker_progress
from lifecycle_magic.engines.process.store import Store
from lifecycle_magic.exception import BuildError, HandshakeError, InvalidError, WireError
from lifecycle_magic.guest.json_lines import JsonLineReader, join_prints
from lifecycle_magic.host import ledger
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.images.dockerfiles import Dockerfile
from lifecycle_magic.images.requirements import read_requirements
from lifecycle_magic.lifecycle import history
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.lifecycle.states import BuildStep
from lifecycle_magic.ui import commands
from lifecycle_magic.ui.notebook import options_line
from lifecycle_magic.ui.panel import history_text
from lifecycle_magic.web import address, endpoint, origins
from lifecycle_magic.wire import begun_page, hello, ticket_fifo
from lifecycle_magic.wire.frame_header import HEADER, MAGIC, MOVED, PACKED, PROTOCOL, SHARED
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.segment import create
from lifecycle_magic.wire.shared import Shared

MOST_SECONDS = 2.0
"""Of this thread's processor time for one input: the slowest one takes a twentieth of that."""

MOST_BYTES = 48 << 20
"""Of memory for one input, and `EACH_BYTE` more for each byte of it."""

EACH_BYTE = 400

TOKEN = "a-token-that-is-known-here"


class Found(AssertionError):
    """An input that a decoder does not bear."""


@dataclass(frozen=True)
class Target:
    """``decode`` may raise ``raises`` and nothing else. ``seeds`` are inputs that make sense."""

    name: str
    decode: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def check(target: Target, data: bytes) -> str:
    """Decode ``data``, and return how that ended. Raises `Found` for what must not be."""
    _unpickled.clear()
    before = _descriptors()
    tracemalloc.start(1)
    began = time.thread_time()
    try:
        target.decode(data)
        outcome = "returned"
    except target.raises as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__} at {Path(line.filename).name}:{line.lineno}"
    except Exception as error:
        raise Found(f"{target.name}: it raised {type(error).__name__}: {error}") from error
    finally:
        seconds = time.thread_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if seconds > MOST_SECONDS:
        raise Found(f"{target.name}: it took {seconds:.1f} s of processor time")
    if peak > MOST_BYTES + EACH_BYTE * len(data):
        raise Found(f"{target.name}: it took {peak >> 20} MiB")
    if _unpickled:
        raise Found(f"{target.name}: it unpickled {_unpickled}")
    if _descriptors() > before:
        gc.collect()
        if _descriptors() > before:
            raise Found(f"{target.name}: it left a descriptor open")
    return outcome


_unpickled: list[object] = []


def _see(event: str, details: tuple[object, ...]) -> None:
    if event == "pickle.find_class":
        _unpickled.append(details)


sys.addaudithook(_see)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- the wire ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _sent(data: bytes) -> Iterator[socket.socket]:
    """The end of a connection on which ``data`` has come, and nothing more will."""
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(5)
        there.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            there.sendall(data[: 1 << 16])
        there.shutdown(socket.SHUT_WR)
        yield here


def _hello(data: bytes) -> None:
    with _sent(data) as sock:
        channel = Channel(sock, max_frame=hello.MAX_HELLO_BYTES)
        if channel.read_available() is None:
            return
        admitted = hello.admit_channel(channel, TOKEN)
        if admitted is not None:
            found = admitted[0]
            assert found.token == TOKEN
            assert found.role in (hello.CONTROL, hello.DATA, hello.MEMORY)
            assert found.slot >= 0


def _answer(data: bytes) -> None:
    with _sent(data) as sock:
        hello.introduce(sock, TOKEN, hello.DATA)


def _frames(data: bytes) -> None:
    with _sent(data) as sock:
        channel = Channel(sock)
        while channel.receive() is not None:
            pass


def _segments(data: bytes) -> None:
    """The first two bytes say which memory is passed, if any, and the rest is frames."""
    with _sent(data[2:]) as sock:
        near, far = socket.socketpair()
        channel = Channel(sock)
        channel.shared = Shared(near)
        with near, far:
            what, size = (*data[:2], 0, 0)[:2]
            passed = [_memory(what % 4, size << 10) for _ in range(what >> 2 & 3)]
            with contextlib.suppress(OSError):
                if passed:
                    socket.send_fds(far, [b"\0"], passed)
                else:
                    far.sendall(bytes(what >> 4))
            for fd in passed:
                os.close(fd)
            try:
                while (frame := channel.receive()) is not None:
                    assert all(len(one) >= 0 for one in frame.buffers)
                    del frame
            finally:
                channel.close()


def _memory(kind: int, size: int) -> int:
    if kind == 0:
        return create(max(size, 1), [])
    if kind == 1:
        return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)  # its size may change
    os.ftruncate(fd, size)
    return fd


def _run_files(data: bytes) -> None:
    """The page and the FIFOs of a run folder in which a container wrote something else."""
    with _folder() as folder:
        page, fifo = begun_page.path(str(folder)), ticket_fifo.path(str(folder), 0)
        seen = begun_page.BegunPageReader(page, 4)
        try:
            Path(page).write_bytes(data)
            for slot in range(4):
                seen.may_have_begun(slot, 7)
            with contextlib.suppress(OSError):
                begun_page.BegunPage(page, 4).close()
        finally:
            seen.freeze()
        assert seen.may_have_begun(3, 7) in (True, False)
        os.mkfifo(fifo)
        one = ticket_fifo.TicketFifo(fifo)
        one.put(min(len(data), 1000))
        assert one.take(2000) == min(len(data), 1000)
        one.close()


# --- what a supervisor reports -------------------------------------------------------------------


def _control(data: bytes) -> None:
    for one in JsonLineReader().feed(data):
        event = control.read(one)
        if isinstance(event, Report):
            event.summary(64).encode()


def _notes(data: bytes) -> None:
    """The supervisor reads what the worker writes, and no line of it costs the next one."""
    lines = JsonLineReader(skipped=lambda error: None)
    half = len(data) // 2
    found = lines.feed(data[:half]) + lines.feed(data[half:])
    join_prints(found)
    found = lines.feed(b'\n{"note": "last"}\n')
    assert found[-1] == {"note": "last"}


def _report(data: bytes) -> None:
    with _folder() as folder:
        (folder / "report.json").write_bytes(data)
        found = Report.from_run_folder(folder)
        if found is None:
            return
        entry = history.HistoryEntry.from_report("s", "Model", "docker", found, memory=64)
        kept = history.History(folder)
        kept.add(entry)
        assert kept.entries() == [entry]
        history_text.history([entry], 1).encode()


# --- files of the state folder -------------------------------------------------------------------


def _card(data: bytes) -> None:
    with _folder() as folder:
        ContainerRecord.path(folder / "lm-x").write_bytes(data)
        ContainerRecord.read(folder / "lm-x")


def _owner(data: bytes) -> None:
    with _folder() as folder:
        (folder / "owner.json").write_bytes(data)
        found = [Owner.read(folder / "owner.json"), Owner.of_label(data.decode("utf-8", "replace"))]
    for owner in found:
        if owner is not None:
            owner.alive()
            assert Owner.of_label(owner.label()) == owner


def _history(data: bytes) -> None:
    with _folder() as folder:
        (folder / "history.jsonl").write_bytes(data)
        entries = history.History(folder).entries()
        history_text.history(entries, len(entries)).encode()


def _ledger(data: bytes) -> None:
    with _folder() as folder:
        own = folder / "run" / "s"
        own.mkdir(parents=True)
        Owner.me().write(own / "owner.json")
        for kind in ("images", "volumes"):
            (own / kind).write_bytes(data)
        ledger.needed(folder)


def _records(data: bytes) -> None:
    with _folder() as folder:
        store = Store(folder)
        for kind, file in (("instances", "instance.json"), ("images", "image.json")):
            (store.folder(kind) / "one").mkdir()
            (store.folder(kind) / "one" / file).write_bytes(data)
        store.image("one")
        for record in store.instances():
            record.keeper.alive()
        store.clear_leftovers()


# --- what users and engines write ----------------------------------------------------------------


def _dockerfile(data: bytes) -> None:
    with _folder() as folder:
        (folder / "Dockerfile").write_bytes(data)
        found = Dockerfile(folder / "Dockerfile", folder, (("V", "3"),))
        for image in found.images():
            assert image


def _requirements(data: bytes) -> None:
    with _folder() as folder:
        (folder / "requirements.txt").write_bytes(data)
        (folder / "more.txt").write_bytes(data)
        read_requirements("pip_install", folder / "requirements.txt")


def _options(data: bytes) -> None:
    with _folder() as folder:
        options_line.parse(data.decode("utf-8", "replace"), folder)


def _command(data: bytes) -> None:
    line = data.decode("utf-8", "replace")
    commands.complete(line, None)
    commands.parse(line)


def _engine_stream(data: bytes) -> None:
    with _folder() as folder, _state_root(folder):
        log = build_log.BuildLog("docker", "Model")

        def on_step(step: Any) -> None:
            log.take(BuildStep("Model", step.step, step.of, step.status, step.text, 0.0, 0.1))

        try:
            for read in (_pull, _build, _follow):
                with contextlib.suppress(BuildError):
                    read(_messages(data), on_step)
        finally:
            log.close()
        if log.path is not None:
            build_log.read(log.path).encode()


def _messages(data: bytes) -> Iterator[dict[str, Any]]:
    """What docker-py reads off the engine's stream: JSON objects."""
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _pull(messages: Iterator[dict[str, Any]], on_step: Any) -> None:
    docker_progress.follow_pull(messages, "python:3", on_step)


def _build(messages: Iterator[dict[str, Any]], on_step: Any) -> None:
    progress = docker_progress.BuildProgress(["pip install numpy", "RUN true"], on_step)
    for message in messages:
        progress.feed(message)
    progress.image()


def _follow(messages: Iterator[dict[str, Any]], on_step: Any) -> None:
    docker_progress.follow_build(messages, "Dockerfile", on_step)


def _headers(data: bytes) -> None:
    """What a server's parser lets through, as the endpoint reads it."""
    found = []
    for line in data.split(b"\n"):
        name, _, value = line.partition(b":")
        found.append((name.strip().lower(), value.strip()))
    hosts = [value.decode("latin-1") for name, value in found if name == b"host"]
    for host in hosts:
        address.host_of(host)
    for allowed in (address.LOOPBACK_HOSTS, None):
        origins.is_foreign("GET", found, allowed, ("https://ok.example",))
    scope = {"headers": found, "path": "/a", "raw_path": b"/a"}
    passed = endpoint._forwarded(scope, found)
    root = passed.get("root_path", "")
    assert not set(root) & set("<>'\"\\ \t`")
    assert not root.startswith("//")
    assert not any(name == b"connection" for name, _ in passed["headers"])


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="lm-fuzz-") as path:
        yield Path(path)


@contextlib.contextmanager
def _state_root(path: Path) -> Iterator[None]:
    before = os.environ.get("LIFECYCLE_MAGIC_STATE")
    os.environ["LIFECYCLE_MAGIC_STATE"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LIFECYCLE_MAGIC_STATE"]
        else:
            os.environ["LIFECYCLE_MAGIC_STATE"] = before


_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# --- inputs that make sense ----------------------------------------------------------------------


def _frame(kind: int, payload: bytes, flags: int = 0, sizes: tuple[int, ...] = ()) -> bytes:
    lengths = b"".join(size.to_bytes(8, "little") for size in sizes)
    return HEADER.pack(MAGIC, kind, flags, 0, len(sizes), len(payload)) + lengths + payload


def _shared(flags: int, *places: int, payload: int = 0) -> bytes:
    """A frame with a buffer of 16 bytes in the first segment, of 8 KiB."""
    head = HEADER.pack(MAGIC, Kind.RESULT, flags, 0, 1, payload)
    numbers = (16, 0, 8192, *places)
    return head + b"".join(number.to_bytes(8, "little") for number in numbers)


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


class _Bomb:
    def __reduce__(self) -> Any:
        return os.getpid, ()


_PICKLE = pickle.dumps(_Bomb())
_HELLO = {"token": TOKEN, "role": "data", "slot": 0, "protocol": PROTOCOL}
_HOOK = {"hook": "close", "seconds": 0.1, "error": "Traceback: x"}
_REPORT: dict[str, Any] = {
    "container": "lm-x",
    "orderly": True,
    "entered": True,
    "why": "so",
    "killed": None,
    "exit_code": 70,
    "signal": "SIGBUS",
    "oom": False,
    "memory_limit": 64,
    "hooks": [_HOOK],
    "began": 1e9,
    "exit_began": None,
    "ended": 1e9,
    "tail": "text\n",
    "shm_size": 64,
}
_KEEPER = {"pid": 1, "started": "1", "boot": "b"}

TARGETS = [
    Target(
        "hello",
        _hello,
        (WireError, HandshakeError),
        (
            _frame(Kind.HELLO, _json(**_HELLO, python=hello.python_minor())),
            _frame(Kind.HELLO, _json(**_HELLO, python="3.1")),
            _frame(Kind.HELLO, _json(token="other", role="control")),
            _frame(Kind.HELLO, _PICKLE),
            _frame(Kind.RESULT, _PICKLE),
            _frame(Kind.HELLO, b"[" * 4000),
            _frame(Kind.HELLO, b'{"token": "\\ud800", "role": "data"}'),
        ),
    ),
    Target(
        "answer to a hello",
        _answer,
        (WireError, HandshakeError),
        (
            _frame(Kind.HELLO, b'{"ok": true}'),
            _frame(Kind.HELLO, _json(ok=False, why=["so"])),
            _frame(Kind.HELLO, b"[" * 4000),
            _frame(Kind.SETUP, _PICKLE),
        ),
    ),
    Target(
        "frames",
        _frames,
        (WireError,),
        (
            _frame(Kind.RESULT, _PICKLE) + _frame(Kind.OUTPUT, b"x" * 5000),
            _frame(Kind.RESULT, b"abc", sizes=(4, 0)) + b"1234",
            _frame(Kind.RESULT, b"abc", sizes=(1 << 33,)),
            HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 0, 12 << 30),
            HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 0xFFFF, (1 << 64) - 1),
        ),
    ),
    Target(
        "segments of shared memory",
        _segments,
        (WireError,),
        (
            bytes([4, 8]) + _shared(SHARED),
            bytes([4, 8]) + _shared(SHARED) * 2,
            bytes([8, 8]) + _shared(SHARED),
            bytes([5, 8]) + _shared(SHARED),
            bytes([6, 8]) + _shared(SHARED),
            bytes([4, 8]) + _shared(SHARED | PACKED, payload=100),
            bytes([4, 8]) + _shared(MOVED, 4096),
            bytes([0, 0]) + _shared(SHARED),
        ),
    ),
    Target("files of a run folder", _run_files, (), (b"", bytes(32), bytes(8), b"\xff" * 40)),
    Target(
        "control lines",
        _control,
        (ValueError,),
        (
            _json(event="log", stream="stderr", text="a\n", shown=True) + b"\n",
            _json(event="exiting", why="so") + b"\n" + _json(event="ended", report=_REPORT) + b"\n",
            b"[" * 60_000 + b"\n",
        ),
    ),
    Target("notes", _notes, (), (_json(note="print", stream="stdout", text="a", shown=1) + b"\n",)),
    Target("report", _report, (), (_json(**_REPORT), _json(**_REPORT | {"signal": "SIGRTMIN+3"}))),
    Target(
        "card",
        _card,
        (ValueError, OSError),
        (
            _json(cls="Model", engine="docker", began=1e9, address=None, spare=False, memory=64),
            _json(cls="Model", engine="docker", began=10**400),
        ),
    ),
    Target("owner", _owner, (), (_json(**_KEEPER), b'[1, "1", "b"]')),
    Target(
        "history",
        _history,
        (),
        (
            _json(
                session="s",
                container="c",
                cls="M",
                engine="docker",
                state="exited",
                why="so",
                began=1e9,
                ended=1e9,
                hooks=[_HOOK],
                tail="x",
            )
            + b"\n",
        ),
    ),
    Target("ledger", _ledger, (), (b"abc\ndef\n",)),
    Target(
        "records of images and instances",
        _records,
        (),
        (
            _json(venv="v", env={"A": "b"}, workdir=None, labels={"a": "b"}),
            _json(
                name="one",
                image="i",
                venv="v",
                run_dir="/r",
                keeper=_KEEPER,
                labels={"a": "b"},
                volumes=["v"],
            ),
        ),
    ),
    Target(
        "Dockerfile",
        _dockerfile,
        (InvalidError,),
        (
            b"# escape=`\nARG V=3\nFROM --platform=x python:${V:-3} AS one\nFROM one\n"
            b"COPY --from=tools:2 /a \\\n /b\n",
            b"ARG A=aaaaaaaa\n" + b"ARG A=$A$A$A$A\n" * 40 + b"FROM $A\n",
            b"\\\n" * 20_000,
            b"FROM " + b"${A:-" * 10_000,
        ),
    ),
    Target(
        "requirements",
        _requirements,
        (InvalidError,),
        (
            b"numpy>=1 # why\n-r more.txt\n\npandas \\\n  ==2\n",
            b"-r ../x/../more.txt\n" * 50,
            b"-r \0\n",
            b"-r .\n-r /dev/zero\n",
        ),
    ),
    Target(
        "options of the magic",
        _options,
        (InvalidError,),
        (
            b"--pip numpy 'pandas>2' --apt git --run 'echo a' --cpu 2 --memory 512 --lazy",
            b"--env A=b C=d --secret PATH --volume w:/w ./d:/d --image python:3 --timeout nan",
            b"--volume ~nobody-of-this-name/x:/x",
            b"--gpu A100:2 --retries 1e400 --min-containers -5 --max_containers 2",
            b"--python 3.11 --uv-pip a --block-network --exit_grace inf --engine auto --wrong",
        ),
    ),
    Target(
        "%lifecycle",
        _command,
        (InvalidError,),
        (b"ps --all", b"logs Model -n 5 --build", b"history -n -1", b"prune -y", b"stop 'x"),
    ),
    Target(
        "streams of the engine",
        _engine_stream,
        (),
        (
            b"\n".join(
                [
                    _json(stream="Step 1/4 : FROM python\n"),
                    _json(stream="Step 2/4 : LABEL a=b\n"),
                    _json(stream="Step 3/4 : RUN pip install\n"),
                    _json(stream=" ---> Using cache\n"),
                    _json(aux={"ID": "sha256:1"}),
                    _json(error="it failed", errorDetail={"code": 1, "message": "no"}),
                ]
            ),
            b"\n".join(
                [
                    _json(status="Pulling fs layer", id="a"),
                    _json(status="Pull complete", id="a"),
                    _json(error=None, errorDetail="x", aux=7, stream=["x"], id={}, status=3),
                ]
            ),
        ),
    ),
    Target(
        "headers of a request",
        _headers,
        (),
        (
            b"host: localhost:1\norigin: http://[::1]:8888\nconnection: close, x-a\nx-a: b",
            b"x-forwarded-prefix: /user/a%40b\nsec-fetch-site: cross-site\nhost: [",
            b"origin: http://[bad\nconnection: host\nhost: \xff",
        ),
    ),
]

BY_NAME = {target.name: target for target in TARGETS}

__all__ = ["BY_NAME", "TARGETS", "Found", "Target", "check"]
