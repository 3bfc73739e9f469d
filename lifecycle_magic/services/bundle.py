"""The code that travels: the guest as a folder, the user's class as bytes, and the modules beside
the notebook as files.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pickletools
import py_compile
import shutil
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.digests import origin, sources
from lifecycle_magic.digests.origin import is_foreign
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest.modules import MODULES
from lifecycle_magic.paths import private_folder, state_root
from lifecycle_magic.wire.pickling import dumps_by_value

PACKAGE = Path(__file__).parents[1]

MOST = 32 << 20
"""Bytes of modules and their packages' files that travel with a class."""

_MAIN = """\
import sys
from lifecycle_magic.guest.supervisor import main
sys.exit(main(sys.argv[1]))
"""

_lock = threading.Lock()


def guest_folder() -> Path:
    """The folder that is mounted into every container: this package, cloudpickle, and
    ``__main__.py``.

    Made once per content, compiled, below the state root. Containers run the same Python minor as
    the kernel, so they can use what the kernel's Python compiled.
    """
    sources = dict(_sources())
    digest = hashlib.sha256(sys.version.encode() + _MAIN.encode())
    for name, path in sorted(sources.items()):
        digest.update(name.encode() + path.read_bytes())
    folder = private_folder(state_root() / "guest") / digest.hexdigest()[:20]
    if folder.is_dir():
        return folder
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    for name, path in sources.items():
        target = part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (part / "__main__.py").write_text(_MAIN)
    for source in part.rglob("*.py"):
        # Unchecked: the folder never changes, and the file times in a container are anybody's
        # guess.
        py_compile.compile(
            str(source),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    part.chmod(0o755)
    try:
        part.rename(folder)
    except OSError:  # another kernel was quicker
        shutil.rmtree(part)
    return folder


def _sources() -> Iterator[tuple[str, Path]]:
    for name, root in (("lifecycle_magic", PACKAGE), ("cloudpickle", _cloudpickle())):
        for path in root.rglob("*.py"):
            yield f"{name}/{path.relative_to(root)}", path


def _cloudpickle() -> Path:
    found = importlib.util.find_spec("cloudpickle")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@dataclass(frozen=True)
class Code:
    """A class as bytes, and the files of the modules beside the notebook that it imports.

    ``modules`` maps a path below the folder that they are imported from to a file's content.
    """

    cls: bytes
    modules: Mapping[str, bytes]


def pack(cls: type, modules: Mapping[str, str]) -> Code:
    """``cls`` as it travels; ``modules`` are names and files that are known to be needed.

    What is defined in the class's own module, the notebook or the script, travels by value. Modules
    beside it travel as the files that they are now, a package as a whole, and are imported there
    under their own names: so relative imports, imports inside of functions and ``isinstance`` on
    both sides mean what they say. What is installed is imported from the image. Raises what the
    pickler raises, and `InvalidError` for a package that is too large.
    """
    data = pickle_class(cls)
    needed = dict(modules)
    for name in _texts(data):
        module = sys.modules.get(name)
        if module is None or name == cls.__module__ or not is_local(module):
            continue
        if (path := origin.source_of(module)) is not None:
            needed[name] = path
    return Code(data, _files(needed))


def pickle_class(cls: type) -> bytes:
    """``cls`` and what its own module defines by value, all else by name."""
    import cloudpickle

    module = sys.modules.get(cls.__module__)
    with _lock, contextlib.ExitStack() as stack:
        if (
            module is not None
            and is_local(module)
            and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        ):
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        return dumps_by_value(cls)


def _texts(data: bytes) -> set[str]:
    """Every text in a pickle: the names of the modules that it refers to are among them."""
    return {value for _, value, _ in pickletools.genops(data) if isinstance(value, str)}


def _files(modules: Mapping[str, str]) -> dict[str, bytes]:
    """The content of these modules, their packages, and what they import in turn."""
    found: dict[str, bytes] = {}
    waiting = dict(modules)
    seen: set[str] = set()
    while waiting:
        name, path = waiting.popitem()
        if name in seen:
            continue
        seen.add(name)
        for below, file in _with_package(name, Path(path)):
            if below in found:
                continue
            found[below] = file.read_bytes()
            if below.endswith(".py"):
                package = below[:-3].replace("/", ".").rpartition(".")[0]
                for one in sources.imports_of(str(file)):
                    waiting.update(origin.local_sources(one, package))
    size = sum(map(len, found.values()))
    if size > MOST:
        largest = max(found, key=lambda below: len(found[below]))
        raise InvalidError(
            f"the modules beside the notebook that the class imports are {size >> 20} MiB with "
            f"their packages' files, and {MOST >> 20} MiB can travel. The largest is {largest}: "
            "give data as a volume (Volume.from_path) or in the image (Image.add_local_dir)"
        )
    return found


def _with_package(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """A module's file, or all files of the package that it is in, below where it is imported from.

    Of a folder without ``__init__.py``, which may be anything, the module alone.
    """
    parts = name.split(".")
    depth = len(parts) if path.name == "__init__.py" else len(parts) - 1
    root = path.parents[depth]
    top = root / parts[0]
    if not (top / "__init__.py").is_file():
        yield path.relative_to(root).as_posix(), path
        return
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(one for one in folders if one[0] != "." and one != "__pycache__")
        for file in sorted(files):
            if file[0] != "." and not file.endswith(".pyc"):
                found = Path(folder) / file
                yield found.relative_to(root).as_posix(), found


def write_modules(code: Code, run_dir: Path) -> None:
    """Put the modules where the worker of the container with this run folder imports them from."""
    for below, content in code.modules.items():
        target = run_dir / MODULES / below
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def is_local(module: Any) -> bool:
    """Whether ``module`` is the user's own, beside the notebook or script, and not installed
    anywhere.
    """
    # Asked of every module there is, each time a cell runs: `is_foreign` remembers its answers.
    if not isinstance(module, types.ModuleType) or module.__name__ == "__main__":
        return False
    # Some extension modules call themselves otherwise than they are imported as (scipy's _uarray):
    # nothing could refer to them by that name.
    if sys.modules.get(module.__name__) is not module:
        return False
    return bool(getattr(module, "__file__", None)) and not is_foreign(module)
