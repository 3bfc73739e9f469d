"""What things of ours are called on a Docker engine: labels, the images' tags, volumes."""

from __future__ import annotations

from lifecycle_magic.engines.base import LABEL, Mount
from lifecycle_magic.exception import EngineError

ROLE = f"{LABEL}.role"
"""The label of everything of ours: ``container``, ``probe``, ``image`` or ``volume``."""
FORCED = f"{LABEL}.forced"
"""The label of an image whose base was marked with force_build."""
VOLUME_PREFIX = "lifecycle-magic-"

_REPOSITORY = "lifecycle-magic"


def tag(key: str) -> str:
    """The name under which the engine keeps the image with this key."""
    return f"{_REPOSITORY}:{key[:40]}"


def volume_name(mount: Mount) -> str:
    """What the engine calls a named volume; raises `EngineError` if the volume has no name."""
    if mount.volume.name is None:
        raise EngineError(f"the volume at {mount.path} has no name")
    return VOLUME_PREFIX + mount.volume.name
