"""The address of the session that this container belongs to, noted when the container is set up.

`lifecycle_magic.guest.container_connection` connects to it when the first call needs that. Most
containers make none, so this module imports nothing that a connection needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_magic.wire.nested import Invitation

__all__ = ["follow_session", "keep_reachable", "session", "set_session"]

_session: tuple[Invitation | None, str] = (None, "")


def set_session(invitation: Invitation | None, run: str) -> None:
    """Set how calls reach the session. ``run`` is the run folder."""
    global _session
    _session = invitation, run


def session() -> tuple[Invitation | None, str]:
    """Return how calls reach the session, and the run folder, as set by `set_session`."""
    return _session


next_descriptor: int | None = None
"""The socket of the next session, for a process that has no access to the run folder."""


def follow_session(invitation: Invitation | None, run: str) -> None:
    """Set how calls reach the session of another kernel, which has adopted this container."""
    import sys

    global next_descriptor
    fd, next_descriptor = next_descriptor, None
    if fd is not None and invitation is not None and invitation.address.startswith("unix:"):
        invitation = invitation._replace(address=f"unix:/proc/self/fd/{fd}")
    set_session(invitation, run)
    used = sys.modules.get("lifecycle_magic.guest.container_connection")
    if used is not None:
        used.forget_session()


def keep_reachable() -> None:
    """Hold the session's socket by a descriptor, before this process becomes another user.

    That user has no access to the run folder, so it could not connect by the socket's path.
    """
    import os
    import sys

    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    invitation, run = _session
    if invitation is not None and invitation.address.startswith("unix:"):
        path = os.path.join(run, invitation.address.partition(":")[2])
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # there is none: the first call reports it
        set_session(invitation._replace(address=f"unix:/proc/self/fd/{fd}"), run)
