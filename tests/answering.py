"""The Docker engine that answers, for tests that look at what is there and what is left."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import docker.errors


@contextmanager
def client() -> Iterator[docker.DockerClient | str]:
    """A client of the engine that answers, or why there is none: it runs nothing then."""
    # docker-py leaves its sockets open when nothing answers; they are closed here, silently.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            found: docker.DockerClient | str = docker.from_env(timeout=60)
        except docker.errors.DockerException as error:
            found = str(error)
        if isinstance(found, str):
            gc.collect()
    try:
        yield found
    finally:
        if not isinstance(found, str):
            found.close()


def pings(path: str) -> bool:
    """Whether an engine answers at the socket ``path``."""
    with socket.socket(socket.AF_UNIX) as ping:  # docker-py leaves its own open if nothing answers
        try:
            ping.connect(path)
            ping.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in ping.recv(64)
        except OSError:
            return False
