"""Images and named volumes of this package on a Docker engine: listed, and removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.base import Kept
from lifecycle_magic.engines.docker.api import epoch, removed
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.names import ROLE, VOLUME_PREFIX, short_name, tag

if TYPE_CHECKING:
    from docker import APIClient

BUSY = 30.0  # seconds to wait for an engine that answers somebody else first


def kept(clients: Clients) -> list[Kept]:
    """Return every image and named volume of this package, with its size."""
    with clients.use("list what it keeps") as api:
        containers = api.containers(all=True)
        images = api.images(filters={"label": f"{ROLE}=image"})
        volumes = [one for one in _disk_usage(api)["Volumes"] or () if _is_ours(one)]
    in_use = {one["ImageID"] for one in containers}
    return [*(_image(one, in_use) for one in images), *map(_volume, volumes)]


def prune(clients: Clients, *, keep: frozenset[str], young: float) -> list[str]:
    """Remove our images, but those whose key or id is in ``keep``, and dead containers.

    What is used by a container or is younger than ``young`` seconds stays, and so do volumes.
    Returns what was removed.
    """
    kept = keep | {tag(key) for key in keep}
    pruned: list[str] = []
    with clients.use("remove what is not used") as api:
        for role in ("container", "probe", "image"):
            for one in api.containers(all=True, filters={"label": f"{ROLE}={role}"}):
                # Not by a filter of the engine's: Podman knows no status "dead".
                if one["State"] not in ("created", "exited", "dead"):
                    continue
                old = one["Created"] < time.time() - young
                ours = role != "image" or _is_of_a_build(one)
                if old and ours and removed(api.remove_container, one["Id"], v=True):
                    pruned.append(f"container {one['Names'][0].lstrip('/')}")
        # An image goes only after those built on it, which the listing need not have first.
        while names := _removable(api, kept, young):
            names = [name for name in names if removed(api.remove_image, name)]
            if not names:
                break
            pruned += [f"image {name}" for name in names]
    return pruned


def _is_of_a_build(container: dict[str, Any]) -> bool:
    """Return whether an engine that died in a step of a build left this container.

    It has its label from the image, as one that a user runs from our image has, but its
    image is a layer, which has no name.
    """
    return ":" not in container["Image"].removeprefix("sha256:")


def _removable(api: APIClient, kept: frozenset[str], young: float) -> list[str]:
    names: list[str] = []
    for image in api.images(filters={"label": f"{ROLE}=image"}):
        tags = _tags(image)
        # One without a tag is what a failed build left, or what one has just begun.
        old = image["Created"] <= time.time() - young
        if old and kept.isdisjoint([image["Id"], *tags]):
            names += tags or [image["Id"]]
    return names


def _image(one: dict[str, Any], in_use: set[str]) -> Kept:
    name = next(iter(_tags(one)), one["Id"][:19])
    return Kept("image", name, one["Size"], one["Created"], one["Id"] in in_use)


def _tags(image: dict[str, Any]) -> list[str]:
    """Return the names of an image in a listing, which gives one even to an image without any."""
    return [short_name(tag) for tag in image["RepoTags"] or () if tag != "<none>:<none>"]


def _volume(one: dict[str, Any]) -> Kept:
    usage = one.get("UsageData") or {}
    size = usage.get("Size", -1)
    made = epoch(one["CreatedAt"]) if one.get("CreatedAt") else None
    name = one["Name"].removeprefix(VOLUME_PREFIX)
    return Kept("volume", name, None if size < 0 else size, made, usage.get("RefCount", 0) > 0)


def _is_ours(volume: dict[str, Any]) -> bool:
    """Return whether a volume is a named one of this package: ephemeral ones end with
    containers.
    """
    labelled = (volume.get("Labels") or {}).get(ROLE) == "volume"
    return labelled and bool(volume["Name"].startswith(VOLUME_PREFIX))


def _disk_usage(api: APIClient) -> dict[str, Any]:
    """Return what ``docker system df`` reports. The engine computes it for one caller at a time."""
    import docker.errors

    deadline = time.monotonic() + BUSY
    while True:
        try:
            listed: dict[str, Any] = api.df()
        except docker.errors.APIError as error:
            if "already running" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return listed
