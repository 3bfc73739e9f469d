"""The entry of the registry that a handle keeps instead of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.input_changes import NO_CHANGES, InputChanges

if TYPE_CHECKING:
    from lifecycle_magic.handles.cls import Cls
    from lifecycle_magic.services.service import Service

__all__ = ["RegistryEntry"]


class RegistryEntry(Protocol):
    """The class that a handle's name stands for: see `lifecycle_magic.session.registry`."""

    key: str

    @property
    def spec(self) -> ClassSpec:
        """Return the newest declaration."""

    def service(self) -> Service:
        """Return the service that runs it, in a session that is opened if necessary."""

    def settle(self) -> None:
        """Make the declaration final, if it is open."""

    def variant(self, options: dict[str, Any], changes: InputChanges = NO_CHANGES) -> RegistryEntry:
        """Return the entry of the class with other options or marks of its methods."""

    def change(self, change: Callable[[type], None], statement: str) -> None:
        """Change the class if its declaration is open, otherwise raise `InvalidError`."""

    def has_made(self, cls: type) -> bool:
        """Return whether ``cls`` is, or derives from, a class declared under this name."""

    def hold(self, handle: Cls) -> None:
        """Remember a handle of this name while it exists."""

    def publish(self) -> str:
        """Let containers call the class by its key, and return the key."""

    def publish_name(self) -> str:
        """Let other sessions call the class. Return its name there, as ``app/name``.

        Empty if its app has no name.
        """
