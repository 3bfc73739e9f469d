"""Images of an engine on which other tests make and remove theirs at the same time.

`docker.models.images` looks at each image that it has listed, and fails when one is gone by then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.errors
import pytest

from lifecycle_magic.engines.docker import api, kept


def ids(client: docker.DockerClient, *, all: bool = False, **filters: Any) -> set[str]:
    """The ids of the images that these filters of the engine's find."""
    return {one["Id"] for one in client.api.images(all=all, filters=filters)}


def remove(client: docker.DockerClient, id_: str) -> None:
    """Remove it with all of its names, if it can be."""
    with contextlib.suppress(docker.errors.APIError):
        client.images.remove(id_, force=True)


def is_made_by(client: docker.DockerClient, id_: str, marks: list[str]) -> bool:
    """Whether it has one of the marks in a command that it was made with; not if it is gone."""
    with contextlib.suppress(docker.errors.APIError):
        commands = " ".join(layer["CreatedBy"] for layer in client.api.history(id_))
        return any(mark in commands for mark in marks)
    return False


def remove_made_by(client: docker.DockerClient, marks: list[str], **filters: Any) -> None:
    """Remove those that have one of the marks in a command that they were made with."""
    for id_ in ids(client, **filters):
        if is_made_by(client, id_, marks):
            remove(client, id_)


@contextlib.contextmanager
def removing_only(is_ours: Callable[[str], bool]) -> Iterator[None]:
    """Let `prune` remove nothing but images and volumes for whose id or name ``is_ours`` holds.

    What it finds and how it removes are unchanged. Other tests make images and containers on
    the same engine at any time, also between a listing and a removal.
    """

    def guarded(remove: Callable[..., Any], what: str, **options: Any) -> bool:
        return is_ours(what) and api.removed(remove, what, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "removed", guarded)
        yield
