"""`NetworkFileSystem`, which volumes have replaced in Modal."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.modal_api.table import old_spelling, refuse_members
from lifecycle_magic.volume import Volume

__all__ = ["NetworkFileSystem", "SharedVolume"]


class NetworkFileSystem:
    """The old name of a shared folder: a `Volume`, whose writes everyone sees at once as well."""

    @staticmethod
    def from_name(name: str, *, create_if_missing: bool = True, **of_modal: Any) -> Volume:
        """Return the volume of this name."""
        old_spelling("modal", "NetworkFileSystem")
        return Volume.from_name(name, create_if_missing=create_if_missing, **of_modal)

    persisted = lookup = from_name

    @staticmethod
    def ephemeral(**of_modal: Any) -> Volume:
        """Return a volume without a name."""
        old_spelling("modal", "NetworkFileSystem")
        return Volume.ephemeral(**of_modal)


refuse_members(NetworkFileSystem)


class SharedVolume(NetworkFileSystem):
    """The name of `NetworkFileSystem` before 0.50: ``SharedVolume().persist(name)``."""

    def persist(self, label: str) -> Volume:
        """Return the volume of this name."""
        return self.from_name(label)
