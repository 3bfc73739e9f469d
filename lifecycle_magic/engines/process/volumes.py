"""Named volumes of the process engine: folders below the state root."""

from __future__ import annotations

from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.engines.process.store import Store
from lifecycle_magic.host.volume_folder import VolumeFolder

__all__ = ["ProcessVolumes"]


class ProcessVolumes:
    """The named volumes in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _mounted(self) -> set[str]:
        """Return the names of the volumes of running instances."""
        running = (one for one in self._store.instances() if one.keeper.alive())
        return {name for one in running for name in one.volumes}

    def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""
        return self._store.volumes()

    def exists(self, name: str) -> bool:
        """Return whether there is a volume of this name."""
        return name in self._store.volumes()

    def create(self, name: str) -> None:
        """Create a volume unless there is one."""
        self._store.folder("volumes")
        self._store.place("volumes", name).mkdir(mode=0o700, exist_ok=True)

    def open(self, name: str) -> VolumeFolder:
        """Return the files of an existing volume."""
        return VolumeFolder(str(self._store.place("volumes", name)))

    def remove(self, name: str) -> bool:
        """Remove a volume and its content; return False if it is in use or does not exist."""
        if name in self._mounted() or not self.exists(name):
            return False
        remove_tree(str(self._store.place("volumes", name)))
        return True

    def rename(self, name: str, new: str) -> bool:
        """Rename a volume; return False if it is in use."""
        if name in self._mounted():
            return False
        self._store.place("volumes", name).rename(self._store.place("volumes", new))
        return True
