"""Named volumes of a Docker engine, and the files in them.

The engine may be on another machine, and its volumes belong to root. So what reads or changes files
runs in a short-lived container of Python's own image, with the volume at `_ROOT`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import secrets
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from lifecycle_magic.engines.docker.api import create_container, discard_container, removed
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.names import ROLE, VOLUME_PREFIX
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import volume_folder
from lifecycle_magic.host.volume_folder import PART, Entry, Upload

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["DockerVolume", "DockerVolumes"]

_ROOT = "/volume"
_OTHER = "/other"
_CHUNK = 1 << 20

_MAIN = """

def main():
    import sys
    method, *arguments = json.loads(sys.argv[1])
    try:
        outcome = {"value": getattr(VolumeFolder("/volume"), method)(*arguments)}
    except OSError as error:
        text = str(error) if error.errno is None else f"{error.strerror}: {error.filename}"
        outcome = {"error": type(error).__name__, "text": text}
    print(json.dumps(outcome))

main()
"""
_COPY = """
import json, shutil
shutil.copytree("/other", "/volume", symlinks=True, dirs_exist_ok=True)
print(json.dumps({"value": None}))
"""
_ERRORS: dict[str, type[OSError]] = {
    one.__name__: one
    for one in (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
}


class DockerVolumes:
    """The named volumes of the engine that ``clients`` talk to.

    ``image`` returns the id of an image with Python, which is pulled if it is missing.
    """

    def __init__(self, clients: Clients, image: Callable[[], str]) -> None:
        self._clients = clients
        self._image = image

    def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""
        with self._clients.use("list the volumes") as api:
            found = api.volumes(filters={"label": f"{ROLE}=volume"})["Volumes"] or ()
        ours = (one["Name"] for one in found if one["Name"].startswith(VOLUME_PREFIX))
        names = (name.removeprefix(VOLUME_PREFIX) for name in ours)
        return sorted(name for name in names if not name.startswith("."))  # uv's cache

    def exists(self, name: str) -> bool:
        """Return whether there is a volume of this name."""
        import docker.errors

        with self._clients.use(f"look for the volume {name}") as api:
            try:
                api.inspect_volume(VOLUME_PREFIX + name)
            except docker.errors.NotFound:
                return False
        return True

    def create(self, name: str) -> None:
        """Create a volume unless there is one."""
        with self._clients.use(f"create the volume {name}") as api:
            api.create_volume(VOLUME_PREFIX + name, labels={ROLE: "volume"})

    def open(self, name: str) -> DockerVolume:
        """Return the files of an existing volume."""
        return DockerVolume(self._clients, self._image, VOLUME_PREFIX + name)

    def remove(self, name: str) -> bool:
        """Remove a volume and its content; return False if it is in use or does not exist."""
        with self._clients.use(f"remove the volume {name}") as api:
            return removed(api.remove_volume, VOLUME_PREFIX + name)

    def rename(self, name: str, new: str) -> bool:
        """Rename a volume, which copies its content; return False if it is in use."""
        with self._clients.use(f"rename the volume {name}") as api:
            if api.containers(all=True, filters={"volume": VOLUME_PREFIX + name}):
                return False
        self.create(new)
        self.open(new).copy_from(VOLUME_PREFIX + name)
        return self.remove(name)


class DockerVolume:
    """The files of the volume that the engine calls ``name``: see `VolumeFolder`."""

    def __init__(self, clients: Clients, image: Callable[[], str], name: str) -> None:
        self._clients = clients
        self._image = image
        self._name = name

    def entries(self, path: str, recursive: bool) -> list[Entry]:
        """Return what is in a folder, sorted by path; for a file, its own entry."""
        found = self._call("entries", path, recursive)
        return [(str(name), str(kind), float(at), int(size)) for name, kind, at, size in found]

    def remove(self, path: str, recursive: bool) -> None:
        """Remove a file or a link, and with ``recursive`` a folder."""
        self._call("remove", path, recursive)

    def copy(self, sources: Sequence[str], target: str, recursive: bool) -> None:
        """Copy files, and with ``recursive`` folders, to ``target``; into it if it is a folder."""
        self._call("copy", list(sources), target, recursive)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file, in blocks of at most 1 MiB."""
        with self._container("locate", path) as (api, container):
            place = _run(api, container)
            stream, about = api.get_archive(container, f"{_ROOT}/{place}")
            if about["mode"] & (1 << 31):  # of Go's os.FileMode
                raise IsADirectoryError(path)
            with tarfile.open(fileobj=cast("IO[bytes]", _Stream(stream)), mode="r|") as tar:
                file = next((tar.extractfile(one) for one in tar if one.isfile()), None)
                while file is not None and (block := file.read(_CHUNK)):
                    yield block

    def write(self, uploads: Iterable[Upload], replace: bool, paths: Iterable[str] = ()) -> None:
        """Write files, each of which appears at once as a whole; missing folders are made.

        Without ``replace`` an existing file raises `FileExistsError`, and nothing is written.
        """
        staged = f"{PART}{secrets.token_hex(8)}"
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
                folder = tarfile.TarInfo(staged)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(folder)
                written: list[str] = []
                for content, path, mode in uploads:
                    _add(tar, content, f"{staged}/{len(written)}", mode)
                    written.append(path)
                _add(tar, io.BytesIO(json.dumps(written).encode()), f"{staged}/paths", 0o600)
            archive.seek(0)
            with self._container("publish", staged, replace) as (api, container):
                api.put_archive(container, _ROOT, archive)
                _run(api, container)

    def copy_from(self, other: str) -> None:
        """Copy the whole content of the volume that the engine calls ``other``."""
        words = ["python3", "-I", "-c", _COPY]
        with self._created(words, {_OTHER: other}) as (api, container):
            _run(api, container)

    def _call(self, method: str, *arguments: Any) -> Any:
        with self._container(method, *arguments) as (api, container):
            return _run(api, container)

    def _container(
        self, method: str, *arguments: Any
    ) -> contextlib.AbstractContextManager[tuple[APIClient, str]]:
        code = inspect.getsource(volume_folder) + _MAIN
        return self._created(["python3", "-I", "-c", code, json.dumps([method, *arguments])])

    @contextlib.contextmanager
    def _created(
        self, words: Sequence[str], others: dict[str, str] | None = None
    ) -> Iterator[tuple[APIClient, str]]:
        """Create a container that has the volume, and remove it after the block."""
        name = f"lm-volume-{secrets.token_hex(6)}"  # by its name: an interrupt may lose the id
        mounts = [
            {"Type": "volume", "Source": source, "Target": target}
            for target, source in {_ROOT: self._name, **(others or {})}.items()
        ]
        body = {
            "Image": self._image(),
            "Entrypoint": list(words),
            "Cmd": [],
            "Labels": {ROLE: "container"},
            "NetworkDisabled": True,
            "HostConfig": {"Mounts": mounts},
        }
        try:
            with self._clients.use("open a volume") as api:
                create_container(api, body, name)
                yield api, name
        finally:
            discard_container(self._clients, name)


