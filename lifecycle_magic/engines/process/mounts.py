"""The volumes that instances mount: folders of this machine, made if they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lifecycle_magic.engines.base import VolumeMount
from lifecycle_magic.engines.process.sandbox import Bind
from lifecycle_magic.engines.process.store import Store
from lifecycle_magic.exception import EngineError
from lifecycle_magic.volume import Volume


def make(store: Store, folder: Path, place: Path, mounts: Sequence[VolumeMount]) -> list[Bind]:
    """Create missing volumes that may be created, and return all, as a sandbox mounts them.

    ``folder`` is the instance's while it is being created, ``place`` its final path. Raises
    `EngineError` for a volume that is missing and may not be created.
    """
    found = []
    for number, mount in enumerate(mounts):
        source = _source(store, number, mount.volume, place)
        if mount.volume.kind == "ephemeral":
            ours = folder / source.relative_to(place)
            ours.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif mount.volume.kind == "named" and mount.volume.create_if_missing:
            (store.folder("volumes") / source.name).mkdir(mode=0o700, exist_ok=True)
        elif not source.is_dir():
            raise EngineError(
                f"the volume {mount.volume} for {mount.path} does not exist. "
                f"Fix: make the folder {source}, or omit create_if_missing=False"
            )
        mode: Literal["ro", "rw"] = "ro" if mount.volume.is_read_only else "rw"
        found.append(Bind(str(source), mount.path, mode))
    return found


def _source(store: Store, number: int, volume: Volume, place: Path) -> Path:
    if volume.kind == "ephemeral":
        return place / "volumes" / str(number)
    if volume.kind == "named":
        return store.place("volumes", str(volume.name))
    return Path(str(volume.path))


def mounted(store: Store) -> set[str]:
    """Return the names of the volumes of running instances."""
    return {name for one in store.instances() if one.keeper.alive() for name in one.volumes}
