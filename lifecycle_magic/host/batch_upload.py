"""Files of this machine to be written to a volume together: `Volume.batch_upload`."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host.volume_folder import Upload
from lifecycle_magic.threads.blocking import run_in_thread

__all__ = ["BatchUpload", "checked_path"]

_MODE = 0o644


class BatchUpload:
    """Files that are written when the ``with`` block ends, and not at all if it raises.

    ``write`` gets the files, opened one after the other.
    """

    def __init__(self, write: Callable[[Iterator[Upload], list[str]], None]) -> None:
        self._write = write
        self._files: list[tuple[Path | BinaryIO, str, int | None]] = []

    def put_file(
        self,
        local_file: str | os.PathLike[str] | BinaryIO | io.BytesIO,
        remote_path: str | os.PathLike[str],
        mode: int | None = None,
    ) -> None:
        """Add a file of this machine, or an open binary file, under ``remote_path``.

        A path that ends in ``/`` is a folder for it. ``mode`` are its permissions, by default those
        of the local file. Raises `InvalidError` if there is no such file.
        """
        call = "Volume.batch_upload().put_file"
        target = os.fspath(remote_path)
        if not isinstance(local_file, str | os.PathLike):
            if not hasattr(local_file, "read"):
                raise InvalidError(f"{call} takes a path or an open binary file")
            self._files.append((local_file, checked_path(call, target), mode))
            return
        source = Path(local_file).expanduser().absolute()
        if not source.is_file():
            raise InvalidError(f"{call}: there is no file {str(source)!r}. Fix: check the path")
        if target.endswith("/"):
            target += source.name
        self._files.append((source, checked_path(call, target), mode))

    def put_directory(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | os.PathLike[str],
        recursive: bool = True,
    ) -> None:
        """Add the files of a folder of this machine, by default those of folders in it too.

        Links to files are followed; links to folders are not. Raises `InvalidError` if there is no
        such folder.
        """
        call = "Volume.batch_upload().put_directory"
        source = Path(local_path).expanduser().absolute()
        if not source.is_dir():
            raise InvalidError(f"{call}: there is no folder {str(source)!r}. Fix: check the path")
        target = checked_path(call, os.fspath(remote_path))
        for folder, names, files in os.walk(source):
            names.sort()
            below = Path(folder).relative_to(source).as_posix()
            for name in sorted(files):
                if (Path(folder) / name).is_file():
                    path = "/".join(part for part in (target, below, name) if part != ".")
                    self._files.append((Path(folder) / name, checked_path(call, path), None))
            if not recursive:
                break

    def __enter__(self) -> BatchUpload:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None and self._files:
            self._write(self._opened(), [path for _, path, _ in self._files])

    async def __aenter__(self) -> BatchUpload:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        await run_in_thread(lambda: self.__exit__(kind))

    def _opened(self) -> Iterator[Upload]:
        for source, path, mode in self._files:
            if isinstance(source, Path):
                with source.open("rb") as file:
                    own = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                    yield file, path, own if mode is None else mode
            else:
                with contextlib.suppress(OSError, AttributeError):
                    source.seek(0)
                yield source, path, _MODE if mode is None else mode


def checked_path(call: str, path: object) -> str:
    """Return a path in a volume without its leading slash. Raises `InvalidError`.

    >>> checked_path("Volume.listdir", "/models/a")
    'models/a'
    """
    if not isinstance(path, str):
        raise InvalidError(f"{call} takes a path in the volume as a string, not {path!r}")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise InvalidError(
            f"{call}: {path!r} leads out of the volume. Fix: name a path without '..'"
        )
    return "/".join(parts)
