"""The block ``with image.imports():`` in the kernel: imports of packages that only the image has.

While a block is open, an import statement of the user's own code (the code that opened the block,
and modules next to the notebook that it imports) gets a stand-in for what this kernel lacks. Every
other import, of an installed library or of another thread, works as without a block: libraries use
``try: import`` to find out what is installed, and must get the true answer.

A name that a ``try`` statement of the block binds is decided in the image, which runs the statement
again: this kernel can't know which branch runs there.
"""

from __future__ import annotations

import ast
import builtins
import dis
import importlib.util
import linecache
import symtable
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType, ModuleType, TracebackType
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint.image_only import ConditionalName, MissingModule

__all__ = ["ImportsBlock"]

_IMPORT_STATEMENT = dis.opmap["IMPORT_NAME"]
_CATCHES_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}

Import = Callable[..., Any]

_lock = threading.Lock()
_open: list[ImportsBlock] = []


class ImportsBlock(AbstractContextManager[None]):
    """One ``with image.imports():`` of one thread."""

    def __init__(self) -> None:
        self._thread = 0
        self._globals: dict[str, Any] = {}
        self._frame: FrameType | None = None
        self._line = 0
        self._undecided: list[ast.Try] = []

    def __enter__(self) -> None:
        frame = _opener(sys._getframe(1))
        self._thread, self._globals = threading.get_ident(), frame.f_globals
        self._frame, self._line = frame, frame.f_lineno
        self._undecided = []
        with _lock:
            if not _open:
                builtins.__import__ = _Hook(builtins.__import__)  # type: ignore[assignment]
            _open.append(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _lock:
            _open.remove(self)
            hook = builtins.__import__
            if not _open and isinstance(hook, _Hook):  # else another tool has wrapped it meanwhile
                builtins.__import__ = hook.inner
        frame, self._frame = self._frame, None
        if error is None and frame is not None:
            for statement in self._undecided:
                _leave_to_image(statement, frame)

    def covers(self, space: dict[str, Any]) -> bool:
        """Return whether imports of the code with these globals are the user's own."""
        if space is self._globals:
            return True
        name, path = space.get("__name__"), space.get("__file__")
        if not isinstance(name, str) or origin.is_ours(name):
            return False
        return name == "__main__" or bool(path and not origin.is_installed_path(path))

    def is_in(self, frame: FrameType) -> bool:
        """Return whether ``frame`` runs the code that opened the block."""
        return self._frame is not None and frame.f_code is self._frame.f_code

    def guard(self, frame: FrameType) -> ast.Try | None:
        """Return the ``try`` statement that catches a failed import at the frame's line."""
        text = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return None
        least = self._line if self.is_in(frame) else 0
        found = None
        for node in ast.walk(tree):  # breadth first, so the last one is the innermost
            if isinstance(node, ast.Try) and node.lineno > least and _guards(node, frame.f_lineno):
                found = node
        return found

    def leave_to_image(self, statement: ast.Try) -> None:
        """Record that the image decides the names that the statement binds, when the block ends."""
        if all(ast.dump(statement) != ast.dump(other) for other in self._undecided):
            self._undecided.append(statement)


def _opener(frame: FrameType) -> FrameType:
    """Return the frame that wrote the block, also if an `ExitStack` entered it."""
    while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
        frame = frame.f_back
    return frame


class _Hook:
    """The replacement of ``builtins.__import__`` while a block is open; ``inner`` is the
    original.
    """

    def __init__(self, inner: Import) -> None:
        self.inner = inner

    def __call__(
        self,
        name: str,
        globals: dict[str, Any] | None = None,
        locals: dict[str, Any] | None = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        frame = sys._getframe(1)
        block = _block_of_this_thread()
        if block is None or not _is_statement(frame, globals) or not block.covers(frame.f_globals):
            return self.inner(name, globals, locals, fromlist, level)
        before = set(sys.modules)
        try:
            found = self.inner(name, globals, locals, fromlist, level)
        except ImportError:
            if level or not _may_be_in_image(name):
                raise
            _remove_parts(set(sys.modules) - before)
            if _guarded(block, frame):
                raise
            return _stand_in(frame, name, tuple(fromlist or ()))
        if level or not fromlist or not _may_be_in_image(name):
            return found
        if all(_has(found, wanted) for wanted in fromlist) or _guarded(block, frame):
            return found
        return MissingModule(name, real=found)


def _block_of_this_thread() -> ImportsBlock | None:
    thread = threading.get_ident()
    for block in reversed(_open):
        if block._thread == thread:
            return block
    return None


def _is_statement(frame: FrameType, space: dict[str, Any] | None) -> bool:
    """Return whether the frame is in an import statement, and not in C code that imports."""
    code = frame.f_code.co_code
    return frame.f_globals is space and code[frame.f_lasti] == _IMPORT_STATEMENT


def _may_be_in_image(name: str) -> bool:
    """Return whether an image may have what is missing here: never part of a module that travels.

    The user's own modules travel as they are. The standard library is the same in both Pythons.
    """
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return top not in sys.modules  # a part that this Python was built without
    module = sys.modules.get(top)
    if module is not None:
        path = getattr(module, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return True
        path = spec.origin if spec is not None and spec.has_location else None
    # A folder without __init__.py is no package of the user's: ./wandb is created by wandb.
    return not path or origin.is_installed_path(path)


def _remove_parts(new: set[str]) -> None:
    """Remove the submodules that a failed import left without their package."""
    for name in sorted(new):
        parts = name.split(".")
        packages = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        if any(package not in sys.modules for package in packages):
            sys.modules.pop(name, None)


def _stand_in(frame: FrameType, name: str, fromlist: tuple[str, ...]) -> MissingModule:
    if "*" in fromlist:
        raise InvalidError(
            f"from {name} import * in image.imports(): this kernel does not have {name}, so it "
            f"can't know its names. Fix: from {name} import the names that the class uses"
        ) from None
    if fromlist:
        return MissingModule(name)
    top = name.partition(".")[0]
    before = frame.f_locals.get(top, frame.f_globals.get(top))
    submodules = set(before.submodules) if isinstance(before, MissingModule) else set()
    if name != top:
        submodules.add(name)
    return MissingModule(top, (), submodules, sys.modules.get(top))


def _has(module: ModuleType, name: str) -> bool:
    if name == "*":
        return True
    try:
        getattr(module, name)
    except (AttributeError, ImportError):
        return f"{module.__name__}.{name}" in sys.modules
    return True


# --- imports that the code itself expects to fail ------------------------------------------------


def _guarded(block: ImportsBlock, frame: FrameType) -> bool:
    """Return whether a ``try`` of the code itself handles the failed import.

    A module next to the notebook travels as its file, so its ``try`` runs in the image anyway.
    """
    statement = block.guard(frame)
    if statement is not None and block.is_in(frame):
        block.leave_to_image(statement)
    return statement is not None


def _guards(statement: ast.Try, line: int) -> bool:
    first, last = statement.body[0].lineno, statement.body[-1].end_lineno or 0
    return first <= line <= last and any(map(_catches, statement.handlers))


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(one, ast.Name) and one.id in _CATCHES_IMPORT_ERRORS for one in kinds)


def _leave_to_image(statement: ast.Try, frame: FrameType) -> None:
    """Rebind what the statement binds. Raises `InvalidError` if it reads other names."""
    source = ast.unparse(statement)
    table = symtable.symtable(source, "<image.imports()>", "exec")
    caught = {one.name for one in ast.walk(statement) if isinstance(one, ast.ExceptHandler)}
    bound = {
        one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()
    }
    inner = _of_comprehensions(statement)
    bound -= inner
    reads = set(_reads(table)) - bound - inner
    foreign = sorted(name for name in reads if not hasattr(builtins, name))
    where = f"the try statement in image.imports() (line {statement.lineno})"
    if foreign:
        raise InvalidError(
            f"{where} depends on what the image has, so it runs there, but it reads "
            f"{', '.join(foreign)} from outside. Fix: write the try statement into the method that "
            "needs it, or have it read only what it imports itself"
        )
    if frame.f_locals is not frame.f_globals and frame.f_code.co_name != "<module>":
        raise InvalidError(
            f"{where} depends on what the image has, and it is inside a function. Fix: write the "
            "block at the top level of the cell or script"
        )
    for name in bound - caught:
        frame.f_locals[name] = ConditionalName(source, name)


def _of_comprehensions(statement: ast.Try) -> set[str]:
    """Return the names that are variables of comprehensions alone.

    From Python 3.12 on, `symtable` lists them with the names of the code around.
    """
    nodes = [*ast.walk(statement)]
    targets = [one.target for one in nodes if isinstance(one, ast.comprehension)]
    variables = {id(one): one for target in targets for one in ast.walk(target)}
    inner = {one.id for one in variables.values() if isinstance(one, ast.Name)}
    outer: set[str] = set()
    for one in nodes:
        if (
            isinstance(one, ast.Name)
            and isinstance(one.ctx, ast.Store)
            and id(one) not in variables
        ):
            outer.add(one.id)
        elif isinstance(one, ast.alias):
            outer.add(one.asname or one.name.partition(".")[0])
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            outer.add(one.name)
    return inner - outer


def _reads(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the global names that the code of a table and of its functions reads."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _reads(inner)
