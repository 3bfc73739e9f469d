"""Commits of a container's files as an image: what is included, and what of the container is not.

The engine's own commit includes the container's labels and variables, and excludes what was written
below a ``VOLUME`` of the image. Both are corrected here. Podman 4 ignores the configuration that a
commit is given, and follows instructions of a Dockerfile.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.docker import build_context, progress
from lifecycle_magic.engines.docker.api import inspect_image, removed, tag_image
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.names import ROLE, tag
from lifecycle_magic.exception import EngineError
from lifecycle_magic.images.instructions import unpacked

if TYPE_CHECKING:
    from docker import APIClient

_PODMANS_OWN = frozenset({"HOME", "HOSTNAME", "TERM", "container"})
"""Variables that Podman sets in each container, whatever the image says of them."""


def commit(clients: Clients, container: str, key: str) -> str:
    """Keep the files of a running container as an image under ``key``; return its id.

    What starts in it, its user and its variables are those of the image that the container
    was made from. What was mounted is no part of it, but for what lies below a ``VOLUME`` of
    the image: that is where containers of the new image find it again.
    """
    with clients.use("keep the container's files as an image") as api:
        made = api.inspect_container(container)
        parent = inspect_image(api, made["Image"])["Config"]
        config = _config(made["Config"], parent)
        volumes = _own_volumes(made)
        # The engine names it in the same step: an interrupt leaves no image without a name. What
        # volumes are laid over is named for itself until then, so that a failure can remove it.
        repository, _, label = tag(key).partition(":")
        bare = f"{label}-bare" if volumes else label
        try:
            given: dict[str, Any] = {"conf": config}
            if clients.version.is_podman:
                given = {"changes": changes(made["Config"], config)}
            committed = _commit(api, container, repository, bare, given)
            if not committed.startswith("sha256:"):  # Podman's
                committed = f"sha256:{committed}"
            if not volumes:
                return committed
            found = _with_volumes(api, container, volumes, committed, tag(key))
            if found is None:
                tag_image(api, committed, tag(key))
            return found or committed
        finally:
            if volumes:
                _forget(clients, f"{repository}:{bare}")


def _commit(
    api: APIClient, container: str, repository: str, name: str, given: dict[str, Any]
) -> str:
    """Commit a container that is paused meanwhile, where the engine can do that; return the id."""
    import docker.errors

    try:
        return str(api.commit(container, repository, name, **given)["Id"])
    except docker.errors.APIError as error:
        # Podman without root and with version 1 of control groups. A hook has returned by now.
        if "can not pause" not in str(error.explanation):
            raise
        return str(api.commit(container, repository, name, pause=False, **given)["Id"])


def _forget(clients: Clients, name: str) -> None:
    """Take a name from an image, which is removed if it has no other and nothing is built on it."""
    with contextlib.suppress(EngineError), clients.use("remove what is not needed") as api:
        removed(api.remove_image, name)


def _config(container: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``Config`` to commit a container with, for an image like the container's
    ``parent``.

    The engine adds missing values from the container's configuration. So values that belong to the
    container alone, labels and variables, can't be omitted, only emptied.
    """
    kept = parent.get("Env") or []
    known = {variable.partition("=")[0] for variable in kept}
    own = {variable.partition("=")[0] for variable in container.get("Env") or ()} - known
    labels = dict.fromkeys(container.get("Labels") or {}, "")
    return {
        "Cmd": parent.get("Cmd") or [],
        "Entrypoint": parent.get("Entrypoint") or [],
        "User": parent.get("User") or "",
        "Env": [*kept, *(f"{variable}=" for variable in sorted(own))],
        "Labels": {**labels, **(parent.get("Labels") or {}), ROLE: "image"},
    }


def changes(container: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return the instructions with which Podman commits a ``container`` under ``config``.

    Without them what it commits starts what the container started, as the container's user.
    Variables and labels that are the same are not named: Podman takes quotes from values.

    >>> changes({}, {"Cmd": ["sh"], "Entrypoint": [], "User": "", "Env": [], "Labels": {"c": ""}})
    ['ENTRYPOINT []', 'CMD ["sh"]', 'USER 0', 'LABEL c=']
    """
    variables, labels = container.get("Env") or (), container.get("Labels") or {}
    return [
        f"ENTRYPOINT {json.dumps(config['Entrypoint'])}",
        f"CMD {json.dumps(config['Cmd'])}",
        f"USER {config['User'] or '0'}",  # no user can't be said, and means root
        *(
            f"ENV {one}"
            for one in config["Env"]
            if one not in variables and one.partition("=")[0] not in _PODMANS_OWN
        ),
        *(
            f"LABEL {name}={text}"
            for name, text in config["Labels"].items()
            if labels.get(name) != text
        ),
    ]


def _own_volumes(made: Mapping[str, Any]) -> list[str]:
    """Return where an inspected container has volumes because its image asks for them.

    Every ``VOLUME`` of the image is one, unless something else was mounted there. What is written
    below is no part of a commit.
    """
    host = made["HostConfig"]
    asked = {mount["Target"] for mount in host.get("Mounts") or ()}
    asked |= {bind.split(":")[1] for bind in host.get("Binds") or () if ":" in bind}
    return sorted(
        mount["Destination"]
        for mount in made.get("Mounts") or ()
        if mount["Type"] == "volume" and mount["Destination"] not in asked
    )


def _with_volumes(
    api: APIClient, container: str, paths: list[str], committed: str, name: str
) -> str | None:
    """Lay what a container has at ``paths`` over the image ``committed``, as the image ``name``.

    The id of that image, from which new containers fill their volumes; None if nothing is there.
    A file that the image has and the container removed comes back.
    """
    lines, kept = [f"FROM {committed}"], []
    with contextlib.ExitStack() as stack:
        for number, path in enumerate(paths):
            file = stack.enter_context(tempfile.TemporaryFile())
            for chunk in api.get_archive(container, path)[0]:
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                tar.next()
                if tar.next() is None:  # but for the folder itself it is empty
                    continue
            kept.append((f"volume-{number}.tar", file))
            lines.append(unpacked(kept[-1][0], str(PurePosixPath(path).parent)))
        if not kept:
            return None
        context = stack.enter_context(tempfile.TemporaryFile())
        build_context.of_files("\n".join(lines), kept, context)
        stream = api.build(
            fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True, decode=True
        )
        return progress.follow_build(stream, f"keep what lies in {', '.join(paths)}", None)
