"""What the tests of web endpoints share: one image, an app per module and engine, and clients."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.inside import NOTES
from engine.work import PATIENCE, Folder, compile_again
from kernel.harness import Where, wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.container import Container
from lifecycle_magic.session import session

IMAGE = lm.Image.debian_slim().pip_install("fastapi", "flask", "websockets")


class Street:
    """A test module's app on one engine: its classes live as long as the module's tests."""

    def __init__(self, app: lm.App, engine: str, folder: Path) -> None:
        self.app = app
        self.engine = engine
        self.folder = Folder(str(folder))
        self.client = httpx.Client(trust_env=False, timeout=PATIENCE)

    def cls(self, cls: type, **options: Any) -> Any:
        compile_again(cls)
        return self.app.cls(cls, **self.options(**options))

    def options(self, **options: Any) -> dict[str, Any]:
        path = self.folder.path
        volumes = {path: lm.Volume.from_path(path)}
        given = {"image": IMAGE, "volumes": volumes, "env": {NOTES: path}, "engine": self.engine}
        return given | options

    def go(self, *names: Any) -> None:
        for name in names:
            self.folder.note(f"go-{name}")

    def request(self, method: str, url: str, **options: Any) -> Request:
        """A request on a thread of its own."""
        return Request(lambda client: client.request(method, url, **options))

    def containers(self, cls: str) -> list[Where]:
        current = session.current()
        return [
            Where(current.id, current.folder, one.name, one.id)
            for one in current.containers()
            if one.plan.cls == cls
        ]

    def live(self, cls: str) -> list[Container]:
        return [one for one in session.current().containers() if one.plan.cls == cls]

    def log(self, cls: str) -> str:
        return session.current().logs(f"{self.app.name}/{cls}")


class Request:
    """One that is under way. `leave` closes its connection before the answer is complete."""

    def __init__(self, send: Any) -> None:
        self._client = httpx.Client(trust_env=False, timeout=PATIENCE)
        self._value: httpx.Response | Exception | None = None

        def run() -> None:
            try:
                with self._client:
                    self._value = send(self._client)
            except Exception as error:
                self._value = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def answer(self) -> httpx.Response:
        """Wait for the response; raises what the client raised."""
        self._thread.join(PATIENCE)
        assert self._value is not None, "there is no answer"
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Raw:
    """A connection on which the test writes HTTP itself."""

    def __init__(self, url: str) -> None:
        self.host = httpx.URL(url).netloc.decode()
        port = httpx.URL(url).port
        self.sock = socket.create_connection(("127.0.0.1", port or 80), timeout=PATIENCE)
        self.file = self.sock.makefile("rb")

    def request(self, head: str, body: bytes = b"") -> None:
        """``head`` is the request line and further headers, without ``Host``."""
        first, _, rest = head.partition("\n")
        lines = [f"{first} HTTP/1.1", f"Host: {self.host}", *rest.splitlines()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        self.sock.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and headers of a response."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(self.file.readline(), 16)
        data = self.file.read(size)
        self.file.readline()
        return data

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def free_port() -> int:
    """For a server inside of a container, which may share this machine's ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def printed_until(capfd: pytest.CaptureFixture[str], text: str) -> tuple[str, str]:
    """Wait until this process has printed ``text`` on stderr; what it printed so far."""
    told = ["", ""]

    def came() -> bool:
        for index, more in enumerate(capfd.readouterr()):
            told[index] += more
        return text in told[1]

    # Seldom: what is written while it is read may be lost.
    wait_for(came, f"{text!r} on stderr", every=0.25)
    return told[0], told[1]


@contextlib.contextmanager
def street(engine: str, name: str, folder: Path) -> Iterator[Street]:
    """A `Street`, and the end of everything on it."""
    one = Street(lm.App(name, engine=engine), engine, folder)
    try:
        with one.client:
            yield one
    finally:
        session.close("the tests are over")
