"""Which session serves a name, and the connections to those that are used."""

from __future__ import annotations

import difflib
import os
import threading
import time

from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.host.served_names import Served, living, newest
from lifecycle_magic.named.reach import Name
from lifecycle_magic.peers.connection import PeerConnection, Unreachable, connect

__all__ = ["Sessions", "sessions"]

_END_SECONDS = 2.0
"""Seconds in which the process of a session ends whose socket has ended: it frees its memory."""


class Sessions:
    """The sessions that this process calls. Safe from any thread."""

    def __init__(self) -> None:
        self._bound: dict[Name, PeerConnection] = {}
        self._open: dict[str, PeerConnection] = {}  # by session
        self._lock = threading.Lock()

    def reach(self, name: Name) -> tuple[PeerConnection, str]:
        """Return the connection to the session that serves ``name``, and the key of the class
        there.

        The session stays the same one until it ends or is replaced. Raises `NotFoundError` if no
        session serves it, `InvalidError` if several do.
        """
        used = self._bound.get(name)
        if used is None or used.is_closed or used.is_left:
            with self._lock:
                used = self._bound[name] = self._connect_to_one(name, used)
        return used, str(name)

    def _connect_to_one(self, name: Name, before: PeerConnection | None) -> PeerConnection:
        while True:
            served = _the_one(name, before)
            try:
                return self._connect(served)
            except Unreachable:
                if not _ends(served):
                    raise

    def forget(self, name: Name) -> None:
        """Look ``name`` up again at its next use."""
        self._bound.pop(name, None)

    def of_id(self, session: str) -> PeerConnection | None:
        """Return the connection to the session with this id, None if it does not live."""
        with self._lock:
            folder = state_root() / "run" / session
            served = Served.read(folder)
            if served is None or not served.owner.alive():
                return None
            try:
                return self._connect(served)
            except Unreachable:
                if _ends(served):
                    return None
                raise

    def _connect(self, served: Served) -> PeerConnection:
        known = self._open.get(served.session)
        if known is None or known.is_closed or known.is_left:
            known = self._open[served.session] = connect(served)
        return known

    def forget_all_in_child(self) -> None:
        """Drop the connections, which a forked child must not use."""
        self._bound, self._open, self._lock = {}, {}, threading.Lock()


def _ends(served: Served) -> bool:
    """Return whether a session that does not answer has ended, or does so in a moment."""
    deadline = time.monotonic() + _END_SECONDS
    while (found := Served.read(served.folder)) is not None and found.owner.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_END_SECONDS / 200)
    return True


def _the_one(name: Name, before: PeerConnection | None) -> Served:
    root = state_root()
    others = [one for one in living(root) if one.owner.pid != os.getpid()]
    found = newest([one for one in others if one.serves(*name)])
    if not found:
        raise NotFoundError(_missing(name, before, others))
    if len(found) > 1:
        listed = "\n".join(f"  {one.who}" for one in found)
        raise InvalidError(
            f"{len(found)} sessions serve {name}:\n{listed}\n"
            "Fix: stop all but one of them, or give their apps different names"
        )
    return found[0]


def _missing(name: Name, before: PeerConnection | None, others: list[Served]) -> str:
    fix = (
        f'Fix: run the notebook or script with lm.App("{name.app}") that declares {name.name}, '
        "or keep it running with: lifecycle-magic deploy script.py"
    )
    if before is not None:
        return f"{name}: {before.end}, and no other session serves it. {fix}"
    names = sorted(
        {f"{app}/{one}" for s in others for app, inner in s.names.items() for one in inner}
    )
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        hint = f"; did you mean {near[0]}?"
    else:
        hint = f"; what is served: {', '.join(names[:20])}." if names else "."
    return f"no session of this user serves {name}{hint} {fix}"


sessions = Sessions()
"""Those of this process."""

os.register_at_fork(after_in_child=lambda: sessions.forget_all_in_child())
