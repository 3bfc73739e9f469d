"""Folders that outlive a container, or that a container shares with the host.

A `Volume` only names a folder; the engine finds or creates it when a container starts. What a
container writes is visible at once to every other user of the volume: there is nothing to commit or
reload. Its files can be listed, read and written from the notebook.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from lifecycle_magic.callers.methods_with_aio import (
    WithAio,
    block_with_aio,
    items_with_aio,
    static_with_aio,
    with_aio,
)
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.checks import check_mount_path, host_path, matches
from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host.volume_entries import (
    FileEntry,
    FileEntryType,
    pattern_of,
    translated,
    type_of,
)
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import check_keywords, refuse_members
from lifecycle_magic.threads.blocking import run_in_thread

if TYPE_CHECKING:
    from lifecycle_magic.host.batch_upload import BatchUpload

__all__ = ["FileEntry", "FileEntryType", "Volume", "parse_mount"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _delete(name: str, *, allow_missing: bool = False, **of_modal: object) -> None:
    """Remove a named volume with all that is in it.

    Raises `NotFoundError` if there is none, unless ``allow_missing``; `InvalidError` while a
    container uses it.
    """
    check_keywords("Volume.delete", of_modal, ("name", "allow_missing"))
    _kernel("delete").delete(name, missing_ok=allow_missing)


def _rename(old_name: str, new_name: str, **of_modal: object) -> None:
    """Give a named volume another name. Raises `NotFoundError` and `InvalidError`."""
    check_keywords("Volume.rename", of_modal, ("old_name", "new_name"))
    _kernel("rename").rename(Volume.from_name(old_name).name, Volume.from_name(new_name).name)


def _ephemeral(
    client: object = None, environment_name: str | None = None, **of_modal: object
) -> Volume:
    """Return a volume that is an empty folder on disk for each container, removed when it exits.

    ``client`` and ``environment_name`` mean nothing here.

    >>> Volume.ephemeral().kind
    'ephemeral'
    """
    of_modal = {"client": client, "environment_name": environment_name, **of_modal}
    check_keywords("Volume.ephemeral", of_modal)
    return Volume("ephemeral")


@dataclass(frozen=True)
class Volume:
    """A folder to mount into containers: `from_name`, `from_path` or `ephemeral`.

    >>> volumes = {"/weights": Volume.from_name("weights"), "/data": Volume.from_path(".")}
    """

    kind: Literal["named", "path", "ephemeral"]
    name: str | None = None
    path: Path | None = None
    create_if_missing: bool = True
    is_read_only: bool = False

    @classmethod
    def from_name(cls, name: str, *, create_if_missing: bool = True, **of_modal: object) -> Volume:
        """Return a volume that the engine keeps under ``name`` until it is pruned.

        It is created on first use. With ``create_if_missing=False`` a container starts only if the
        volume exists. Raises `InvalidError` for an invalid name.

        >>> Volume.from_name("weights")  # doctest: +ELLIPSIS
        Volume(kind='named', name='weights', ...)
        """
        check_keywords("Volume.from_name", of_modal, ("create_if_missing",))
        if not matches(_NAME, name):
            fix = (
                f"for a folder of this machine write Volume.from_path({name!r})"
                if "/" in str(name)
                else "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
            )
            raise InvalidError(
                f"Volume.from_name({name!r}) is not a valid name of a volume. Fix: {fix}"
            )
        return cls("named", name=name, create_if_missing=create_if_missing)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Volume:
        """Return a volume that is a folder of this machine, read and written by both sides.

        A relative path starts at the current folder, ``~`` is the home folder. Raises
        `InvalidError` if the folder does not exist.

        >>> Volume.from_path(".").kind
        'path'
        """
        return cls._of_path(host_path("Volume.from_path", path))

    @classmethod
    def _of_path(cls, folder: Path) -> Volume:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise InvalidError(
                f"Volume.from_path: the folder {str(folder)!r} {what}. Fix: create the folder first"
            )
        return cls("path", path=folder.resolve())

    ephemeral: ClassVar[WithAio[..., Volume, Volume]]

    @with_aio
    def hydrate(self, client: object = None) -> Volume:
        """Return the volume: the engine finds or creates it when a container starts."""
        return self

    def read_only(self) -> Volume:
        """Return the same volume, which containers may only read."""
        return replace(self, is_read_only=True)

    def with_mount_options(self, *, read_only: bool = False, **of_modal: object) -> Volume:
        """Return the same volume, which containers may only read if ``read_only`` is true."""
        check_keywords("Volume.with_mount_options", of_modal, ("read_only",))
        return replace(self, is_read_only=bool(read_only))

    # --- files ---------------------------------------------------------------------------------

    @with_aio
    def listdir(self, path: str = "/", *, recursive: bool = False) -> list[FileEntry]:
        """Return what is in a folder of the volume; for a file, its own entry.

        ``path`` may hold ``*`` and ``**``. Paths of entries start at the volume's root, without a
        slash. Raises `NotFoundError` if there is no such file.

        >>> Volume.from_path(".").listdir("/")  # doctest: +SKIP
        [FileEntry(path='data.csv', type=<FileEntryType.FILE: 1>, mtime=1735689600, size=1024)]
        """
        return list(_entries(self, path, recursive))

    @items_with_aio
    def iterdir(self, path: str = "/", *, recursive: bool = True) -> Iterator[FileEntry]:
        """Yield what is in a folder of the volume and, unless ``recursive`` is false, below it."""
        return _entries(self, path, recursive)

    @items_with_aio
    def read_file(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file of the volume, in blocks of at most 1 MiB.

        Raises `NotFoundError` if there is no such file, `InvalidError` for a folder.

        >>> b"".join(Volume.from_path(".").read_file("data.csv"))  # doctest: +SKIP
        b'...'
        """
        return _blocks(self, path)

    @with_aio
    def read_file_into_fileobj(self, /, path: str, fileobj: BinaryIO, **of_modal: object) -> int:
        """Write the content of a file of the volume to an open binary file; return its length in
        bytes.
        """
        check_keywords("Volume.read_file_into_fileobj", of_modal, ("path", "fileobj"))
        return sum(fileobj.write(block) for block in _blocks(self, path))

    @with_aio
    def remove_file(self, path: str, recursive: bool = False) -> None:
        """Remove a file of the volume, and with ``recursive`` a folder with all that is in it."""
        with translated(str(self), "remove_file"):
            _open(self, "remove_file").remove(_inside("remove_file", path), recursive)

    @with_aio
    def copy_files(self, src_paths: Sequence[str], dst_path: str, recursive: bool = False) -> None:
        """Copy files within the volume, and with ``recursive`` folders too.

        If ``dst_path`` is a folder, they are copied into it; several files need one. Existing files
        are replaced, each at once as a whole.
        """
        if isinstance(src_paths, str):
            raise InvalidError(
                f"Volume.copy_files takes a list of paths. Fix: write [{src_paths!r}]"
            )
        sources = [_inside("copy_files", path) for path in src_paths]
        with translated(str(self), "copy_files"):
            target = _inside("copy_files", dst_path)
            _open(self, "copy_files").copy(sources, target, recursive)

    @block_with_aio
    def batch_upload(self, force: bool = False) -> BatchUpload:
        """Return a ``with`` block to which files of this machine are added; they are written at its
        end.

        Each file appears at once as a whole. Without ``force``, a file that exists raises
        `FileExistsError`, and nothing is written.

        >>> with Volume.from_name("data").batch_upload() as batch:  # doctest: +SKIP
        ...     batch.put_file("model.bin", "/models/model.bin")
        ...     batch.put_directory("./images", "/images")
        """
        from lifecycle_magic.host.batch_upload import BatchUpload

        files = _open(self, "batch_upload")

        def write(uploads: Any, paths: list[str]) -> None:
            with translated(str(self), "batch_upload"):
                files.write(uploads, force, paths)

        return BatchUpload(write)

    @with_aio
    def commit(self) -> None:
        """Do nothing: writes are visible at once. It exists for code written for Modal."""

    @with_aio
    def reload(self) -> None:
        """Do nothing: the writes of others are visible at once. It exists for code written for
        Modal.
        """

    delete = static_with_aio(_delete)
    rename = static_with_aio(_rename)

    def __enter__(self) -> Volume:
        """Make an ephemeral volume one that containers share, until the block ends."""
        if self.kind != "ephemeral":
            raise InvalidError(
                "`with` is only for Volume.ephemeral(), because other volumes stay. "
                "Fix: write volume = Volume.from_name(...)"
            )
        made = Volume.from_name(f"ephemeral-{secrets.token_hex(8)}")
        _kernel("ephemeral").create(made.name)
        _shared.append(made)
        return made

    def __exit__(self, *_: object) -> None:
        made = _shared.pop()
        with contextlib.suppress(InvalidError):  # a container still has it: prune removes it
            _kernel("ephemeral").delete(made.name, missing_ok=True)

    async def __aenter__(self) -> Volume:
        return await run_in_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await run_in_thread(self.__exit__)

    lookup = OldMember(looks_up)
    persisted = OldMember(looks_up)
    objects: ClassVar[VolumeObjects]

    def __str__(self) -> str:
        return {"named": str(self.name), "path": str(self.path), "ephemeral": "ephemeral"}[
            self.kind
        ]


