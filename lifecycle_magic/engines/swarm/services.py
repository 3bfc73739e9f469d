"""Services and tasks of a swarm, as its manager lists them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.engines.base import FoundContainer
from lifecycle_magic.engines.docker.api import removed
from lifecycle_magic.engines.docker.names import ROLE
from lifecycle_magic.engines.swarm.guest_configs import STATE, state_key
from lifecycle_magic.exception import EngineUnavailable

if TYPE_CHECKING:
    from lifecycle_magic.engines.swarm.certificates import Authority

__all__ = ["Task", "is_name", "last_task", "list_services", "output", "remove", "require_manager"]

NODES_SECONDS = 5.0
"""Seconds for which what is known of the nodes is taken for true."""

TASK = "com.docker.swarm.task"
"""The label of a container that belongs to a service."""

_ENDED = frozenset({"complete", "failed", "shutdown", "rejected", "orphaned", "remove"})


class Task(NamedTuple):
    """The one task of a service. ``note`` is why it does not run yet, or why it could not."""

    state: str
    node: str
    note: str
    exit_code: int | None

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @classmethod
    def of(cls, answer: Mapping[str, Any], nodes: Mapping[str, str]) -> Task:
        """Return a task as the engine lists it; ``nodes`` are names by ids."""
        status = answer["Status"]
        state = str(status["State"])
        node = nodes.get(answer.get("NodeID") or "", "")
        container = status.get("ContainerStatus") or {}
        note = str(status.get("Err") or "")
        if node and state not in (*_ENDED, "running") and answer.get("DesiredState") == "shutdown":
            state, note = "orphaned", f"{node} was lost before it started"
        if not note and state == "preparing":
            note = f"{node or 'its node'} pulls the image"
        elif not note and state in ("new", "pending"):
            note = "no node was found yet"
        return cls(state, node, note, container.get("ExitCode") if state in _ENDED else None)


def is_name(container: str) -> bool:
    """Return whether this is the name of a service: ids of containers are hexadecimal."""
    return container.startswith("lm-")


def require_manager(swarm: Mapping[str, Any], address: str) -> None:
    """Raise `EngineUnavailable` unless the engine whose ``Swarm`` this is manages a swarm."""
    if swarm.get("ControlAvailable"):
        return
    if swarm.get("LocalNodeState") == "active":
        managers = [one.get("Addr", "") for one in swarm.get("RemoteManagers") or ()]
        hosts = ", ".join(sorted({one.rpartition(":")[0] for one in managers if one}))
        first = hosts.partition(",")[0] or "manager"
        raise EngineUnavailable(
            f"the engine at {address} is a worker of its swarm, and only managers start services. "
            f"Fix: name a manager, as in engine='swarm://{first}:2376'"
            + (f" (managers: {hosts})" if hosts else "")
        )
    raise EngineUnavailable(
        f"the engine at {address} is in no swarm. Fix: docker swarm init there, or name a manager "
        "with engine='swarm://manager:2376'"
    )


def secret_content(authority: Authority, name: str, host: str, port: int, token: str) -> bytes:
    """Return the secret by which a container reaches the kernel and is known to it."""
    content = {
        "host": host,
        "port": port,
        "token": token,
        "authority": authority.pem,
        "identity": authority.identity(name),
    }
    return json.dumps(content).encode()


def list_services(api: Any, nodes: Mapping[str, str]) -> list[FoundContainer]:
    """Return the services of this package, and secrets that a service was never made for."""
    mine = {"label": f"{ROLE}=container"}
    listed = api.services(filters=mine)
    tasks: dict[str, Task] = {}
    for one in sorted(_tasks_of(api, listed), key=lambda task: task["CreatedAt"]):
        tasks[one["ServiceID"]] = Task.of(one, nodes)
    found = []
    here = state_key()
    for one in listed:
        task = tasks.get(one["ID"], Task("new", "", "", None))
        found.append(
            FoundContainer(
                id=one["Spec"]["Name"],
                name=one["Spec"]["Name"],
                labels=one["Spec"].get("Labels") or {},
                running=not task.ended,
                ended=task.ended,
                node=task.node,
                note="" if task.state == "running" else task.note,
                ours=(one["Spec"].get("Labels") or {}).get(STATE) == here,
            )
        )
    names = {one.name for one in found}
    for secret in api.secrets(filters=mine):
        spec = secret["Spec"]
        if spec["Name"] not in names:
            labels = spec.get("Labels") or {}
            ours = labels.get(STATE) == here
            name = spec["Name"]
            found.append(FoundContainer(name, name, labels, running=False, ended=True, ours=ours))
    return found


def _tasks_of(api: Any, services: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tasks of services, of which some may be removed meanwhile."""
    import docker.errors

    ids = {one["ID"] for one in services}
    if not ids:
        return []
    try:
        return list(api.tasks(filters={"service": sorted(ids)}))
    except docker.errors.APIError as error:
        if error.status_code != 404:  # that of one that has gone
            raise
    return [one for one in api.tasks() if one.get("ServiceID") in ids]


def last_task(api: Any, service: str, nodes: Mapping[str, str]) -> Task | None:
    """Return the last task of a service; None if the service was removed."""
    import docker.errors

    try:
        answer = api.tasks(filters={"service": service})
    except docker.errors.APIError as error:
        if error.status_code != 404:
            raise
        return None
    last = max(answer, key=lambda one: one["CreatedAt"], default=None)
    return None if last is None else Task.of(last, nodes)


def output(api: Any, service: str) -> bytes:
    """Return the last lines that a service's container printed to the engine."""
    import docker.errors

    with contextlib.suppress(docker.errors.APIError):
        parts = api.service_logs(service, stdout=True, stderr=True, tail=40, follow=False)
        return b"".join(parts)[-8000:]
    return b""


def remove(api: Any, service: str) -> None:
    """Remove a service and its secret, if they exist."""
    removed(api.remove_service, service)
    removed(api.remove_secret, service)
