"""What the tests of a swarm share: a diary that containers of every node write to."""

from __future__ import annotations

import contextlib
import socket
import threading

from kernel.harness import wait_for


class Diary:
    """A server on this machine's address among the nodes: each line that arrives is an event.

    It goes on when a kernel is gone, so it has what ``exit`` did then.
    """

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self.address = (host, int(self._listener.getsockname()[1]))
        self._events: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            with contextlib.suppress(OSError), sock:
                sock.settimeout(5.0)
                text = sock.makefile().read()
                self._events += text.split("\n")[:-1]
                sock.sendall(b"!")

    def events(self, about: str = "") -> list[str]:
        """Return the events that contain ``about``."""
        return [one for one in list(self._events) if about in one]

    def wait(self, event: str, times: int = 1, timeout: float = 60.0) -> None:
        """Wait until ``event`` was noted so many times."""
        wait_for(lambda: len(self.events(event)) >= times, f"{event} x {times}", timeout, 0.002)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
