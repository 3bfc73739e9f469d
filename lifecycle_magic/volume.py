"""Folders that outlive a container, or that a container shares with the host.

A `Volume` only names a folder; the engine finds or creates it when a container starts. What a
container writes is visible at once to every other user of the volume: there is nothing to commit or
reload.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from lifecycle_magic.checks import host_path, matches
from lifecycle_magic.exception import InvalidError

__all__ = ["Volume", "check_mount_path", "parse_mount"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# A mount there would break the container's own system, the guest or its run folder.
_RESERVED = ("/dev", "/proc", "/sys", "/run/lifecycle", "/opt/lifecycle_magic")
_SYSTEM = ("/", "/bin", "/etc", "/lib", "/lib64", "/opt", "/run", "/sbin", "/usr", "/var")


@dataclass(frozen=True)
class Volume:
    """A folder to mount into containers: `from_name`, `from_path` or `ephemeral`.

    >>> volumes = {"/weights": Volume.from_name("weights"), "/data": Volume.from_path(".")}
    """

    kind: Literal["named", "path", "ephemeral"]
    name: str | None = None
    path: Path | None = None
    create_if_missing: bool = True

    @classmethod
    def from_name(cls, name: str, *, create_if_missing: bool = True) -> Volume:
        """Return a volume that the engine keeps under ``name`` until it is pruned.

        It is created on first use. With ``create_if_missing=False`` a container starts only if the
        volume exists. Raises `InvalidError` for an invalid name.

        >>> Volume.from_name("weights")  # doctest: +ELLIPSIS
        Volume(kind='named', name='weights', ...)
        """
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

    @classmethod
    def ephemeral(cls) -> Volume:
        """Return a volume that is an empty folder on disk for each container, removed when it
        exits.

        >>> Volume.ephemeral().kind
        'ephemeral'
        """
        return cls("ephemeral")

    def commit(self) -> None:
        """Do nothing: writes are visible at once. It exists for code written for Modal."""

    def reload(self) -> None:
        """Do nothing: the writes of others are visible at once. It exists for code written for
        Modal.
        """

    def __str__(self) -> str:
        return {"named": str(self.name), "path": str(self.path), "ephemeral": "ephemeral"}[
            self.kind
        ]


def check_mount_path(path: str | os.PathLike[str]) -> str:
    """Return ``path`` normalised, as an absolute path at which a volume may be mounted.

    Raises `InvalidError` for a relative path and for one that the container itself needs.
    """
    text = str(path)
    if not text.startswith("/"):
        raise InvalidError(
            f"a volume is mounted at an absolute path in the container, not at {path!r}. "
            "Fix: write volumes={'/data': Volume.from_name('data')}"
        )
    if not text.isprintable() or ":" in text or ".." in PurePosixPath(text).parts:
        raise InvalidError(
            f"a volume can't be mounted at {text!r}. Fix: use a path without '..', ':' "
            "and control characters"
        )
    plain = "/" + "/".join(part for part in text.split("/") if part not in {"", "."})
    inside = any(plain == taken or plain.startswith(taken + "/") for taken in _RESERVED)
    if inside or plain in _SYSTEM:
        raise InvalidError(
            f"a volume can't be mounted at {plain!r}, which the container itself needs. "
            "Fix: choose another folder, such as '/data'"
        )
    return plain


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
        raise InvalidError(f"--volume {source}: there is no user {name[1:]!r} here") from None
