"""The pace of panel updates: which clients show the panel, and when an update is due.

This module is pure: callers pass the time, in seconds of any one clock.
"""

from __future__ import annotations

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "POLL_SECONDS",
    "RENEW_SECONDS",
    "UPDATE_SECONDS",
    "Pace",
]

UPDATE_SECONDS = 0.25
"""Least time between two updates."""
POLL_SECONDS = 2.0
"""Time between two reads of facts for which there are no events."""
BEAT_SECONDS = 4.0
"""Time between two heartbeats when there is nothing else to send."""
LEASE_SECONDS = 30.0
"""How long a client counts as visible without renewing."""
RENEW_SECONDS = 10.0
"""How often a visible front end renews its lease: RENEW of js/src/link.ts."""


class Pace:
    """The schedule of updates: when the next one is due, and for which clients."""

    def __init__(self) -> None:
        self.dirty = False  # a change was not sent yet
        self._until: dict[str, float] = {}  # client → the end of its lease
        self._looked_at = float("-inf")
        self._held = False

    def see(self, client: str, visible: bool, now: float) -> None:
        """Record that a client shows the panel, or no longer shows it."""
        if visible:
            self._until[client] = now + LEASE_SECONDS
            self.dirty = True
        else:
            self._until.pop(client, None)

    def hold(self, held: bool, now: float) -> None:
        """Keep all leases while a cell runs: without subshells, a client can't renew meanwhile."""
        if self._held and not held:
            least = now + LEASE_SECONDS
            self._until = {client: max(end, least) for client, end in self._until.items()}
        elif held and not self._held:
            self._until = {client: end for client, end in self._until.items() if end > now}
        self._held = held

    def is_watched(self, now: float) -> bool:
        """Return whether any client shows the panel."""
        if self._held:
            return bool(self._until)
        return any(end > now for end in self._until.values())

    def due(self, now: float) -> float | None:
        """Return the seconds until the next update, 0 for now, None without a visible client."""
        if not self.is_watched(now):
            return None
        return max(0.0, self._looked_at + (UPDATE_SECONDS if self.dirty else POLL_SECONDS) - now)

    def start_update(self, now: float) -> None:
        """Record that an update begins; later changes belong to the next update."""
        self.dirty = False
        self._looked_at = now
        if not self._held:
            self._until = {client: end for client, end in self._until.items() if end > now}
