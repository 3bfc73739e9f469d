"""The listening socket to which one container connects."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from lifecycle_magic.exception import EngineError
from lifecycle_magic.wire import descriptors

# sockaddr_un.sun_path of unix(7), without the final NUL
_LONGEST = 107 if sys.platform == "linux" else 103


def unix_socket(path: Path) -> socket.socket:
    """Return a listening Unix socket at ``path``, mode 0600, whatever the length of ``path``.

    Raises `EngineError`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            sock.bind(name)
            os.chmod(name, 0o600)
        sock.listen()
    except OSError as error:
        sock.close()
        why = descriptors.explain(error) or error
        raise EngineError(f"can't open the socket {path}: {why}") from error
    return sock


def tcp_socket() -> tuple[socket.socket, str]:
    """Return a listening socket on a free port of 127.0.0.1, and its ``tcp:`` address."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, f"tcp:127.0.0.1:{sock.getsockname()[1]}"


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Return a name for ``path`` that fits a socket address, through a descriptor of its folder."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    if sys.platform != "linux":  # nothing leads there by a descriptor
        raise EngineError(
            f"can't open the socket {path}: a socket's path may have {_LONGEST} bytes here. "
            "Fix: set LIFECYCLE_MAGIC_STATE to a folder with a shorter path"
        )
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
