"""A registry as a service of the swarm, for users who have none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.docker.client import message_of
from lifecycle_magic.engines.swarm.registry import VARIABLE
from lifecycle_magic.engines.swarm.services import Task
from lifecycle_magic.exception import EngineError

if TYPE_CHECKING:
    from lifecycle_magic.engines.docker.client import Clients

__all__ = ["IMAGE", "NAME", "PORT", "start", "stop"]

NAME = "lifecycle-magic-registry"
"""The name of the service, and of the volume with its images."""

IMAGE = "registry:2"
PORT = 5000

_LISTENS_AT = 5000
"""The port that a registry's image listens at."""


def start(
    clients: Clients, image: str, port: int, *, manager: str, one_node: bool, timeout: float
) -> None:
    """Start the registry on the ``manager`` node, and wait until it runs.

    Every node then reaches it at ``port`` of its own; with ``one_node`` only the manager listens.
    Raises `EngineError` if there is one already, and with Swarm's reason if it does not run within
    ``timeout`` seconds; then nothing of it stays.
    """
    import docker.errors

    with clients.use("start a registry") as client:
        api: Any = client
        try:
            api.create_service(**_spec(image, port, manager, "host" if one_node else "ingress"))
        except docker.errors.APIError as error:
            if error.status_code != 409 or "name" not in message_of(error):
                raise
            raise EngineError(
                f"the swarm has a service {NAME}. Fix: use it ({VARIABLE}), or remove it with "
                "`lifecycle-magic swarm registry --remove`"
            ) from None
        try:
            _wait(api, time.monotonic() + timeout)
        except BaseException:
            api.remove_service(NAME)
            raise


def stop(clients: Clients) -> None:
    """Remove the registry's service. Its images stay in its volume. Raises `EngineError`."""
    import docker.errors

    with clients.use("remove the registry") as api:
        try:
            api.remove_service(NAME)  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            raise EngineError(f"the swarm has no service {NAME}: nothing was removed") from None


def _spec(image: str, port: int, manager: str, mode: str) -> dict[str, Any]:
    from docker.types import ContainerSpec, EndpointSpec, Mount, Placement, TaskTemplate

    container = ContainerSpec(
        image,
        env=["REGISTRY_STORAGE_DELETE_ENABLED=true"],  # `prune` deletes
        mounts=[Mount("/var/lib/registry", NAME)],
    )
    placement = Placement(constraints=[f"node.id=={manager}"])  # where its volume is
    published: Any = {port: (_LISTENS_AT, "tcp", mode)}
    return {
        "name": NAME,
        "task_template": TaskTemplate(container, placement=placement),
        "endpoint_spec": EndpointSpec(ports=published),
    }


def _wait(api: Any, deadline: float) -> None:
    said = ""
    while time.monotonic() < deadline:
        tasks = [Task.of(one, {}) for one in api.tasks(filters={"service": NAME})]
        if any(task.state == "running" for task in tasks):
            return
        said = next((task.note for task in tasks if task.note), said)
        if failed := [task.note for task in tasks if task.state in ("rejected", "failed")]:
            raise EngineError(f"the registry does not start: {failed[0] or 'it exited'}")
        time.sleep(0.1)
    raise EngineError(f"the registry did not start in time: {said or 'Swarm gives no reason'}")
