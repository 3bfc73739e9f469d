"""The way from this process to a class by the names of its app and its own.

A container asks its session, which knows what it serves itself and passes other calls on. Other
processes have a `Route` of their own: `lifecycle_magic.session.route` sets it.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.guest import container_connection
from lifecycle_magic.guest.session_connection import SessionConnection
from lifecycle_magic.wire.nested import BY_NAME

__all__ = [
    "Name",
    "Route",
    "forget",
    "kept_here",
    "note_names",
    "own",
    "reach",
    "reach_session",
    "set_route",
]


class Name(NamedTuple):
    """The name of a class or function: that of its app and its own."""

    app: str
    name: str

    def __str__(self) -> str:
        return f"{self.app}/{self.name}"


class Route(Protocol):
    """The way from a process that is no container to other sessions."""

    def own(self, name: Name) -> Any:
        """Return this process's own class handle of that name, or None."""

    def reach(self, name: Name) -> tuple[SessionConnection, str]:
        """Return the connection to the session that serves ``name``, and the class's key there.

        Raises `NotFoundError` if no session serves it, `InvalidError` if several do.
        """

    def forget(self, name: Name) -> None:
        """Look ``name`` up again at its next use."""

    def reach_session(self, session: str) -> SessionConnection | None:
        """Return the connection to the session with this id, None if it does not live."""

    def kept_here(self, session: str, id: str) -> tuple[Future[Any], str] | None:
        """Return a call that this process's own session keeps: its future and its name.

        None if the session is another one. Raises `NotFoundError` if it does not keep the call.
        """


_route: Route | None = None
_has_names = False  # whether this process has given a class a name


def note_names() -> None:
    """Note that this process may serve classes by name itself."""
    global _has_names
    _has_names = True


def set_route(route: Route) -> None:
    """Set how this process reaches sessions."""
    global _route
    _route = route


def _found_route() -> Route:
    if _route is None:
        # By name: what travels into containers imports nothing that stays outside.
        from importlib import import_module

        import_module("lifecycle_magic.session.route")
    assert _route is not None
    return _route


def own(name: Name) -> Any:
    """Return the handle of a class or function that this process itself serves, or None."""
    if not _has_names:  # on the path of each call
        return None
    return _found_route().own(name) if is_local() else None


def forget(name: Name) -> None:
    """Look ``name`` up again at its next use, because its session does not serve it any more."""
    if is_local():
        _found_route().forget(name)


def reach_session(session: str) -> SessionConnection | None:
    """Return the connection over which a session is reached by its id, None if it has ended."""
    if is_local():
        return _found_route().reach_session(session)
    return reach(Name("", ""))[0]


def kept_here(session: str, id: str) -> tuple[Future[Any], str] | None:
    """Return a call that this process's own session keeps, None if it runs elsewhere."""
    return _found_route().kept_here(session, id) if is_local() else None


def reach(name: Name) -> tuple[SessionConnection, str]:
    """Return the connection over which ``name`` is called, and its key there."""
    if is_local():
        return _found_route().reach(name)
    return container_connection.connection(), f"{BY_NAME}{name}"
