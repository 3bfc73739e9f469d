"""The guest as config objects of a swarm, which every node has before a container starts."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.engines.base import LABEL
from lifecycle_magic.engines.docker.names import ROLE
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host.paths import state_root

if TYPE_CHECKING:
    from lifecycle_magic.engines.docker.client import Clients

__all__ = ["STATE", "ConfigPart", "GuestConfigs", "state_key"]

PART_BYTES = 480 << 10
"""Bytes of one object. Docker 20.10 takes 500 KB."""

MAX_PARTS = 4
"""A larger guest travels over the connection, with each container anew."""

STATE = f"{LABEL}.state"


class ConfigPart(NamedTuple):
    """A config object."""

    id: str
    name: str


class GuestConfigs:
    """The config objects of this state folder's guests in the swarm of ``clients``."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._made: dict[Path, tuple[ConfigPart, ...]] = {}

    def ensure(self, api: Any, guest: Path) -> tuple[ConfigPart, ...]:
        """Return the objects that hold the packed ``guest``, none if it is too large for them."""
        if guest not in self._made:
            data = guest.read_bytes()
            digest = hashlib.sha256(data).hexdigest()[:24]
            parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
            if len(parts) > MAX_PARTS:
                return ()
            names = [f"lm-guest-{state_key()}-{digest}-{n}" for n in range(len(parts))]
            self._made[guest] = tuple(map(lambda n, part: _make(api, n, part), names, parts))
        return self._made[guest]

    def forget(self) -> None:
        """Make them again when they are asked for: another program removed one."""
        self._made.clear()

    def remove_unused(self) -> list[str]:
        """Remove those of this state folder that no service uses; return their names."""
        import docker.errors

        self.forget()
        removed = []
        with self._clients.use("remove configs of the swarm") as client:
            api: Any = client
            filters = {"label": [f"{ROLE}=guest", f"{STATE}={state_key()}"]}
            for one in api.configs(filters=filters):
                # In use, or removed by another session.
                with contextlib.suppress(docker.errors.APIError):
                    api.remove_config(one["ID"])
                    removed.append(f"config {one['Spec']['Name']}")
        return removed


def _make(api: Any, name: str, data: bytes) -> ConfigPart:
    import docker.errors

    labels = {ROLE: "guest", STATE: state_key()}
    try:
        made = api.create_config(name, data, labels)
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        for one in api.configs(filters={"name": name}):
            if one["Spec"]["Name"] == name:
                return ConfigPart(one["ID"], name)
        raise EngineError(f"the config {name} of the swarm was removed meanwhile") from None
    return ConfigPart(made["ID"], name)


def state_key() -> str:
    """Return the key of this state folder: two users of one swarm have their own objects."""
    return hashlib.sha256(f"{socket.gethostname()}\0{state_root()}".encode()).hexdigest()[:12]
