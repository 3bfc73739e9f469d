"""The claim of a call for one slot, which is all that a pool knows of calls."""

from __future__ import annotations

from typing import Protocol

from lifecycle_magic.container.slots import RunningInput, Slot

__all__ = ["BlockingClaim", "Claim"]


class Claim(RunningInput, Protocol):
    """A claim for a slot, which a pool grants or refuses once for each `Pool.submit`.

    ``displaces_maps``: a map, which holds slots for many inputs, releases one for this claim.
    ``blocks_thread``: a thread waits for it in `Pool.lease`. `granted` and `refused` are then
    called under the pool's lock, and may only wake that thread.
    """

    displaces_maps: bool
    blocks_thread: bool

    def granted(self, slot: Slot) -> None:
        """Take over ``slot``, which runs this claim until `Pool.release`. On any thread."""

    def refused(self, error: BaseException) -> None:
        """Fail with ``error``, because no container starts. On any thread."""


class BlockingClaim(Claim, Protocol):
    """A claim whose thread waits for the slot, until an interrupt ends the wait.

    ``error`` is what it was refused with.
    """

    error: BaseException | None

    @property
    def where(self) -> str: ...

    def close_gate(self) -> None:
        """Prepare for `wait`. Raises `InputCancelled` if this claim was interrupted before."""

    def wait(self) -> None:
        """Block until the claim is granted or refused, or its thread is interrupted."""

    def not_started_error(self) -> BaseException:
        """Return the error for a claim that was interrupted before it had a slot."""
