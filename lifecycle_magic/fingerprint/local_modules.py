"""Names in modules next to the notebook, as parts of a fingerprint.

Containers import these modules from their files. So the files count, name by name where the source
shows the names (`lifecycle_magic.fingerprint.source_names`), and never what this process imported
from an earlier state of the files.
"""

from __future__ import annotations

import sys
from typing import Any

from lifecycle_magic.fingerprint import bytecode, origin, source_names
from lifecycle_magic.fingerprint.parts import Parts
from lifecycle_magic.wire.value_digest import digest

__all__ = ["LocalModules"]

_BY_STRING = frozenset({"globals", "eval", "exec"})
"""Functions that look up names by strings, which code can create at run time."""


class LocalModules:
    """References to names and files next to the notebook, in ``parts``.

    ``own`` is the module whose code travels by value: it counts as it is here, not by its file.
    ``modules`` are the files of the modules that were referred to, by name.
    """

    def __init__(self, own: str | None, parts: Parts) -> None:
        self.modules: dict[str, str] = {}
        self._own = own
        self._parts = parts

    def file_of(self, module: str) -> str | None:
        """Return the file of a module next to the notebook; None for any other, and for this
        package.
        """
        found = sys.modules.get(module)
        if found is None or module in (self._own, "__main__", "__mp_main__"):
            return None
        return None if origin.is_foreign(found) else origin.source_of(found)

    def refer_to_definition(self, thing: Any) -> bytes | None:
        """Refer to a function or class by the file that defines it.

        None for an object that travels by value: no file next to the notebook has it any more, or
        ever had.
        """
        if not origin.resolves(thing, thing.__module__):
            return None
        return self.refer_to_name(thing.__module__, thing.__qualname__.partition(".")[0])

    def refer_to_name(self, module: str, name: str) -> bytes | None:
        """Refer to a top-level name of a module; None if no file next to the notebook binds it."""
        path = self.file_of(module)
        if path is None or name not in (source_names.pieces_of(path) or ()):
            return None
        return self._piece(module, path, name)

    def refer_to_import(self, package: str, found: bytecode.Import) -> bytes:
        """Refer to what an import in a module of ``package`` imports from next to the notebook.

        Whether a module was imported already must not matter, so the live module is not read.
        """
        digests = [found.module.encode(), str(found.level).encode()]
        files = origin.local_sources(found, package)
        self.modules.update(files)
        target = next((name for name, _ in files if _is_target(name, found)), None)
        for name, path in files:
            pieces = source_names.pieces_of(path) or {}
            if found.names and name == target and all(one in pieces for one in found.names):
                digests += [self._piece(name, path, one) for one in sorted(found.names)]
            else:
                digests.append(self.refer_to_file(name, path))
        return digest(b"import", *digests)

    def refer_to_file(self, name: str, path: str) -> bytes:
        """Refer to the whole file of a module."""
        self.modules[name] = path

        def read() -> bytes:
            code = origin.compiled(path)
            if code is None:
                self._parts.note_unreadable(name)
                return digest(b"unreadable", path.encode())
            reads = bytecode.read(code)
            package = _package(name, path)
            inner = [self.refer_to_import(package, found) for found in sorted(reads.imports)]
            return digest(b"source", self._parts.encode(reads.canonical), *inner)

        return self._parts.refer(("source", name), f"{name} (module)", read)

    def _piece(self, module: str, path: str, name: str) -> bytes:
        """Refer to a top-level name of a source file, and to the names that it reads there."""
        pieces = source_names.pieces_of(path) or {}
        piece = pieces[name]
        self.modules[module] = path

        def read() -> bytes:
            digests = [piece.text.encode()]
            digests += [
                self._piece(module, path, one)
                for one in piece.names
                if one != name and one in pieces
            ]
            package = _package(module, path)
            digests += [self.refer_to_import(package, found) for found in sorted(piece.imports)]
            if not _BY_STRING.isdisjoint(set(piece.names) - pieces.keys()):
                digests.append(self.refer_to_file(module, path))
            return digest(b"piece", *digests)

        call = "()" if piece.kind == "function" else ""
        label = f"{module}.{name}{call} ({piece.kind})"
        return self._parts.refer(("piece", module, name), label, read)


def _is_target(name: str, found: bytecode.Import) -> bool:
    """Return whether a module is the one that ``from module import ...`` takes its names from."""
    if not found.module or name == found.module:
        return True
    return bool(found.level) and name.endswith(f".{found.module}")


def _package(module: str, path: str) -> str:
    """Return the package that a module is in, or the module itself if it is a package."""
    return module if path.endswith("__init__.py") else module.rpartition(".")[0]
