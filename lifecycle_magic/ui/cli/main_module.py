"""Running a script as ``__main__`` in this process, as ``python script.py`` does."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from importlib.abc import InspectLoader, Loader
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from lifecycle_magic.exception import InvalidError

__all__ = ["drop_launcher_path", "run_as_main", "run_module_as_main"]


def drop_launcher_path() -> None:
    """Remove the ``sys.path`` entry that Python added for this command, before a script runs.

    The entry is the folder of ``lifecycle-magic``, or the working folder under ``python -m``. A
    script that ``python script.py`` runs can import from neither.
    """
    if not getattr(sys.flags, "safe_path", False):  # python -P adds no entry; new in Python 3.11
        del sys.path[:1]


def run_as_main(path: Path, arguments: Sequence[str] = ()) -> types.ModuleType:
    """Run the file as ``__main__`` and return the module. Raises what the script raises."""
    if not path.is_file():
        other = "" if "/" in str(path) or path.suffix == ".py" else f", or -m {path}"
        raise InvalidError(f"{path} is not a file. Fix: give the path of a Python script{other}")
    file = str(path.absolute())
    module = _new_main(file, SourceFileLoader("__main__", file))
    folder = str(path.resolve().parent)
    if sys.path[:1] != [folder]:  # a script that is loaded again has added it already
        sys.path.insert(0, folder)
    sys.argv = [str(path), *arguments]
    # Bytes, so that an encoding cookie and a byte order mark take effect. Without dont_inherit the
    # __future__ imports of this module would apply to the script.
    code = compile(path.read_bytes(), file, "exec", dont_inherit=True)
    exec(code, module.__dict__)
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
    code = loader.get_code(name)
    assert code is not None
    exec(code, module.__dict__)
    return module


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
