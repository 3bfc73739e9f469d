"""Connections of this process for calls by name that block: one call at a time on each."""

from __future__ import annotations

from lifecycle_magic.guest.serial_connections import (
    MAX_CONNECTIONS,
    SerialCall,
    SerialConnections,
)
from lifecycle_magic.guest.session_connection import Answer, CallTarget
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.sigint import run_forwarding
from lifecycle_magic.wire.nested import REMOTE, Ask
from lifecycle_magic.wire.pickling import Buffer

__all__ = ["MAX_CONNECTIONS", "PeerSerialConnections"]


class PeerSerialConnections(SerialConnections):
    """The connections to one session. SIGINT interrupts a call on the main thread."""

    def call(self, target: CallTarget, payload: bytes, buffers: list[Buffer]) -> Answer | None:
        """Make a call and return its answer: see `SerialConnections.ask`."""
        ask = Ask(0, target.key, target.arguments, target.method, REMOTE, -1)
        return self.ask(ask, payload, buffers)

    def _run(self, call: SerialCall) -> Answer | None:
        return run_forwarding(call.interrupt, SerialCall.run, call)

    show = staticmethod(show)
