"""The engine's API in our words: with types, and where "not there" is an answer, no failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.docker_client import Clients
from lifecycle_magic.exception import EngineError

if TYPE_CHECKING:
    from docker import APIClient


def inspect_image(api: APIClient, reference: str) -> dict[str, Any]:
    """All that the engine says of an image."""
    found: dict[str, Any] = api.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found


def image_id(clients: Clients, reference: str) -> str | None:
    """The id of an image by its name, tag or id; None if the engine has none."""
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
    """Create a container from the body of ``POST /containers/create``; its id."""
    made = api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
    return str(made["Id"])


def remove_container(clients: Clients, container: str) -> None:
    """End a container now and remove it with its anonymous volumes; fine if it is gone."""
    with clients.use(f"kill the container {container[:12]}") as api:
        removed(api.remove_container, container, force=True, v=True)


def discard_container(clients: Clients, container: str) -> None:
    """The same on the way out of a failure, which is to be told rather than one of this."""
    with contextlib.suppress(EngineError):
        remove_container(clients, container)


def removed(remove: Callable[..., Any], what: str, **options: Any) -> bool:
    """Whether ``remove`` removed it; what is gone, in use, or removing itself is not."""
    import docker.errors

    try:
        remove(what, **options)
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):
            raise
        return False
    return True


def epoch(timestamp: str) -> float:
    """Seconds since the epoch of the engine's RFC 3339 times, which have nanoseconds.

    >>> epoch("1970-01-01T00:01:00.123456789Z")
    60.0
    """
    import datetime

    whole = timestamp.partition(".")[0].rstrip("Z")
    return datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
