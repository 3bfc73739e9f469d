"""Folders that outlive a container, or that it shares with the host.

A `Volume` only says which folder is meant; the engine finds or makes it when a container starts.
What a container writes is there at once for everybody who has the volume: nothing has to be
committed or reloaded.
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

# What a mount there would break: the container's own system, the guest and its run folder.
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
        """A volume that is kept by the engine under ``name`` until it is pruned, made on first use.

        With ``create_if_missing=False`` a container that needs it starts only if it is there.
        """
        if not matches(_NAME, name):
            mend = (
                f"for a folder of this machine write Volume.from_path({name!r})"
                if "/" in str(name)
                else "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
            )
            raise InvalidError(f"Volume.from_name({name!r}) is no name of a volume: {mend}")
        return cls("named", name=name, create_if_missing=create_if_missing)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Volume:
        """A folder of this machine itself, seen and changed by both sides; it must be there.

        A relative path starts at the current folder, ``~`` is the home folder.
        """
        return cls._of_path(host_path("Volume.from_path", path))

    @classmethod
    def _of_path(cls, folder: Path) -> Volume:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is not there"
            raise InvalidError(
                f"Volume.from_path: the folder {str(folder)!r} {what}: make it first"
            )
        return cls("path", path=folder.resolve())

    @classmethod
    def ephemeral(cls) -> Volume:
        """An empty folder for each container, on disk, gone with it."""
        return cls("ephemeral")

    def commit(self) -> None:
        """Do nothing: what is written is there at once. For code written for Modal."""

    def reload(self) -> None:
        """Do nothing: what others wrote is there at once. For code written for Modal."""

    def __str__(self) -> str:
        return {"named": str(self.name), "path": str(self.path), "ephemeral": "ephemeral"}[
            self.kind
        ]


def check_mount_path(path: str | os.PathLike[str]) -> str:
    """``path`` as an absolute path in a container at which a volume may be mounted, normalised.

    Raises `InvalidError` for a relative path and for one that the container itself needs.
    """
    text = str(path)
    if not text.startswith("/"):
        raise InvalidError(
            f"a volume is mounted at an absolute path in the container, not at {path!r}: "
            "write it as in volumes={'/data': Volume.from_name('data')}"
        )
    if not text.isprintable() or ":" in text or ".." in PurePosixPath(text).parts:
        raise InvalidError(
            f"a volume can't be mounted at {text!r}: use a path without '..', ':' "
            "and control characters"
        )
    plain = "/" + "/".join(part for part in text.split("/") if part not in {"", "."})
    inside = any(plain == taken or plain.startswith(taken + "/") for taken in _RESERVED)
    if inside or plain in _SYSTEM:
        raise InvalidError(
            f"a volume can't be mounted at {plain!r}, which the container itself needs: "
            "choose a folder of its own, such as '/data'"
        )
    return plain


def parse_mount(text: str, cwd: Path) -> tuple[str, Volume]:
    """A mount as the magic's ``--volume`` takes it: ``NAME:/path`` or ``FOLDER:/path``.

    What begins with ``.``, ``/`` or ``~``, or has a ``/`` in it, is a folder; relative ones start
    at ``cwd``. Returns the path in the container and the volume.

    >>> parse_mount("weights:/weights", Path("/home/me"))[0]
    '/weights'
    """
    source, colon, target = text.rpartition(":")
    if not colon or not source or not target:
        raise InvalidError(
            f"--volume {text}: write it as NAME:/path or ./folder:/path, "
            "such as --volume weights:/weights"
        )
    path = check_mount_path(target)
    if source.startswith((".", "~")) or "/" in source:
        return path, Volume._of_path((cwd / Path(source).expanduser()).absolute())
    return path, Volume.from_name(source)
