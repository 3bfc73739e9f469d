"""The code that travels into containers.

It has three parts: the guest as a folder, the user's class as bytes, and the modules next to the
notebook as files.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import marshal
import os
import pickletools
import struct
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint import source_names as sources
from lifecycle_magic.fingerprint.origin import is_foreign
from lifecycle_magic.host import temporary_names
from lifecycle_magic.host.paths import private_folder, state_root
from lifecycle_magic.wire.host_settings import MODULES

if TYPE_CHECKING:
    from lifecycle_magic.services import packing

PACKAGE = Path(__file__).parents[1]

MODULES_LIMIT_BYTES = 32 << 20
"""The most bytes of modules, with all files of their packages, that travel with a class."""

_MAIN = """\
import sys
from lifecycle_magic.guest.start import main
sys.exit(main(sys.argv[1]))
"""

_lock = threading.Lock()

_folders: dict[Path, Path] = {}
"""The guest's folder by the folder that it lies in."""


def guest_folder() -> Path:
    """Return the folder that is mounted into every container, and make it if need be.

    It holds this package, cloudpickle and ``__main__.py``, all compiled. There is one folder per
    content, below the state root. Containers with the kernel's minor release of Python use what
    the kernel's Python compiled; others compile it when they start. This process reads its own
    files once: that takes 10 ms, and a package that is upgraded meanwhile is not the one that runs
    here.
    """
    root = private_folder(state_root() / "guest")
    known = _folders.get(root)
    if known is None or not known.is_dir():
        known = _folders[root] = _make_guest_folder(root)
    return known


def _make_guest_folder(root: Path) -> Path:
    sources = dict(_sources())
    digest = hashlib.sha256(sys.version.encode() + _MAIN.encode())
    for name, path in sorted(sources.items()):
        digest.update(name.encode() + path.read_bytes())
    folder = root / digest.hexdigest()[:20]
    if folder.is_dir():
        return folder
    part = private_folder(folder.parent / temporary_names.temporary_name())
    for name, path in sources.items():
        _copy_compiled(path, part / name)
    (part / "__main__.py").write_text(_MAIN)
    part.chmod(0o755)
    try:
        part.rename(folder)
    except OSError:  # another kernel has made it meanwhile
        remove_tree(str(part))
    return folder


