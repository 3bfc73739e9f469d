"""Drafts: the lifecycle classes of a running cell, from the class statement to the cell's end.

The class statement leaves a handle. The declaration is a *draft* until the first call or the end of
the cell: the cell can still assign attributes of the class, and nothing outside of the namespace
has changed. The first call deploys the draft in the middle of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.session.registry import Entry, Variant, claim
from lifecycle_magic.session.served_calls import publish
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.input_changes import NO_CHANGES, InputChanges
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class

if TYPE_CHECKING:
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.ui.notebook.card import Card

__all__ = ["PREFIX", "Draft"]

PREFIX = "cell/"
"""Prefix of the keys of cells' services in the session; an app's services have the app's name."""


class Draft:
    """The class behind a handle of this cell.

    While open, it is the cell's own declaration; later, the newest one of its name. ``deploy``
    deploys the declaration and returns the card that shows it. ``app`` is the name of the app under
    which other notebooks call the class; empty for none.
    """

    def __init__(
        self,
        cls: type,
        options: Options,
        deploy: Callable[[Draft], Card | None],
        may_follow: Callable[[Entry], bool],
        app: str = "",
    ) -> None:
        self._app = app
        self._read = read_class(cls, options)
        self._deploy = deploy
        self._open = True
        self._changed = False
        self.entry: Entry = claim(PREFIX + self._read.name, self._read, may_follow)
        self.key = self.entry.key
        self.handle = Cls(self)
        self.card: Card | None = None
        self.has_failed = False

    @property
    def cls(self) -> type:
        """The class that this cell defined, even if its name was redefined later."""
        return self._read.cls

    @property
    def spec(self) -> ClassSpec:
        """The declaration: this one while it is open, afterwards the newest of its name."""
        if not self._open:
            return self.entry.spec
        if self._changed:
            # Python 3.14 evaluates annotations while the class is read, and a dataclass made from
            # the handle asks the handle for them.
            self._changed = False
            try:
                self._read = read_class(self._read.cls, self._read.options)
            except BaseException:
                self._changed = True
                raise
        return self._read

    def service(self) -> Service:
        """Deploy the declaration if it is open, and return its service."""
        self.settle()
        return self.entry.service()

    def settle(self) -> None:
        """Deploy the declaration if it is open. Raises the error that keeps it from running."""
        if not self._open:
            return
        self.has_failed = True  # until it has succeeded
        self.card = self._deploy(self)
        self.has_failed = False

    def accept(self) -> None:
        """Make this the newest declaration of its name, which its service runs or will run."""
        spec = self.spec
        self._open = False
        self.entry.follow(spec)
        self.entry.set_public_name(f"{self._app}/{spec.name}" if self._app else "")

    def close(self) -> None:
        """Drop this declaration and use the newest one of its name."""
        self._open = False

    @property
    def is_open(self) -> bool:
        """Return whether the declaration may still change."""
        return self._open

    def variant(self, options: dict[str, Any], changes: InputChanges = NO_CHANGES) -> Variant:
        """Return the entry of the class with other options, or other marks of its methods."""
        return Variant(self, options, changes)

    def change(self, change: Callable[[type], None], statement: str) -> None:
        """Change the class while its declaration is open; otherwise raise `InvalidError`."""
        if not self._open:
            self.entry.change(change, statement)
        change(self._read.cls)
        self._changed = True

    def has_made(self, cls: type) -> bool:
        """Return whether ``cls`` is, or derives from, a class declared under this name."""
        return issubclass(cls, self._read.cls) or self.entry.has_made(cls)

    def hold(self, handle: Cls) -> None:
        """Register a handle of this name, by a weak reference."""
        self.entry.hold(handle)

    def publish_name(self) -> str:
        """Let other sessions call the class, and return its name there; empty if it has none."""
        return self.entry.publish_name()

    def publish(self) -> str:
        """Let containers call the class by its key, and return the key."""
        return publish(self.key, self)