def _run(api: APIClient, container: str) -> Any:
    """Run the container and return what it answers; raises the error that it reports."""
    stream: Iterator[bytes] = api.attach(container, stdout=True, stderr=False, stream=True)
    api.start(container)
    answer = b"".join(stream)
    try:
        outcome = json.loads(answer)
    except ValueError:
        log = api.logs(container, stdout=False).decode(errors="replace")
        raise EngineError(f"the files of the volume can't be reached: {log[-500:]}") from None
    if "error" in outcome:
        raise _ERRORS.get(outcome["error"], EngineError)(outcome["text"])
    return outcome["value"]


def _add(tar: tarfile.TarFile, content: IO[bytes], name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    try:
        entry.size = os.fstat(content.fileno()).st_size - content.tell()
        tar.addfile(entry, content)
    except (OSError, AttributeError):  # a stream that is no file: its length is unknown
        with tempfile.SpooledTemporaryFile(_CHUNK) as whole:
            while block := content.read(_CHUNK):
                whole.write(block)
            entry.size = whole.tell()
            whole.seek(0)
            tar.addfile(entry, cast("IO[bytes]", whole))


class _Stream:
    """The blocks of an answer, to be read like a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end."""
        while len(self._rest) < size and (block := next(self._blocks, b"")):
            self._rest += block
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
