"""The top-level names of a script or notebook that a container makes again by their statements.

A name is such a name if its value depends on where its statements run: they ask `is_local`, they
import, in a ``try``, what this kernel does not have, or they read an environment variable that the
class gives its containers. So is a name whose statements read one of
these. Handles, apps, images and other objects of this package are not: the kernel alone needs them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from lifecycle_magic.decorators import asked_lines
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint.notebook_cells import cells_of
from lifecycle_magic.fingerprint.placed_statements import (
    PlacedStatement,
    evaluated,
    imported_modules,
    imports_packages,
    makers,
    place,
    rebound,
)
from lifecycle_magic.fingerprint.rerun_flow import Flow
from lifecycle_magic.wire.rerun_names import RerunBlock

__all__ = ["Reruns", "find", "is_script", "texts_of"]


class Reruns:
    """The names of a namespace that a container makes again, and the statements that make them.

    ``unnamed`` are statements that bind no name, but depend on where they run: they set up
    something.
    """

    def __init__(
        self,
        statements: Sequence[PlacedStatement] = (),
        names: Iterable[str] = (),
        unnamed: tuple[int, ...] = (),
        read_again: Callable[[Iterable[str]], Reruns] | None = None,
    ) -> None:
        self._read_again = read_again
        self._statements = statements
        self.names = frozenset(names)
        self.unnamed = unnamed

    def with_names(self, names: Iterable[str]) -> Reruns:
        """Return the same with other names that are made again, as their values can't travel."""
        return self._read_again(names) if self._read_again is not None else self

    def statements_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the statements, by their index, that make the values of names."""
        found: set[int] = set()
        waiting: list[tuple[str, int | None]] = [
            *((name, None) for name in names if name in self.names),
            *(one for index in self.unnamed for one in self._needs(index)),
        ]
        seen: set[tuple[str, int | None]] = set()
        while waiting:
            name, before = one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            for index in makers(self._statements, name, before):
                if index not in found:
                    found.add(index)
                    waiting += self._needs(index)
        found.update(self.unnamed)
        return tuple(sorted(found | self._imports(found)))

    def _needs(self, index: int) -> Iterator[tuple[str, int | None]]:
        """Yield the names whose statements run with one, and where the search for them begins.

        A name that it reads has another object later if it is bound again: only its statements
        give it the former one. Names that it binds get the objects that they have in the end.
        """
        for name in self._reads(index):
            before = rebound(self._statements, name, index)
            if name in self.names or before is not None:
                yield name, before
        for name in self._statements[index].statement.defines:
            yield name, None

    def _reads(self, index: int) -> frozenset[str]:
        return self._statements[index].statement.reads

    def _makers(self, name: str) -> list[int]:
        return makers(self._statements, name)

    def _imports(self, indices: set[int]) -> set[int]:
        """Return the imports of installed packages that statements read from.

        The image may have another release, in which an object is in another module.
        """
        wanted = {name for index in indices for name in self._reads(index)} - self.names
        found = {}
        for index, placed in enumerate(self._statements):
            if placed.statement.is_import and imports_packages(placed.statement.node):
                found.update(dict.fromkeys(wanted & placed.statement.defines, index))
        return set(found.values())

    def reads(self, indices: Iterable[int]) -> list[str]:
        """Return the names that statements read, now or later, and do not make themselves."""
        statements = [self._statements[index].statement for index in indices]
        made = {name for one in statements for name in one.defines}
        wanted = {
            name
            for one in statements
            if not one.is_import
            for name in one.reads | one.reads_later | one.may_read
        }
        return sorted(wanted - made)

    def text(self, indices: Iterable[int]) -> str:
        """Return the text of statements."""
        return "\n".join(self._statements[index].statement.text for index in indices)

    def block(self, indices: Iterable[int], content: str) -> RerunBlock:
        """Return statements as they travel. ``content`` is a digest of what they read."""
        placed = [self._statements[index] for index in indices]
        modules = {name for one in placed for name in imported_modules(one.statement.node)}
        statements = tuple((one.file, one.line, one.statement.text) for one in placed)
        key = hashlib.sha256(repr((statements, content)).encode()).hexdigest()
        is_postponed = any(
            one.statement.is_future and "annotations" in one.statement.text
            for one in self._statements
        )
        return RerunBlock(statements, is_postponed, tuple(sorted(modules)), key)

    def is_known(self, name: str) -> bool:
        """Return whether the statements that make a name are known."""
        return any(
            name in self._statements[index].statement.defines for index in self._makers(name)
        )

    def reads_in_body(self, name: str) -> set[str]:
        """Return the made names that the class statement of ``name`` reads outside of methods."""
        for placed in reversed(self._statements):
            node = placed.statement.node
            if isinstance(node, ast.ClassDef) and node.name == name:
                loaded = (one for step in node.body for one in evaluated(step))
                return {one.id for one in loaded if isinstance(one, ast.Name)} & self.names
        return set()

    def place_of(self, name: str) -> str:
        """Return where the first statement that makes a name is, for a message."""
        found = self._makers(name)
        if not found:
            return name
        placed = self._statements[min(found)]
        return f"{name} ({placed.file.rpartition('/')[2]}, line {placed.line})"


_NONE = Reruns()


def find(space: dict[str, Any], variables: frozenset[str] = frozenset()) -> Reruns:
    """Return the names of a namespace that depend on where they are made.

    ``variables`` are the environment variables that only the container has.
    """
    history = _history(space)
    lines = linecache.getlines(_file(space)) if history is None else history
    moment = id(space), id(lines), len(lines), len(space), asked_lines.count(), variables
    if _last.moment != moment:
        _last.moment, _last.lines = moment, lines
        _last.found = _found(space, texts_of(space), variables)
    return _last.found


def _found(space: dict[str, Any], texts: list[str], variables: frozenset[str]) -> Reruns:
    """Return what `find` does. Most namespaces have no such name, and then few texts are parsed."""
    read = functools.partial(_analysed, space, variables=variables)
    nothing = Reruns(read_again=read)
    if any("is_local" in text for text in texts) or (any(texts) and _imports_such()):
        return read(())
    if not any(_may_depend(text, variables) for text in texts):
        return nothing
    first = read((), chosen=lambda text: _may_depend(text, variables))
    return read(()) if first.names or first.unnamed else nothing


def _imports_such() -> bool:
    """Return whether a module of the user's that asks `is_local` is imported."""
    modules = [one for one in list(sys.modules.values()) if _is_beside(one)]
    return any("is_local" in "".join(linecache.getlines(_file(vars(one)))) for one in modules)


