"""``export --dockerfile DIR``: a folder from which any engine builds an image that serves a script.

It is written by a process of its own, which imports the script: its images are Python objects, and
the notebook's classes of the same names go on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cloudpickle

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.function import Function
from lifecycle_magic.images import dockerfile_text
from lifecycle_magic.images.image import Image
from lifecycle_magic.spec.class_spec import ClassSpec

__all__ = ["write"]

_MARK = "# Exported by lifecycle_magic; the next export replaces it.\n"
_PACKAGE = Path(__file__).resolve().parents[2]
_PORT = 8000
_STOP_SECONDS = 35  # the grace of exit and a little more

_SERVER = '''\
"""Serves the classes of {script} over HTTP: ``enter`` at the start, ``exit`` at SIGTERM."""

import os
import signal
import sys

# Process 1 ignores SIGTERM until it has a handler, and importing the script may take long.
signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))

import {module} as script
from lifecycle_magic.ui.export.container_server import build, serve

if "--build" in sys.argv:
    build(script)
else:
    sys.exit(serve(script, port={port}))
'''


def write(script: Path, folder: Path) -> str:
    """Write the folder for a script that was exported, and return the commands to use it.

    Raises `InvalidError` if the script can't be imported, or if its image can't be a Dockerfile.
    """
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise InvalidError(
            f"export: {folder} has files that were not exported. Fix: name another folder"
        )
    command = [sys.executable, "-m", __name__, str(script.absolute()), str(folder.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=script.absolute().parent)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InvalidError(f"export: {lines[-1].partition('InvalidError: ')[2] or lines[-1]}")
    return done.stdout.rstrip()


def _is_ours(folder: Path) -> bool:
    file = folder / "Dockerfile"
    return file.is_file() and file.read_text(errors="replace").startswith(_MARK)


def _write_here(script: Path, folder: Path) -> str:
    """Import the script in this process, and write the folder."""
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    before = set(sys.modules)
    spec.loader.exec_module(module)
    specs = [
        (one if isinstance(one, Cls) else one._cls)._spec
        for one in vars(module).values()
        if isinstance(one, (Cls, Function))
    ]
    image = _image(specs)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    shutil.copyfile(script, folder / script.name)
    for path in _local_modules(set(sys.modules) - before, script.parent):
        _copy(path, folder / path.name)
    for package in (_PACKAGE, Path(cloudpickle.__file__).parent):
        _copy(package, folder / package.name)
    server = _SERVER.format(script=script.name, module=script.stem, port=_PORT)
    (folder / "server.py").write_text(server)
    text = _MARK + dockerfile_text.of_server(
        image, _environment(specs), _PORT, builds=any(one.build for one in specs)
    )
    dockerfile_text.copy_files(image, folder)
    (folder / "Dockerfile").write_text(text)
    return _commands(script.stem, folder, specs)


def _image(specs: Sequence[ClassSpec]) -> Image:
    """Return the image of all classes. Raises `InvalidError` if they have several."""
    for one in specs:
        one.arguments((), {})  # raises for a class that can't be made without
    images = {repr(one.options.image): one.options.image for one in specs}
    if len(images) != 1:
        names = ", ".join(one.name for one in specs)
        raise InvalidError(
            f"{names} have {len(images)} images. Fix: export them one by one, to a folder each"
        )
    (image,) = images.values()
    return image or Image.debian_slim()


def _environment(specs: Iterable[ClassSpec]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in specs:
        found.update(one.options.env or {})
    return found


def _local_modules(names: Iterable[str], folder: Path) -> list[Path]:
    """Return the modules and packages next to the script that it imports."""
    found = set()
    for name in {name.partition(".")[0] for name in names}:
        file = getattr(sys.modules.get(name), "__file__", None)
        path = Path(file) if file else None
        if path is not None and path.name == "__init__.py":
            path = path.parent
        if path is not None and path.parent == folder:
            found.add(path)
    return sorted(found)


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copyfile(path, to)


def _commands(name: str, folder: Path, specs: Sequence[ClassSpec]) -> str:
    """Return the commands that build, run, call and stop the image, with the classes' options."""
    flags = ["-p", f"{_PORT}:{_PORT}", "--stop-timeout", str(_STOP_SECONDS)]
    for one in specs:
        options = one.options
        flags += ["--cpus", f"{options.cpu:g}"] if options.cpu else []
        flags += ["--memory", f"{options.memory}m"] if options.memory else []
        flags += ["--gpus", "all"] if options.gpu else []
        for secret in options.secrets:
            flags += [flag for key in secret.names() for flag in ("-e", key)]
        for path, volume in options.volumes.items():
            source = getattr(volume, "name", None) or getattr(volume, "path", None)
            flags += ["-v", f"{source}:{path}"]
    first = specs[0]
    method = next(iter(first.methods))
    path = first.name if first.is_function else f"{first.name}/{method}"
    parameters = first.methods[method].signature.parameters.values()
    body = json.dumps({one.name: 1 for one in parameters if one.default is one.empty})
    return "\n".join(
        [
            f"wrote {folder}: Dockerfile, server.py and what they need",
            f"docker build -t {name} {shlex.quote(str(folder))}",
            f"docker run --name {name} {shlex.join(flags)} {name}",
            f"curl -d {shlex.quote(body)} http://localhost:{_PORT}/{path}",
            f"docker stop {name}    # runs exit",
        ]
    )


if __name__ == "__main__":
    try:
        print(_write_here(Path(sys.argv[1]), Path(sys.argv[2])))
    except InvalidError as error:
        print(f"InvalidError: {' '.join(str(error).split())}", file=sys.stderr)
        os._exit(1)
