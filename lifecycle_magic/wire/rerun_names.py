"""Top-level names that are made again in the container, by statements of the script or the cells.

A value travels as it is in the kernel. That is wrong for a name whose value depends on where it is
made: ``DATA = "/data" if not is_local() else "data"``. For such a name its statements travel, as
source text, and run once in each process of the container.
"""

from __future__ import annotations
import __future__

import ast
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.wire import definition_load
from lifecycle_magic.wire.exceptions import add_note

__all__ = ["UNBOUND", "RerunBlock", "RerunName", "UseOther", "make_name"]

UNBOUND: Any = type("Unbound", (), {"__repr__": lambda _: "<unbound>"})()
"""What a name is that its statements do not bind in the container."""

_RAN = "__lifecycle_rerun__"  # in a namespace: the keys of the blocks that ran there


class UseOther(Exception):
    """A stream does not fit this image, and ``data`` is one that does."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


@dataclass(frozen=True)
class RerunBlock:
    """Statements in the order in which they run.

    Each of ``statements`` is a file, the line there and the text. ``is_postponed`` says that
    annotations are strings there. ``modules`` are the names of the modules that the statements
    import. ``key`` is a digest of the statements and of what they read.
    """

    statements: tuple[tuple[str, int, str], ...]
    is_postponed: bool
    modules: tuple[str, ...]
    key: str

    def run(self, space: dict[str, Any]) -> None:
        """Run the statements in a namespace, once. Raises what they raise, with a note."""
        if self.key in space.setdefault(_RAN, set()):
            return
        space[_RAN].add(self.key)
        flags = __future__.annotations.compiler_flag if self.is_postponed else 0
        try:
            for file, line, text in self.statements:
                tree = ast.increment_lineno(ast.parse(text), line - 1)
                _compile_and_run(tree, file, flags, space)
        except BaseException as error:
            space[_RAN].discard(self.key)
            add_note(error, f"{file}, line {line} runs in the container too, and raised this there")
            raise


def _compile_and_run(tree: ast.Module, file: str, flags: int, space: dict[str, Any]) -> None:
    exec(compile(tree, file, "exec", flags, dont_inherit=True), space)


class RerunName:
    """Stands in a stream for the value of a name that ``block`` makes.

    Where a stream is read only to be compared, its key stands for the value.
    """

    def __init__(self, label: str, name: str, block: RerunBlock | None = None) -> None:
        self.label = label
        self.name = name
        self.block = block
        self.key = block.key if block is not None else ""

    def place(self, block: RerunBlock) -> None:
        """Set the statements that make the name."""
        self.block, self.key = block, block.key

    def __reduce__(self) -> tuple[Any, ...]:
        return make_name, (self.label, self.name, self.block)


def make_name(label: str, name: str, block: RerunBlock) -> Any:
    """Return the value of a name after its statements have run in this process."""
    load = definition_load.current.load
    assert load is not None
    if load.scratch:
        return RerunName(label, name, block)
    space = definition_load.space_of(load.spaces, label)
    block.run(space)
    return space.get(name, UNBOUND)
