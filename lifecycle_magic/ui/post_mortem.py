"""``%debug`` and ``%lifecycle debug``: a debugger on the frames that a container keeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from lifecycle_magic.callers.tracebacks import FRAMES
from lifecycle_magic.calls import post_mortem
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.session import session

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.session.session import Session

__all__ = ["debug_last", "debug_newest"]

_NONE = (
    "no container keeps the frames of an exception. They are kept in notebooks, without "
    "drop_frames=True, until the next call in that container. Fix: make the call that fails"
)

_GONE = (
    "the frames of this exception are not kept any more: another call ran in the container, its "
    "code changed, or it has ended. Fix: make the call again that failed"
)


def debug_newest(current: Session, containers: Sequence[Container]) -> None:
    """Debug the newest exception of these containers, until the user leaves the debugger.

    Raises `InvalidError` if none of them keeps frames.
    """
    keeping = [one for one in containers if one.kept_frames is not None]
    if not keeping:
        raise InvalidError(_NONE)
    newest = max(keeping, key=lambda one: one.kept_frames.at if one.kept_frames else 0.0)
    _debug(current, newest)


def _debug(current: Session, container: Container) -> None:
    pool, kept = _pool_of(current, container), container.kept_frames
    if pool is None or kept is None:
        raise InvalidError(_NONE)
    post_mortem.debug(pool, container, kept.id)


def _pool_of(current: Session, container: Container) -> Pool | None:
    pools = [pool for one in list(current.services.values()) for pool in list(one.pools.values())]
    return next((pool for pool in pools if container in pool.containers), None)


# --- %debug ---------------------------------------------------------------------------------------


def debug_last() -> bool:
    """Debug the last exception in its container. Return False if its frames are not kept."""
    id = _frames_of(getattr(sys, "last_traceback", None))
    current = session.opened()
    if not id or current is None:
        return False
    for container in current.containers():
        if container.kept_frames is not None and container.kept_frames.id == id:
            try:
                _debug(current, container)
            except InvalidError as error:
                print(error, file=sys.stderr)
                return False
            return True
    print(_GONE, file=sys.stderr)
    return False


def _frames_of(trace: TracebackType | None) -> str:
    """Return the id of the kept frames of a remote exception, or an empty string."""
    found = ""
    while trace is not None:
        found = trace.tb_frame.f_globals.get(FRAMES) or found
        trace = trace.tb_next
    return str(found)