def _is_beside(module: Any) -> bool:
    return (
        isinstance(module, ModuleType)
        and module.__name__ != "__main__"
        and not origin.is_foreign(module)
        and bool(_file(vars(module)))
    )


def is_script(space: dict[str, Any]) -> bool:
    """Return whether a namespace is that of a script that runs as ``__main__``."""
    return space.get("__name__") == "__main__" and _history(space) is None and bool(_file(space))


def _names_of_module(
    module: str, variables: frozenset[str], reading: frozenset[int]
) -> frozenset[str]:
    """Return the names of a module next to the script that depend on where they are made."""
    found = sys.modules.get(module)
    if not isinstance(found, ModuleType) or origin.is_foreign(found) or id(found) in reading:
        return frozenset()
    space = vars(found)
    if not any(_may_depend(text, variables) for text in texts_of(space)):
        return frozenset()
    return _analysed(space, (), variables=variables, reading=reading | {id(found)}).names


class _Last(threading.local):
    """What was found last: a class is read name by name.

    ``lines`` is the object whose id is part of ``moment``.
    """

    moment: tuple[Any, ...] = ()
    lines: Sequence[str] = ()
    found: Reruns = _NONE


_last = _Last()


def texts_of(space: dict[str, Any]) -> list[str]:
    """Return the text of the cells that have run in a namespace, or of the script that it is of."""
    history = _history(space)
    if history is None:
        return ["".join(linecache.getlines(_file(space)))]
    return list(history)


def _history(space: dict[str, Any]) -> list[str] | None:
    """Return the cells that have run in a notebook's namespace; None for other namespaces."""
    if "get_ipython" not in space or "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    if shell is None or shell.user_ns is not space:
        return None
    history: list[str] = shell.history_manager.input_hist_raw
    return history


def _file(space: dict[str, Any]) -> str:
    """Return the path of a script or module of the user; an empty string for other namespaces."""
    file = space.get("__file__")
    if not isinstance(file, str) or not file.endswith(".py") or origin.is_installed_path(file):
        return ""
    return file


def _sources(space: dict[str, Any], chosen: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield the source of a namespace in the order in which it ran: files and their texts."""
    history = _history(space)
    for number, text in enumerate(texts_of(space)):
        if text and chosen(text):
            if history is None:
                yield _file(space), text
            else:
                yield from ((f"<cell {number}>", source) for source in _python_of(text))


@functools.lru_cache(maxsize=2048)
def _python_of(text: str) -> tuple[str, ...]:
    return tuple(cell.source for cell in cells_of([text]))


def _may_depend(text: str, variables: frozenset[str]) -> bool:
    return (
        "is_local" in text
        or ("try" in text and "except" in text and "import" in text)
        or any(name in text for name in variables)
    )


def _analysed(
    space: dict[str, Any],
    names: Iterable[str],
    *,
    variables: frozenset[str],
    reading: frozenset[int] = frozenset(),
    chosen: Callable[[str], bool] = bool,
) -> Reruns:
    placed = place(_sources(space, chosen), space)
    of_module = functools.partial(_names_of_module, variables=variables, reading=reading)
    flow = Flow(placed, space, names, variables, of_module)
    again = functools.partial(_analysed, space, variables=variables)
    return Reruns(placed, flow.names, flow.unnamed, again)
