"""A TLS connection as the stream of a multiplexer, at either end."""

from __future__ import annotations

import ssl

__all__ = ["TlsStream"]

RECORD_BYTES = 1 << 14
"""Bytes that one record of TLS has at most."""


class TlsStream:
    """The connection ``sock``, its handshake done, as a
    `lifecycle_magic.wire.mux_channel.NonblockingStream`.

    ``errors`` is what the other end printed outside of the stream: nothing, there is no such place.
    """

    errors = b""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)
        self.reader = self.writer = sock.fileno()
        self._sock = sock

    def read(self) -> bytes | None:
        """Return what has arrived; None for nothing, empty at the end."""
        try:
            return self._sock.recv(1 << 18)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:  # without a farewell, as processes end that are killed
            return b""

    def write(self, data: memoryview) -> int:
        """Send a part of ``data``, and return its size."""
        try:
            # What TLS did not take at once has to be given to it again, as it was: no larger piece
            # than a record.
            return self._sock.send(data[:RECORD_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
