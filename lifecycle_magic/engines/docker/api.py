"""The engine's API with types, where "not there" is a result instead of an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.exception import EngineError
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    from docker import APIClient


def inspect_image(api: APIClient, reference: str) -> dict[str, Any]:
    """Return the engine's record of an image."""
    found: dict[str, Any] = api.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found


def image_id(clients: Clients, reference: str) -> str | None:
    """Return the id of an image by its name, tag or id; None if the engine has none."""
    import docker.errors

    with clients.use(f"look for {reference}") as api:
        try:
            return str(inspect_image(api, reference)["Id"])
        except docker.errors.NotFound:
            return None


def tag_image(api: APIClient, image: str, name: str) -> None:
    """Have the engine keep an image under ``name``, a repository and a tag."""
    repository, _, tag = name.partition(":")
    api.tag(image, repository, tag)


def create_container(api: APIClient, body: dict[str, Any], name: str | None = None) -> str:
    """Create a container from the body of ``POST /containers/create``; return its id.

    An interrupt waits until it is created: otherwise the engine would still create it, and its
    removal by name would be too early.
    """
    with deferred():
        made = api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
    return str(made["Id"])


def remove_container(clients: Clients, container: str) -> None:
    """Kill a container and remove it with its anonymous volumes; do nothing if it does not
    exist.
    """
    with clients.use(f"kill the container {container[:12]}") as api:
        removed(api.remove_container, container, force=True, v=True)


def discard_container(clients: Clients, container: str) -> None:
    """Remove a container while another error is raised, and hide failures of the removal."""
    with contextlib.suppress(EngineError):
        remove_container(clients, container)


def removed(remove: Callable[..., Any], what: str, **options: Any) -> bool:
    """Return whether ``remove`` removed it: False if it does not exist or is in use or being
    removed.
    """
    import docker.errors

    try:
        remove(what, **options)
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):
            raise
        return False
    return True


def epoch(timestamp: str) -> float:
    """Return seconds since the epoch of the engine's RFC 3339 times, which have nanoseconds.

    >>> epoch("1970-01-01T00:01:00.123456789Z")
    60.0
    """
    import datetime

    whole = timestamp.partition(".")[0].rstrip("Z")
    return datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
