"""The files of a volume: listed, read, written, copied and removed below one folder.

A container may change the folder at any time. So a path is resolved as if the folder were the root
of the file system, and what was resolved is opened part by part, without following a link: nothing
outside of the folder is ever reached.

Standard library only: the Docker engine runs the source of this module in a container.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

Entry = tuple[str, str, float, int]  # path, kind, mtime in seconds, size in bytes
Upload = tuple[BinaryIO, str, int]  # content, path, mode

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_CHUNK = 1 << 20
PART = ".lifecycle-part-"  # a file that is being written; never listed
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class VolumeFolder:
    """The files below the folder ``root``. Paths are relative to it, with ``/`` between parts.

    Methods raise `FileNotFoundError`, `FileExistsError`, `IsADirectoryError` and
    `NotADirectoryError` with the path as their message.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, path: str, recursive: bool) -> list[Entry]:
        """Return what is in a folder, sorted by path; for a file, its own entry."""
        parts = self._resolve(path, follow=True)
        found: list[Entry] = []
        if parts:
            with self._parent(parts, path) as folder:
                status = _status(parts[-1], folder, path)
            if not stat.S_ISDIR(status.st_mode):
                return [_entry("/".join(parts), status)]
        waiting = [parts]
        while waiting:
            here = waiting.pop()
            try:
                fd = self._open_folder(here, path)
            except OSError:
                if here is parts:
                    raise
                continue  # it is gone
            try:
                with os.scandir(fd) as names:
                    for one in names:
                        if one.name.startswith(PART):
                            continue
                        with contextlib.suppress(FileNotFoundError):
                            status = one.stat(follow_symlinks=False)
                            found.append(_entry("/".join([*here, one.name]), status))
                            if recursive and stat.S_ISDIR(status.st_mode):
                                waiting.append([*here, one.name])
            finally:
                os.close(fd)
        return sorted(found)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file, in blocks of at most 1 MiB."""
        with self._open(path) as file:
            while block := file.read(_CHUNK):
                yield block

    def locate(self, path: str) -> str:
        """Return the path of the file or folder that ``path`` leads to, without links in it."""
        parts = self._resolve(path, follow=True)
        if parts:
            with self._parent(parts, path) as folder:
                _status(parts[-1], folder, path)
        return "/".join(parts)

    def remove(self, path: str, recursive: bool) -> None:
        """Remove a file or a link, and with ``recursive`` a folder."""
        parts = self._resolve(path, follow=False)
        if not parts:
            raise IsADirectoryError(path)
        with self._parent(parts, path) as folder:
            if not stat.S_ISDIR(_status(parts[-1], folder, path).st_mode):
                os.unlink(parts[-1], dir_fd=folder)
                return
            if not recursive:
                raise IsADirectoryError(path)
            _remove_tree(parts[-1], folder)

    def copy(self, sources: Sequence[str], target: str, recursive: bool) -> None:
        """Copy files, and with ``recursive`` folders, to ``target``; into it if it is a folder."""
        into = self._is_folder(target)
        if len(sources) > 1 and not into:
            raise NotADirectoryError(target)
        for source in sources:
            name = self.locate(source).rpartition("/")[2]
            place = f"{target}/{name}" if into else target
            if not self._is_folder(source):
                with self._open(source) as file:
                    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                    self.write([(file, place, mode)], replace=True)
                continue
            if not recursive:
                raise IsADirectoryError(source)
            start = self.locate(source)
            for path, kind, _, _ in self.entries(source, True):
                below = f"{place}/{path[len(start) + 1 :] if start else path}"
                if kind == "folder":
                    self.make_folder(below)
                elif kind == "file":
                    with self._open(path) as file:
                        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                        self.write([(file, below, mode)], replace=True)
            self.make_folder(place)

    def write(self, uploads: Iterable[Upload], replace: bool, paths: Iterable[str] = ()) -> None:
        """Write files, each of which appears at once as a whole; missing folders are made.

        Without ``replace``, a file that exists raises `FileExistsError`; nothing is written if it
        is one of ``paths``, those of all uploads.
        """
        if not replace:
            self.refuse_existing(paths)
        for content, path, mode in uploads:
            parts = self._resolve(path, follow=replace)
            if not parts:
                raise IsADirectoryError(path)
            self._make(parts[:-1], path)
            with self._parent(parts, path) as folder:
                part = f"{PART}{secrets.token_hex(8)}"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(part, flags, 0o600, dir_fd=folder)
                try:
                    with open(fd, "wb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
                        os.fchmod(fd, mode)
                    _publish(part, folder, parts[-1], folder, path, replace)
                except BaseException:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part, dir_fd=folder)
                    raise

    def publish(self, staged: str, replace: bool) -> None:
        """Move the files ``0``, ``1``, ... of the folder ``staged`` to their paths, and remove it.

        Its file ``paths`` is a JSON list of the paths.
        """
        source = self._open_folder(self._resolve(staged, follow=False), staged)
        try:
            with self._open(f"{staged}/paths") as file:
                paths = json.load(file)
            if not replace:
                self.refuse_existing(paths)
            for number, path in enumerate(paths):
                parts = self._resolve(path, follow=replace)
                if not parts:
                    raise IsADirectoryError(path)
                self._make(parts[:-1], path)
                with self._parent(parts, path) as folder:
                    _publish(str(number), source, parts[-1], folder, path, replace)
        finally:
            os.close(source)
            self.remove(staged, True)

    def refuse_existing(self, paths: Iterable[str]) -> None:
        """Raise `FileExistsError` for the first of ``paths`` that exists."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self.locate(path)
                raise FileExistsError(path)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, unless they exist."""
        self._make(self._resolve(path, follow=True), path)

    # --- paths -----------------------------------------------------------------------------

    def _resolve(self, path: str, *, follow: bool) -> list[str]:
        """Return the parts of the path that ``path`` leads to; the last is followed if asked."""
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                done = done[:-1]
                continue
            here = os.path.join(self.root, *done, part)
            if (waiting or follow) and os.path.islink(here):
                links += 1
                if links > _MOST_LINKS:
                    raise FileNotFoundError(path)
                target = os.readlink(here)
                done = [] if target.startswith("/") else done
                waiting += [one for one in reversed(target.split("/")) if one not in ("", ".")]
            else:
                done.append(part)
        return done

    def _open_folder(self, parts: Sequence[str], path: str) -> int:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts:
            above = fd
            try:
                fd = os.open(part, _FOLDER, dir_fd=above)
            except FileNotFoundError:
                raise FileNotFoundError(path) from None
            except OSError:  # a file, or what has become a link
                raise NotADirectoryError(path) from None
            finally:
                os.close(above)
        return fd

    @contextlib.contextmanager
    def _parent(self, parts: Sequence[str], path: str) -> Iterator[int]:
        fd = self._open_folder(parts[:-1], path)
        try:
            yield fd
        finally:
            os.close(fd)

    def _make(self, parts: Sequence[str], path: str) -> None:
        for count in range(len(parts)):
            with (
                self._parent(parts[: count + 1], path) as folder,
                contextlib.suppress(FileExistsError),
            ):
                os.mkdir(parts[count], 0o755, dir_fd=folder)
        os.close(self._open_folder(parts, path))

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[BinaryIO]:
        parts = self._resolve(path, follow=True)
        if not parts:
            raise IsADirectoryError(path)
        with self._parent(parts, path) as folder:
            status = _status(parts[-1], folder, path)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(path)
            # A pipe without a writer would block, and what has become a link is no file.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(parts[-1], flags, dir_fd=folder)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileNotFoundError(path)
            yield file

    def _is_folder(self, path: str) -> bool:
        parts = self._resolve(path, follow=True)
        try:
            os.close(self._open_folder(parts, path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _status(name: str, folder: int, path: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise FileNotFoundError(path) from None


def _entry(path: str, status: os.stat_result) -> Entry:
    mode = status.st_mode
    kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"
    return path, "link" if stat.S_ISLNK(mode) else kind, status.st_mtime, status.st_size


def _publish(name: str, source: int, target: str, folder: int, path: str, replace: bool) -> None:
    try:
        if replace:
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=folder)
        else:  # unlike a rename, a link fails if the name is taken
            os.link(name, target, src_dir_fd=source, dst_dir_fd=folder)
            os.unlink(name, dir_fd=source)
    except FileExistsError:
        raise FileExistsError(path) from None
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            raise IsADirectoryError(path) from None
        raise


def _remove_tree(name: str, folder: int) -> None:
    for _, folders, files, fd in os.fwalk(
        name, topdown=False, follow_symlinks=False, dir_fd=folder
    ):
        for one in files:
            os.unlink(one, dir_fd=fd)
        for one in folders:
            try:
                os.rmdir(one, dir_fd=fd)
            except NotADirectoryError:  # a link to a folder
                os.unlink(one, dir_fd=fd)
    os.rmdir(name, dir_fd=folder)
