"""The test whether a Docker engine shares files with this process, remembered for each engine.

No address shows that: an ssh tunnel is a Unix socket, the engine of Docker Desktop has one too and
lives in a virtual machine, and an engine behind TCP may be on this machine. So a container that is
never started gets a folder of this machine, and its content is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.engines.docker.api import create_container, discard_container
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.names import ROLE
from lifecycle_magic.host.paths import private_folder, state_root

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["are_shared", "can_share_sockets", "forget"]

_PLACE = "/probe"
_FILE = "nonce"


def are_shared(clients: Clients, facts: Facts) -> bool | None:
    """Return whether containers of the engine see the state folder. Raises `EngineError`.

    None while that is unknown, for the engine has no image to try with.
    """
    known = _record(clients, facts)
    with contextlib.suppress(OSError):
        return known.read_text() == "yes"
    with clients.use("look for an image") as api:
        images = api.images(quiet=True)
        if not images:
            return None
    found = _try(clients, str(images[0]))
    with contextlib.suppress(OSError):
        known.write_text("yes" if found else "no")
    return found


def can_share_sockets(facts: Facts) -> bool:
    """Return whether the engine's containers may run on this very Linux.

    Files may be shared with a virtual machine. Sockets never are.
    """
    is_here = facts.kernel in ("", os.uname().release)
    return sys.platform == "linux" and is_here and not facts.desktop


def forget(clients: Clients, facts: Facts) -> None:
    """Forget what is known of an engine: it turned out to be wrong."""
    _record(clients, facts).unlink(missing_ok=True)


def _record(clients: Clients, facts: Facts) -> Path:
    """Return the file that remembers the answer for an engine."""
    return private_folder(state_root() / "engines") / f"shares-{_key(clients, facts)}"


def _key(clients: Clients, facts: Facts) -> str:
    """Return the key of an engine: machines that were cloned have the same engine id."""
    parts = (facts.id, facts.name, clients.location.shown)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _try(clients: Clients, image: str) -> bool:
    nonce = secrets.token_hex(16)
    folder = private_folder(state_root() / "engines" / f"probe-{secrets.token_hex(8)}")
    name = f"lm-probe-{nonce[:12]}"
    try:
        (folder / _FILE).write_text(nonce)
        with clients.use("try whether it shares files") as api:
            return _read(api, image, folder, name) == nonce
    finally:
        discard_container(clients, name)
        (folder / _FILE).unlink(missing_ok=True)
        folder.rmdir()


def _read(api: APIClient, image: str, folder: Path, name: str) -> str:
    """Return what a container finds in the folder, empty if it does not find it."""
    import docker.errors

    mount = {"Type": "bind", "Source": str(folder), "Target": _PLACE, "ReadOnly": True}
    body = {
        "Image": image,
        "Entrypoint": ["never-started"],
        "Labels": {ROLE: "probe"},
        "HostConfig": {"Mounts": [mount]},
    }
    try:
        create_container(api, body, name)
        stream, _ = api.get_archive(name, f"{_PLACE}/{_FILE}")
        data = io.BytesIO(b"".join(stream))
    except docker.errors.APIError:  # no such folder there
        return ""
    with tarfile.open(fileobj=data) as tar:
        member = tar.next()
        file = tar.extractfile(member) if member is not None else None
        return file.read().decode(errors="replace") if file is not None else ""
