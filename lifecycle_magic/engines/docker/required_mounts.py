"""The needs of a container before it is created: volumes, and folders of this machine.

Docker refuses a container whose folder is missing and gives a new volume the labels of its mount.
Podman makes the folder and drops the labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifecycle_magic.engines.base import VolumeMount
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.names import ROLE, volume_name
from lifecycle_magic.exception import EngineError

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["require_folders", "require_volumes"]


def require_volumes(api: APIClient, mounts: Sequence[VolumeMount], facts: Facts) -> None:
    """Raise `EngineError` for a named volume that is missing and may not be created."""
    import docker.errors

    for mount in mounts:
        if mount.volume.kind != "named":
            continue
        if mount.volume.create_if_missing:
            if facts.is_podman:
                api.create_volume(volume_name(mount), labels={ROLE: "volume"})
            continue
        try:
            api.inspect_volume(volume_name(mount))
        except docker.errors.NotFound:
            raise EngineError(
                f"the volume {mount.volume.name!r} for {mount.path} does not exist, and "
                "create_if_missing is False. Fix: check its name, or omit create_if_missing=False"
            ) from None


def require_folders(mounts: Sequence[VolumeMount], facts: Facts) -> None:
    """Raise `EngineError` for a folder of this machine that is missing, where an engine would make
    one.
    """
    if not facts.is_podman:
        return
    for mount in mounts:
        path = mount.volume.path
        if mount.volume.kind == "path" and path is not None and not os.path.exists(path):
            raise EngineError(
                f"bind source path does not exist: {path}, which is the volume at {mount.path}. "
                "Fix: create the folder, or name another with Volume.from_path"
            )
