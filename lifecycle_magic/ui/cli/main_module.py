"""Running a script as ``__main__`` in this process, as ``python script.py`` does."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

from lifecycle_magic.exception import InvalidError

__all__ = ["drop_launcher_path", "run_as_main"]


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
        raise InvalidError(f"{path} is not a file. Fix: give the path of a Python script")
    file = str(path.absolute())
    module = types.ModuleType("__main__")
    module.__file__ = file
    module.__loader__ = SourceFileLoader("__main__", file)
    module.__dict__["__cached__"] = None
    module.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules["__main__"] = module
    folder = str(path.resolve().parent)
    if sys.path[:1] != [folder]:  # a script that is loaded again has added it already
        sys.path.insert(0, folder)
    sys.argv = [str(path), *arguments]
    # Bytes, so that an encoding cookie and a byte order mark take effect. Without dont_inherit the
    # __future__ imports of this module would apply to the script.
    code = compile(path.read_bytes(), file, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module
