"""A Python of this machine, added to an image that has none: ``add_python=``.

Its files are copied to ``/usr/local``. A Python that uv keeps can be moved to any Linux system;
another one runs where the image has the libraries that it needs, which is tried.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from lifecycle_magic.engines.docker import host_settings, image_python
from lifecycle_magic.engines.docker import progress as docker_progress
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.names import tag
from lifecycle_magic.engines.process import interpreters
from lifecycle_magic.engines.process.interpreters import Interpreter
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images import instructions

__all__ = ["add", "key_of"]

_LAYOUT = 1  # increase it when the same Python is laid out in another way
_LEFT_OUT = frozenset({"__pycache__", "test", "tests", "idlelib", "turtledemo", "doc", "man"})
# Where the libraries of uv's Pythons look for terminals.
_TERMINFO = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo"
_PIP = (
    "#!/usr/local/bin/python3\nimport sys\nfrom pip._internal.cli.main import main\n"
    "sys.exit(main())\n"
)


def key_of(base: str, version: str) -> str | None:
    """Return the key of the image ``base`` with this Python; None if this machine has no such
    Python.
    """
    python = interpreters.find_portable(version)
    return None if python is None else _key(base, python)


def _key(base: str, python: Interpreter) -> str:
    parts = ["add_python", _LAYOUT, base, python.digest_text]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def add(
    clients: Clients,
    base: str,
    version: str,
    find: Callable[[str], str | None],
    reporter: StepReporter,
) -> str:
    """Return the id of the image ``base`` with a Python of this version, built if need be.

    ``find`` returns the id of the image that was kept under a key. Raises `BuildError` if this
    machine has no such Python and can't fetch one, or if it does not run in the image.
    """
    key = key_of(base, version)
    if key is not None and (found := find(key)) is not None:
        return found
    reporter.report_start()
    try:
        python = interpreters.find_portable(version) or interpreters.fetch(
            version, lambda line: reporter.report_output(f"{line}\n")
        )
        made = _build(clients, base, python, _key(base, python))
    except BaseException:
        reporter.report_end("failed")
        raise
    reporter.report_end("done")
    return made


def _build(clients: Clients, base: str, python: Interpreter, key: str) -> str:
    what = f"add Python {python.version}"
    with tempfile.TemporaryFile() as archive, tempfile.TemporaryFile() as context:
        _pack(python, archive)
        text = f"FROM {base}\n{instructions.unpacked('python.tar', '/usr/local/')}\n"
        text += f"{instructions.env([('TERMINFO_DIRS', _TERMINFO)])}\n"
        if any(Path(python.prefixes[0]).glob("lib/libpython*.so*")):
            text += f"{instructions.run('ldconfig')}\n"  # uv's have the library built in
        with tarfile.open(fileobj=context, mode="w") as tar:
            _add_text(tar, "Dockerfile", text, 0o644)
            entry = tarfile.TarInfo("python.tar")
            entry.size = archive.tell()
            archive.seek(0)
            tar.addfile(entry, archive)
        context.seek(0)
        with clients.use(what) as api:
            stream = api.build(
                fileobj=context,
                custom_context=True,
                buildargs=host_settings.of_build()[0],
                rm=True,
                forcerm=True,
                decode=True,
            )
            made = docker_progress.follow_build(stream, what, None)
            if not image_python.runs_well(api, made):
                raise BuildError(
                    f"{what}: {python.path} does not run in the image, because it needs libraries "
                    f"that the image lacks. Fix: run uv python install {python.minor}, which gets "
                    "one that runs everywhere"
                )
            repository, _, name = tag(key).rpartition(":")
            api.tag(made, repository, name)
    return made


def _pack(python: Interpreter, archive: IO[bytes]) -> None:
    """Write the files of a Python as they lie below ``/usr/local``."""
    root = Path(python.prefixes[0])
    name = f"python{python.minor}"
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(python.path, f"bin/{name}", filter=_owned_by_root)
        for link in ("python3", "python"):
            entry = tarfile.TarInfo(f"bin/{link}")
            entry.type, entry.linkname = tarfile.SYMTYPE, name
            tar.addfile(entry)
        for pip in ("pip", "pip3"):
            _add_text(tar, f"bin/{pip}", _PIP, 0o755)
        for library in sorted(root.glob("lib/libpython*")):
            tar.add(library, f"lib/{library.name}", filter=_owned_by_root)
        for below in (f"lib/{name}", f"include/{name}"):
            if (root / below).is_dir():
                tar.add(root / below, below, filter=_kept)


def _add_text(tar: tarfile.TarFile, name: str, text: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    tar.addfile(entry, io.BytesIO(text.encode()))


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = entry.name.split("/")
    if "site-packages" in parts:
        # pip alone: what else is installed there belongs to this machine.
        below = parts[parts.index("site-packages") + 1 :]
        if below and below[0] != "pip" and not below[0].startswith("pip-"):
            return None
        return None if "__pycache__" in below else _owned_by_root(entry)
    return None if _LEFT_OUT & set(parts) else _owned_by_root(entry)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
