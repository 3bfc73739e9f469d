"""The baseline of a warm call: pickled objects sent over a Unix socket into the same container.

Nothing that carries Python objects between two processes can be faster: there is only a length as
framing, no exceptions, no output and no interrupts. The other end is a small server in its own
process, so that it shares no interpreter lock with the worker.
"""

from __future__ import annotations

import pickle
import socket
import time
from pathlib import Path
from struct import Struct

_LENGTH = Struct("<I")

# Runs in the container, where only the standard library is sure to be there.
SERVER = """
import pickle, socket, struct, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
length = struct.Struct("<I")
while True:
    head = sock.recv(4)
    if not head:
        break
    need, = length.unpack(head)
    data = sock.recv(need)
    while len(data) < need:
        data += sock.recv(need - len(data))
    reply = pickle.dumps(pickle.loads(data), protocol=5)
    sock.sendall(length.pack(len(reply)) + reply)
"""


class Raw:
    """The kernel's end. It listens at ``path``; `accept` waits for the container to connect."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(30)
        self._sock: socket.socket | None = None

    def accept(self) -> None:
        self._sock, _ = self._listener.accept()
        self._sock.settimeout(None)

    def run(self, times: int) -> list[float]:
        """Exchange a small integer ``times`` times."""
        seconds = []
        sock = self._sock
        assert sock is not None
        for _ in range(times):
            began = time.perf_counter()
            data = pickle.dumps(1, protocol=5)
            sock.sendall(_LENGTH.pack(len(data)) + data)
            (need,) = _LENGTH.unpack(sock.recv(4))
            pickle.loads(sock.recv(need))
            seconds.append(time.perf_counter() - began)
        return seconds

    def close(self) -> None:
        """Close the socket; the server sees the end of it and exits."""
        if self._sock is not None:
            self._sock.close()
        self._listener.close()