def _copy_compiled(path: Path, target: Path) -> None:
    """Copy a module and its compiled code.

    Most of the code is there already, compiled when the module was installed or first imported: to
    compile all of it again takes a second. An import notes the file's new place in it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    status = path.stat()
    source = path.read_bytes()
    target.write_bytes(source)
    code = _compiled(path, status) or marshal.dumps(
        compile(source, str(target), "exec", dont_inherit=True)
    )
    compiled = Path(importlib.util.cache_from_source(target))
    compiled.parent.mkdir(exist_ok=True)
    # Unchecked: the folder never changes, and file times in a container are unreliable.
    head = struct.pack("<4sL", importlib.util.MAGIC_NUMBER, 0b01)
    compiled.write_bytes(head + importlib.util.source_hash(source) + code)


def _compiled(path: Path, status: os.stat_result) -> bytes | None:
    """Return what Python keeps as the compiled code of a file of that status, if it is valid.

    PEP 552 describes the file: a magic number, flags, and the source's time and size.
    """
    try:
        kept = Path(importlib.util.cache_from_source(path)).read_bytes()
    except OSError:
        return None
    time, size = int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF
    head = struct.pack("<4sLLL", importlib.util.MAGIC_NUMBER, 0, time, size)
    return kept.removeprefix(head) if kept.startswith(head) else None


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
    """A class as bytes, and the files of the modules next to the notebook that it imports.

    ``modules`` maps a path, relative to the import folder, to the file's content. ``sizes`` maps
    each name that the class refers to, to the bytes that its value takes. ``functions`` are those
    that travel, and ``imports`` the names of ``modules``. ``left_behind`` are sentences about
    parts of loggers that can't travel.
    """

    cls: bytes
    modules: Mapping[str, bytes]
    sizes: Mapping[str, int] = field(default_factory=dict)
    functions: tuple[types.FunctionType, ...] = ()
    imports: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    @functools.cached_property
    def files_key(self) -> str:
        """A digest (hex) of the modules, by name and content."""
        digest = hashlib.sha256()
        for name, content in sorted(self.modules.items()):
            digest.update(hashlib.sha256(name.encode()).digest())
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def changed_files(self, new: Code) -> tuple[str, ...]:
        """Return the paths of files that ``new`` adds, changes or removes."""
        names = dict.fromkeys((*new.modules, *self.modules))
        return tuple(n for n in names if self.modules.get(n) != new.modules.get(n))


def pack(
    cls: type,
    modules: Mapping[str, str],
    *,
    python: str | None = "",
    variables: frozenset[str] = frozenset(),
) -> Code:
    """Return ``cls`` as it travels; ``modules`` maps names known to be needed to their files.

    ``python`` is the minor version in the container: by default this one, None if not known.
    ``variables`` are the environment variables that the class gives its containers.

    Definitions in the class's own module, the notebook or script, travel by value. Modules next to
    it travel as files, with their current content, and a package travels as a whole. The container
    imports them under their own names, so that relative imports, imports inside functions and
    ``isinstance`` mean the same on both sides. Installed packages are imported from the image.
    Raises `SerializationError` for values that can't be pickled, and `InvalidError` for a package
    that is too large.
    """
    packed = pack_class(cls, python=python, variables=variables)
    needed = dict(modules)
    for name in set().union(*map(_strings, (packed.data, *packed.apart))):
        module = sys.modules.get(name)
        if module is None or name == cls.__module__ or not is_local(module):
            continue
        if (path := origin.source_of(module)) is not None:
            needed[name] = path
    known = packed.sizes, packed.functions, tuple(needed), packed.left_behind
    return Code(packed.data, _files(needed), *known)


def pack_class(
    cls: type, *, python: str | None = "", variables: frozenset[str] = frozenset()
) -> packing.Packed:
    """Pickle ``cls``: definitions of its own module by value, all others by name."""
    import cloudpickle

    from lifecycle_magic.services import packing

    module = sys.modules.get(cls.__module__)
    with _lock, contextlib.ExitStack() as stack:
        if (
            module is not None
            and is_local(module)
            and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        ):
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        return packing.pack(cls, python=python, variables=variables)


def _strings(data: bytes) -> set[str]:
    """Return every string in a pickle; the names of the modules it refers to are among them."""
    found: set[str] = set()
    file = io.BytesIO(data)
    while file.tell() < len(data):
        found |= {value for _, value, _ in pickletools.genops(file) if isinstance(value, str)}
    return found


def _files(modules: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of these modules, of their packages, and of the modules they import."""
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
    if size > MODULES_LIMIT_BYTES:
        largest = max(found, key=lambda below: len(found[below]))
        raise InvalidError(
            "the modules next to the notebook that the class imports are too large: "
            f"{size >> 20} MiB with their packages' files, and at most "
            f"{MODULES_LIMIT_BYTES >> 20} MiB can travel. The largest file is {largest}. "
            "Fix: provide data as a volume (Volume.from_path) or in the image "
            "(Image.add_local_dir)"
        )
    return found


def _with_package(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield a module's file, or all files of its package, with paths relative to the import folder.

    A folder without ``__init__.py`` may hold anything, so only the module's own file is taken.
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
    """Write the modules into a container's run folder, from which its worker imports them.

    The files are written next to the run folder and then moved into it. A container that is
    already running may have put symbolic links into its run folder, and this function must not
    write through one.
    """
    if not code.modules:
        return
    part = private_folder(run_dir.with_name(f".{run_dir.name}.{MODULES}"))
    for below, content in code.modules.items():
        target = part / below
        private_folder(target.parent)
        target.write_bytes(content)
    for folder in (part, *(one for one in part.rglob("*") if one.is_dir())):
        folder.chmod(0o755)
    part.rename(run_dir / MODULES)


def is_local(module: Any) -> bool:
    """Return whether ``module`` is the user's own file, next to the notebook or script.

    An installed module is not local.
    """
    # Called for every loaded module each time a cell runs: `is_foreign` caches its answers.
    if not isinstance(module, types.ModuleType) or module.__name__ == "__main__":
        return False
    # Some extension modules have a `__name__` other than the one they are imported under (scipy's
    # _uarray): nothing could refer to them by that name.
    if sys.modules.get(module.__name__) is not module:
        return False
    return bool(getattr(module, "__file__", None)) and not is_foreign(module)
