"""Running a script as ``__main__`` in this process, without its ``__main__`` block.

The script's classes are pickled by value then, as those of a notebook. What stands below
``if __name__ == "__main__":`` is for ``python script.py``: like Modal's commands, those of this
package load a script to find its apps.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Sequence
from importlib.abc import InspectLoader, Loader
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from lifecycle_magic.exception import InvalidError

__all__ = ["drop_launcher_path", "has_main_block", "load", "run_as_main", "run_module_as_main"]


def drop_launcher_path() -> None:
    """Remove the ``sys.path`` entry that Python added for this command, before a script runs.

    The entry is the folder of ``lifecycle-magic``, or the working folder under ``python -m``. A
    script that ``python script.py`` runs can import from neither.
    """
    if not getattr(sys.flags, "safe_path", False):  # python -P adds no entry; new in Python 3.11
        del sys.path[:1]


def load(script: str, is_module: bool, arguments: Sequence[str] = ()) -> types.ModuleType:
    """Run a script, or a module by its dotted name, as ``__main__`` and return the module."""
    if is_module:
        return run_module_as_main(script, arguments)
    if script == "-":
        return _run_input(arguments)
    return run_as_main(Path(script), arguments)


def _run_input(arguments: Sequence[str]) -> types.ModuleType:
    """Run the script on the standard input, from a file that is there until this process ends.

    Source code is read from it later: for tracebacks and for containers with another Python.
    """
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-magic-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "stdin.py"
    path.write_bytes(sys.stdin.buffer.read())
    return run_as_main(path, arguments, folder=os.getcwd())


def run_as_main(
    path: Path, arguments: Sequence[str] = (), folder: str | None = None
) -> types.ModuleType:
    """Run the file as ``__main__`` and return the module. Raises what the script raises.

    It imports from ``folder``, by default its own.
    """
    if not path.is_file():
        other = "" if "/" in str(path) or path.suffix == ".py" else f", or -m {path}"
        raise InvalidError(f"{path} is not a file. Fix: give the path of a Python script{other}")
    file = str(path.absolute())
    module = _new_main(file, SourceFileLoader("__main__", file))
    folder = folder or str(path.resolve().parent)
    if sys.path[:1] != [folder]:  # a script that is loaded again has added it already
        sys.path.insert(0, folder)
    sys.argv = [str(path), *arguments]
    # Bytes, so that an encoding cookie and a byte order mark take effect.
    exec(_compiled(path.read_bytes(), file), module.__dict__)
    return module


def run_module_as_main(name: str, arguments: Sequence[str] = ()) -> types.ModuleType:
    """Run a module by its dotted name as ``__main__``, as ``python -m`` does, and return it.

    Its relative imports work. Raises `InvalidError` if there is no such module, and what the module
    raises.
    """
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _find(name)
    loader = spec.loader if spec is not None else None
    if spec is None or not isinstance(loader, InspectLoader) or spec.origin is None:
        raise InvalidError(
            f"no module named {name} can be found in {here} or on the path. "
            "Fix: start the command in the folder that contains the package"
        )
    module = _new_main(spec.origin, loader)
    module.__package__ = spec.parent
    module.__spec__ = spec
    sys.argv = [spec.origin, *arguments]
    source = loader.get_source(name)
    code = loader.get_code(name) if source is None else _compiled(source, spec.origin)
    assert code is not None
    exec(code, module.__dict__)
    return module


def has_main_block(module: types.ModuleType) -> bool:
    """Return whether a loaded script has code for ``python script.py`` only."""
    try:
        tree = ast.parse(Path(module.__file__ or "").read_bytes())
    except (OSError, SyntaxError):
        return False
    found = _NoMainBlock()
    found.visit(tree)
    return found.changed


def _compiled(source: str | bytes, file: str) -> types.CodeType:
    """Return the code of a script in which ``__name__ == "__main__"`` is false at the top level.

    Lines and columns stay as they are. A script without such a comparison is compiled as it is.
    """
    # Without dont_inherit the __future__ imports of this module would apply to the script.
    code: types.CodeType = compile(source, file, "exec", dont_inherit=True)
    if "__main__" not in code.co_consts:
        return code
    tree = ast.parse(source, file)
    changer = _NoMainBlock()
    tree = changer.visit(tree)
    return compile(tree, file, "exec", dont_inherit=True) if changer.changed else code


class _NoMainBlock(ast.NodeTransformer):
    """Replaces comparisons of ``__name__`` with ``"__main__"`` outside of functions and classes."""

    changed = False

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        sides = [node.left, *node.comparators]
        names = [one.id for one in sides if isinstance(one, ast.Name)]
        values = [one.value for one in sides if isinstance(one, ast.Constant)]
        if (names, values) != (["__name__"], ["__main__"]):
            return self.generic_visit(node)
        if not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            return node
        self.changed = True
        return ast.copy_location(ast.Constant(isinstance(node.ops[0], ast.NotEq)), node)

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave


def _find(name: str) -> ModuleSpec | None:
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise  # the package is there, and one of its own imports fails


def _new_main(file: str, loader: Loader) -> types.ModuleType:
    """Return an empty ``__main__`` module of a file."""
    module = types.ModuleType("__main__")
    module.__file__ = file
    module.__loader__ = loader
    module.__dict__["__cached__"] = None
    module.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules["__main__"] = module
    return module
