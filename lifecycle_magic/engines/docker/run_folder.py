"""The removal of folders that a container's root left in its run folder.

The run folder belongs to the kernel's user, who may unlink any file in it, but who can't empty a
folder of root's. The engine can: an archive that it unpacks in the ended container replaces a
folder by a file.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.launch import RUN
from lifecycle_magic.guest import end_report
from lifecycle_magic.host.run_files import MAX_BYTES

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["foreign_folders", "kept_report", "replace_folders"]

MAX_FOLDERS = 1000
"""Folders that are looked at. The engine removes what has more of them."""


def foreign_folders(run_dir: Path) -> list[str]:
    """Return the names of the folders in ``run_dir`` that this user can't remove."""
    if os.geteuid() == 0:
        return []
    try:
        with os.scandir(run_dir) as entries:
            folders = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [name for name in folders if _has_foreign(f"{run_dir}/{name}")]


def replace_folders(api: APIClient, container: str, names: list[str]) -> None:
    """Have the engine replace folders in the run folder of an ended container by empty files."""
    archive = io.BytesIO()
    # Names are any bytes: this format has them as they are.
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name))
    api.put_archive(container, RUN, archive.getvalue())


def kept_report(clients: Clients, container: str) -> bytes:
    """Return the report that an ended container could not send, or nothing."""
    import docker.errors

    data = bytearray()
    with clients.use("read the report of a container") as api:
        try:
            for chunk in api.get_archive(container, end_report.KEPT)[0]:
                data += chunk
                if len(data) > MAX_BYTES:  # code in a container may write there too
                    return b""
        except docker.errors.APIError:  # there is none
            return b""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            return file.read() if file is not None else b""
    except (tarfile.TarError, KeyError):
        return b""


def _has_foreign(top: str) -> bool:
    """Return whether a folder, or one in it, belongs to another user or can't be looked at."""
    waiting, seen = [top], 0
    while waiting:
        folder = waiting.pop()
        seen += 1
        try:
            if seen > MAX_FOLDERS or os.lstat(folder).st_uid != os.geteuid():
                return True
            with os.scandir(folder) as entries:
                waiting += [one.path for one in entries if one.is_dir(follow_symlinks=False)]
        except OSError:
            return True
    return False
