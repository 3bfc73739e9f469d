"""Settings of the kernel's machine for the worker of a Docker container, and the worker's user.

A container shares nothing of its machine by itself. Ordinary code should not notice, so proxies,
time zone and umask travel with the class. They are in no image and in no configuration of a
container, for a proxy's URL may hold a password.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from lifecycle_magic.engines import host_settings
from lifecycle_magic.engines.base import Launch
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.wire.host_settings import HOST, Account, HostSettings

ROOTS = ("", "0", "root", "0:0", "root:root", "0:root", "root:0")
"""How an image's ``USER`` is written if it is root."""


def owns_files(launch: Launch, facts: Facts) -> bool:
    """Return whether the worker has to be the kernel's user, for files in a folder of the host.

    A rootless engine's root is its user already, and Docker Desktop hands files over by itself.
    """
    if sys.platform != "linux" or facts.desktop or facts.secured_by("rootless"):
        return False
    return os.geteuid() != 0 and any(mount.volume.kind == "path" for mount in launch.mounts)


def of(
    launch: Launch, facts: Facts, user: str, env: Mapping[str, str], *, hook: bool
) -> tuple[HostSettings, tuple[str, ...]]:
    """Return what the worker of ``launch`` takes over, and what the card has to say of it.

    ``user`` is the image's ``USER``, ``env`` what the class sets; ``hook`` is for a build hook.
    """
    notices: list[str] = []
    account = _account(launch, facts, user, notices, hook=hook)
    proxies = {} if launch.block_network else host_settings.proxies(os.environ)
    notices += _loopback(proxies)
    files = [mount.path for mount in launch.mounts if mount.volume.kind != "path"]
    settings = HostSettings(
        env=proxies | host_settings.breakpoints(os.environ),
        # Another user has to read what a build hook leaves in the image.
        umask=None if hook and user not in ROOTS else host_settings.umask(),
        zone=host_settings.zone(os.environ, env.get("TZ")),
        account=account,
        folders=tuple(files),
    )
    return settings, tuple(notices)


def of_build() -> tuple[dict[str, str], list[str]]:
    """Return the proxies for a build's commands, and notices about those withheld.

    They are the engine's predefined build arguments: part of no layer, history or cache key. But
    every user of the engine sees them while the build runs, so one with a password is withheld.
    """
    found: dict[str, str] = {}
    notices = []
    for name, value in host_settings.proxies(os.environ).items():
        if name.lower() == "all_proxy":
            continue  # not predefined: it would stay in the image's history
        if name.lower() == "no_proxy":
            found[name] = value
        elif host_settings.has_password(value):
            notices.append(
                f"{name} holds a password and is not given to this command: the engine would show "
                "it. Fix: set one without a password, or do the step in a @build hook"
            )
        elif not host_settings.on_loopback(value):
            found[name] = value
    return found, notices


def _account(
    launch: Launch, facts: Facts, user: str, notices: list[str], *, hook: bool
) -> Account | None:
    honoured = Account(user, hook=hook) if user not in ROOTS else None
    if hook or not owns_files(launch, facts):
        return honoured
    owner = f"{os.geteuid()}:{os.getegid()}"
    if honoured is not None:
        path = next(mount.path for mount in launch.mounts if mount.volume.kind == "path")
        notices.append(
            f"methods run as this kernel's user ({owner}), the owner of the volume at {path}, and "
            f"not as the image's USER {user}"
        )
    return Account(owner, login=_login(), keeps_rights=True)


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _loopback(proxies: Mapping[str, str]) -> list[str]:
    """Report proxies that listen where no container reaches them."""
    names = [name for name, value in proxies.items() if host_settings.on_loopback(value)]
    names = [name for name in names if name.lower() != "no_proxy"]
    if not names:
        return []
    return [
        f"{', '.join(names)}: this proxy is on this machine's loopback address, where no container "
        "reaches it. Fix: have the proxy listen on the engine's bridge as well (ip addr show "
        f"docker0), and set {names[0]} to http://{HOST}:PORT"
    ]
