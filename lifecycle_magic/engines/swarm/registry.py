"""Images on their way to the nodes: pushed once to a registry, and pulled by their digest."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.docker.api import image_id, inspect_image
from lifecycle_magic.engines.swarm import pushed_images
from lifecycle_magic.exception import EngineError

if TYPE_CHECKING:
    from lifecycle_magic.engines.docker.client import Clients

__all__ = ["VARIABLE", "Registry"]

VARIABLE = "LIFECYCLE_MAGIC_REGISTRY"
_NAME = "lifecycle-magic"


class Registry:
    """The registry that ``LIFECYCLE_MAGIC_REGISTRY`` names, as the manager's engine reaches it."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._pushed: dict[tuple[str, str], str] = {}

    def reference(self, image: str, nodes: int) -> str:
        """Return the name by which every node gets the image with this id.

        It is pushed unless the registry has it. Raises `EngineError` if that fails, and if there
        is no registry and more than one node.
        """
        repository = _repository()
        if not repository:
            if nodes > 1:
                raise EngineError(
                    f"the {nodes} nodes of the swarm get a class's image from a registry, and none "
                    f"is named. Fix: set {VARIABLE} to one that all nodes reach, as in "
                    f"{VARIABLE}=registry.example.org:5000/classes; `lifecycle-magic swarm "
                    f"registry` starts one in the swarm, for {VARIABLE}=127.0.0.1:5000"
                )
            return image
        key = repository, image
        with self._lock:  # a class's containers start at once, and one pushes
            if key not in self._pushed:
                self._pushed[key] = self._push(image, repository)
            return self._pushed[key]

    def forget(self, reference: str) -> None:
        """Push this image again when it is asked for: a node did not find it."""
        with self._lock:
            self._pushed = {key: one for key, one in self._pushed.items() if one != reference}

    def _push(self, image: str, repository: str) -> str:
        with self._clients.use(f"push the image {image[7:19]} to {repository}") as api:
            for known in inspect_image(api, image).get("RepoDigests") or ():
                if known.startswith(f"{repository}@") and _has(api, known):
                    return str(known)
            tag = image.partition(":")[2][:40]
            name = f"{repository}:{tag}"
            api.tag(image, repository, tag)
            digest = _digest_of_push(api.push(name, stream=True, decode=True), name)
            reference = f"{repository}@{digest}"
            pushed_images.note(image, reference)
            return reference

    def remove_unused(self) -> list[str]:
        """Remove what was pushed from here and is no image of the engine any more.

        Return what was removed, and what could not be, with the reason.
        """
        with self._lock:
            self._pushed.clear()
            return pushed_images.remove_unused(
                lambda image: image_id(self._clients, image) is not None
            )


def _repository() -> str:
    """Return the repository for images, empty if no registry is named."""
    given = os.environ.get(VARIABLE, "").strip().rstrip("/").removeprefix("https://")
    if not given:
        return ""
    return given if "/" in given else f"{given}/{_NAME}"


def _has(api: Any, reference: str) -> bool:
    import docker.errors

    try:
        api.inspect_distribution(reference)
    except docker.errors.APIError:
        return False
    return True


def _digest_of_push(stream: Any, name: str) -> str:
    for line in stream:
        if error := line.get("error"):
            raise EngineError(
                f"the image could not be pushed as {name}: {error}. Fix: check {VARIABLE}, that "
                "the registry runs, and `docker login` if it asks for a password; a registry "
                "without TLS has to be in insecure-registries of every node's daemon.json"
            )
        if digest := (line.get("aux") or {}).get("Digest"):
            return str(digest)
    raise EngineError(f"the registry reported no digest of {name}")
