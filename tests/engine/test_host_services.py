"""Services on the kernel's machine, as code in a container reaches them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import bridge
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied

HOST = "host.docker.internal"


class Client:
    """Calls a service of the kernel's machine."""

    def __init__(self, path: str) -> None:
        self.path = path

    @lm.method()
    def ask(self, port: int) -> bytes:
        with socket.create_connection((HOST, port), timeout=10) as sock:
            return sock.recv(64)

    @lm.method()
    def fetch(self, port: int) -> Any:
        return urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=10).read()

    @lm.method()
    def connect(self, port: int) -> None:
        with socket.socket() as sock:
            sock.connect((HOST, port))

    @lm.method()
    def elsewhere(self, port: int) -> None:
        with socket.socket() as sock:
            sock.connect(("localhost", port))

    @lm.method()
    def fill(self, megabytes: int) -> None:
        import mmap

        with open("/dev/shm/block", "w+b") as file:
            file.truncate(megabytes << 20)
            with mmap.mmap(file.fileno(), 0) as block:
                for at in range(0, megabytes << 20, 4096):
                    block[at] = 1

    @lm.method()
    def fill_in_child(self, megabytes: int) -> None:
        import subprocess
        import sys

        program = f"""
import mmap
with open("/dev/shm/block", "w+b") as file:
    file.truncate({megabytes} << 20)
    block = mmap.mmap(file.fileno(), 0)
    for at in range(0, {megabytes} << 20, 4096):
        block[at] = 1
"""
        subprocess.run([sys.executable, "-c", program], check=True)

    @lm.method()
    def write(self, megabytes: int) -> None:
        try:
            with open("/dev/shm/file", "wb") as file:
                file.write(bytes(megabytes << 20))
        finally:
            os.unlink("/dev/shm/file")


@contextlib.contextmanager
def greeter(address: str) -> Iterator[int]:
    """A service that greets each client; its port."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    sock.sendall(b"hello")
                    sock.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def address(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a service has to listen so that containers reach it."""
    if engine_name == "process":
        return "127.0.0.1"
    request.getfixturevalue("need_docker")
    return bridge.address()


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_a_service_of_the_machine_is_reached_by_name(site_on_each: Site, address: str) -> None:
    client = site_on_each.instance(Client)
    with greeter(address) as port:
        assert client.ask.remote(port) == b"hello"


def test_a_refused_connection_says_where_the_service_has_to_listen(
    site_on_each: Site, address: str
) -> None:
    client = site_on_each.instance(Client)
    with socket.socket() as closed:
        closed.bind((address, 0))
        port = closed.getsockname()[1]
        for method in (client.ask, client.connect, client.fetch):
            with pytest.raises(OSError, match="refused") as caught:
                method.remote(port)
            assert f"{HOST} is " in notes(caught.value)
            assert address in notes(caught.value)
            assert "Fix:" in notes(caught.value)
        with pytest.raises(ConnectionRefusedError) as caught:
            client.elsewhere.remote(port)
        assert HOST not in notes(caught.value)


def test_a_blocked_network_has_no_such_name(site_on_each: Site) -> None:
    client = site_on_each.instance(Client, block_network=True)
    with pytest.raises(socket.gaierror) as caught:
        client.ask.remote(1)
    assert "block_network" in notes(caught.value)


def test_a_full_shm_names_shm_size(site_on_each: Site) -> None:
    client = site_on_each.instance(Client, shm_size=8)
    with pytest.raises(OSError, match="No space left") as caught:
        client.write.remote(16)
    assert "holds 8 MiB" in notes(caught.value)
    with pytest.raises(Exception, match="SIGBUS") as caught:
        client.fill_in_child.remote(16)
    assert "shm_size=" in notes(caught.value)
    with pytest.raises(ContainerDied, match=r"SIGBUS.*held 8 MiB.*shm_size="):
        client.fill.remote(16)
