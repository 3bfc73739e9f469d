"""Settings that a worker takes over from the kernel's machine before it loads the user's class."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HOST", "MODULES", "Account", "HostSettings", "Zone"]

MODULES = "modules"
"""Name of the folder, in the run folder, of the modules that travel with a class."""

HOST = "host.docker.internal"
"""Host name by which code in a container reaches the machine that its engine runs on."""


class Zone(NamedTuple):
    """A time zone: its name, or a POSIX rule, and the content of its TZif file (RFC 8536).

    ``name`` is empty for a file without a name, ``data`` for a rule. ``chosen`` says that ``TZ``
    was set; otherwise the zone is the machine's own.
    """

    name: str
    data: bytes
    chosen: bool


class Account(NamedTuple):
    """The user that a worker becomes.

    ``user`` is written as an image's ``USER``: ``name``, ``uid``, ``name:group`` or ``uid:gid``.
    ``login`` is the name for a missing entry of ``/etc/passwd``. With ``keeps_rights`` the worker
    and its children can write wherever root can. ``hook`` is for a build hook, which stays root and
    only gets the user's home folder.
    """

    user: str
    login: str = ""
    keeps_rights: bool = False
    hook: bool = False


class HostSettings(NamedTuple):
    """The settings that a worker takes over.

    ``umask`` and ``zone`` are None where they are unknown.

    ``env`` holds variables that the image and the class may override. ``folders`` are mounts that
    the worker's user has to own.
    """

    env: dict[str, str]
    umask: int | None = None
    zone: Zone | None = None
    account: Account | None = None
    folders: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show only the names of variables: the value of a proxy variable may hold a password."""
        names = ", ".join(sorted(self.env))
        return f"HostSettings(env=({names}), umask={self.umask}, account={self.account})"