_shared: list[Volume] = []
"""The volumes of ``with Volume.ephemeral()`` blocks that have not ended."""


class VolumeObjects:
    """The named volumes: `Volume.objects`."""

    @with_aio
    def list(self, /, *, max_objects: int | None = None, **of_modal: object) -> list[Volume]:
        """Return at most ``max_objects`` named volumes of the engines of this session."""
        check_keywords("Volume.objects.list", of_modal, ("max_objects",))
        names = list(_kernel("objects.list").names())
        return [Volume.from_name(name) for name in names[:max_objects]]

    @with_aio
    def create(self, /, name: str, *, allow_existing: bool = False, **of_modal: object) -> None:
        """Create a volume. Raises `InvalidError` if there is one, unless ``allow_existing``."""
        check_keywords("Volume.objects.create", of_modal, ("allow_existing",))
        Volume.from_name(name)
        kernel = _kernel("objects.create")
        if not allow_existing and name in kernel.names():
            raise InvalidError(
                f"Volume.objects.create: there is a volume {name!r} already. "
                "Fix: give another name, or allow_existing=True"
            )
        kernel.create(name)

    @with_aio
    def delete(self, /, name: str, *, allow_missing: bool = False, **of_modal: object) -> None:
        """Remove a named volume: see `Volume.delete`."""
        check_keywords("Volume.objects.delete", of_modal, ("allow_missing",))
        Volume.delete(name, allow_missing=allow_missing)


