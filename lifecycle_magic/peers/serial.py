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

    _last: tuple[CallTarget, Ask] | None = None

    def call(self, target: CallTarget, payload: bytes, buffers: list[Buffer]) -> Answer | None:
        """Make a call and return its answer: see `SerialConnections.ask`."""
        last = self._last
        if last is None or last[0] is not target:
            ask = Ask(0, target.key, target.arguments, target.method, REMOTE, -1)
            last = self._last = target, ask
        return self.ask(last[1], payload, buffers)

    def _run(self, call: SerialCall) -> Answer | None:
        return run_forwarding(call.interrupt, SerialCall.run, call)

    show = staticmethod(show)
