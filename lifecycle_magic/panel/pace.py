"""When the panel may send: who looks, and how long ago something was sent. Pure.

Times are of any one clock, in seconds.
"""

from __future__ import annotations

__all__ = ["BEAT", "INTERVAL", "LEASE", "RENEW", "TICK", "Pace"]

INTERVAL = 0.25
"""Between two updates."""
TICK = 2.0
"""Between two looks at what no event tells of."""
BEAT = 4.0
"""Between two signs of life to whoever looks, when there is nothing else to send."""
LEASE = 30.0
"""For how long one who looks is believed to look on."""
RENEW = 10.0
"""A front end that looks on says so that often: the same as RENEW of js/src/link.ts."""


class Pace:
    """Decides when the next look at the session is due; None is "when somebody looks"."""

    def __init__(self) -> None:
        self.dirty = False  # something happened that an update has to tell
        self._until: dict[str, float] = {}  # client → the end of its lease
        self._looked_at = float("-inf")
        self._held = False

    def see(self, client: str, visible: bool, now: float) -> None:
        """A client shows the panel, still or again, or does not any more."""
        if visible:
            self._until[client] = now + LEASE
            self.dirty = True
        else:
            self._until.pop(client, None)

    def hold(self, held: bool, now: float) -> None:
        """While a cell runs, no lease ends: where there are no subshells, a client that looks on
        can't say so.
        """
        if self._held and not held:
            self._until = {client: max(end, now + LEASE) for client, end in self._until.items()}
        self._held = held

    def looked(self, now: float) -> bool:
        """Whether anybody looks."""
        if not self._held:
            self._until = {client: end for client, end in self._until.items() if end > now}
        return bool(self._until)

    def due(self, now: float) -> float | None:
        """Seconds until the next look; 0 is now."""
        if not self.looked(now):
            return None
        return max(0.0, self._looked_at + (INTERVAL if self.dirty else TICK) - now)

    def began(self, now: float) -> None:
        """A look begins: what happens from now on is for the next one."""
        self.dirty = False
        self._looked_at = now
