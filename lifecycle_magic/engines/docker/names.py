"""The names of this package's objects on a Docker engine: labels, image tags, volumes."""

from __future__ import annotations

from lifecycle_magic.engines.base import LABEL, VolumeMount
from lifecycle_magic.exception import EngineError

ROLE = f"{LABEL}.role"
"""The label of all objects of this package: ``container``, ``probe``, ``image`` or ``volume``."""
FORCED = f"{LABEL}.forced"
"""The label of an image whose base was marked with force_build."""
VOLUME_PREFIX = "lifecycle-magic-"

_REPOSITORY = "lifecycle-magic"


def tag(key: str) -> str:
    """Return the name under which the engine keeps the image with this key."""
    return f"{_REPOSITORY}:{key[:40]}"


def short_name(image: str) -> str:
    """Return an image's name without the registry that Podman puts in front of it.

    >>> short_name("docker.io/library/lifecycle-magic:1f2e"), short_name("ghcr.io/me/it:1")
    ('lifecycle-magic:1f2e', 'ghcr.io/me/it:1')
    """
    return image.removeprefix("docker.io/library/").removeprefix("localhost/")


def volume_name(mount: VolumeMount) -> str:
    """Return the engine's name of a named volume; raises `EngineError` if the volume has no
    name.
    """
    if mount.volume.name is None:
        raise EngineError(f"the volume at {mount.path} has no name")
    return VOLUME_PREFIX + mount.volume.name