Volume.objects = VolumeObjects()
Volume.ephemeral = CallWithAio(_ephemeral, _ephemeral)
refuse_members(Volume)


def _kernel(method: str) -> Any:
    """Return the module that reaches volumes through their engines. Raises `InvalidError` inside of
    a container.
    """
    if not is_local():
        raise InvalidError(
            f"Volume.{method}: a container has no access to the engine. Fix: mount the volume "
            "(volumes={'/data': volume}), and use the files below that path"
        )
    # By its name: this module is imported in containers too, and they have no session.
    return importlib.import_module("lifecycle_magic.session.volume_files")


def _open(volume: Volume, method: str) -> Any:
    return _kernel(method).open_files(volume, f"Volume.{method}")


def _inside(method: str, path: object) -> str:
    from lifecycle_magic.host.batch_upload import checked_path

    return checked_path(f"Volume.{method}", path)


def _entries(volume: Volume, path: str, recursive: bool) -> Iterator[FileEntry]:
    start = _inside("listdir", path)
    pattern = None
    if "*" in start:
        pattern = pattern_of(start)
        start = start[: start.index("*")].rpartition("/")[0]
        recursive = True
    with translated(str(volume), "listdir"):
        found = _open(volume, "listdir").entries(start, recursive)
    for name, kind, at, size in found:
        if pattern is None or pattern.fullmatch(name):
            yield FileEntry(name, type_of(kind), int(at), size)


def _blocks(volume: Volume, path: str) -> Iterator[bytes]:
    with translated(str(volume), "read_file"):
        yield from _open(volume, "read_file").read(_inside("read_file", path))


def parse_mount(text: str, cwd: Path) -> tuple[str, Volume]:
    """Return the path in the container and the volume of the magic's ``--volume``.

    The argument is ``NAME:/path`` or ``FOLDER:/path``. A source that begins with ``.``, ``/`` or
    ``~``, or contains a ``/``, is a folder; relative folders start at ``cwd``.

    >>> parse_mount("weights:/weights", Path("/home/me"))[0]
    '/weights'
    """
    source, colon, target = text.rpartition(":")
    if not colon or not source or not target:
        raise InvalidError(
            f"--volume {text}: invalid volume. Fix: write NAME:/path or ./folder:/path, "
            "such as --volume weights:/weights"
        )
    path = check_mount_path(target)
    if source.startswith((".", "~")) or "/" in source:
        return path, Volume._of_path(host_path(f"--volume {text}", cwd / _expanded(source)))
    return path, Volume.from_name(source)


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:
        name = source.partition("/")[0]
        raise InvalidError(
            f"--volume {source}: there is no user {name[1:]!r} here. Fix: write the whole path"
        ) from None
