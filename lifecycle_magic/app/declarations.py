"""The classes and functions that an app declares.

Nothing of the session is imported before the first declaration: a module that makes an app is also
imported in containers, where there is no session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_magic.handles.cls import Cls
    from lifecycle_magic.handles.function import Function
    from lifecycle_magic.session.registry import Entry
    from lifecycle_magic.spec.class_spec import ClassSpec

__all__ = ["Declarations"]


class Declarations:
    """The registry's entries of one app, by key."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add(self, spec: ClassSpec, app: str | None) -> Entry:
        """Declare a class or function of the app with this name, and return its entry."""
        from lifecycle_magic.session.registry import claim

        # Not by the app's identity: a cell that is run again makes another App.
        unnamed = "" if spec.module == "__main__" else spec.module
        entry = claim(f"{app or unnamed}/{spec.name}", spec)
        entry.declare(spec)
        self.entries[entry.key] = entry
        if app:
            entry.set_public_name(f"{app}/{spec.name}")
        return entry

    def include(self, others: Declarations) -> None:
        """Add the declarations of another app."""
        self.entries.update(others.entries)

    def name_app(self, app: str) -> None:
        """Let other processes find the classes and functions under this name of the app."""
        for entry in self.entries.values():
            entry.set_public_name(f"{app}/{entry.spec.name}")

    def has(self, key: str) -> bool:
        """Return whether the service ``key`` of a session runs one of the classes, or a variant."""
        return key.partition("?")[0] in self.entries

    def stop(self, why: str) -> None:
        """Stop the containers of the classes, kept ones too, and wait until they have exited."""
        from lifecycle_magic.host import keep_record, paths
        from lifecycle_magic.session import session

        opened = session.opened()
        if opened is None and self.entries and keep_record.find_all(paths.state_root()):
            opened = session.current()  # earlier kernels have kept containers, maybe of these
        if opened is not None:
            keys = [key for key in opened.services if self.has(key)]
            session.wait_gone(opened.stop(keys, why))
            opened.stop_kept([one for one in opened.kept() if self.has(one.record.key)], why)

    def functions(self) -> dict[str, Function]:
        """Return the handles of the functions, by name."""
        from lifecycle_magic.handles.cls import Cls
        from lifecycle_magic.handles.function import Function

        found = {entry.spec.name: entry for entry in self.entries.values()}
        return {
            name: Function(Cls(entry), vars(entry.spec.cls)["call"].__func__)
            for name, entry in found.items()
            if entry.spec.is_function
        }

    def classes(self) -> dict[str, Cls]:
        """Return the handles of the classes, by name."""
        from lifecycle_magic.handles.cls import Cls

        specs = [(entry.spec, entry) for entry in self.entries.values()]
        return {spec.name: Cls(entry) for spec, entry in specs if not spec.is_function}

    def web_endpoints(self) -> list[str]:
        """Return the names of functions, and ``Class.method`` of methods, that answer HTTP."""
        return [
            spec.name if spec.is_function else f"{spec.name}.{method}"
            for spec in [entry.spec for entry in self.entries.values()]
            for method, _ in spec.web
        ]
