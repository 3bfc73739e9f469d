"""A folder that only this user can change: created and checked from the root folder down.

Files in the state folder are run as code and trusted as records. Another user who can write into
the folder, or replace it, could run code as this user. So each folder on the path is opened without
following links and checked after it is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from lifecycle_magic.exception import EngineError

__all__ = ["open_safely"]

_MAX_LINKS = 40  # as path_resolution(7)
_OPEN_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ELSEWHERE = "export LIFECYCLE_MAGIC_STATE=/a/folder/of/yours"


def open_safely(path: Path) -> tuple[str, ...]:
    """Create ``path`` and its missing parents with mode 0700, and check who may write there.

    Returns warnings: a sentence for each parent folder that other members of a group may write.
    Raises `EngineError` that names the folder, the problem and the command that fixes it.
    """
    try:
        with _walk(path) as (folder, place, warnings):
            _check_own(path, os.fstat(folder))
            if not os.access(place, os.W_OK | os.X_OK):
                raise _error(path, path, "can't be written", f"chmod 700 {_quoted(path)}")
    except OSError as error:
        raise _impossible(path, error) from None
    return tuple(warnings)


@contextlib.contextmanager
def _walk(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Open the folder at ``path`` and check every folder above it."""
    warnings: list[str] = []
    waiting = list(reversed(path.parts[1:]))
    links = 0
    place = path.anchor
    folder = os.open(place, _OPEN_FLAGS)
    try:
        while waiting:
            _check_parent(path, place, os.fstat(folder), warnings)
            name = waiting.pop()
            target = _link(path, place, name, folder)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                waiting.extend(reversed([part for part in target.split("/") if part]))
                if not target.startswith("/"):
                    continue
                inner, place = os.open("/", _OPEN_FLAGS), "/"
            else:
                there = os.path.normpath(os.path.join(place, name))
                inner = _enter(name, folder, there)
                place = there
            os.close(folder)
            folder = inner
        yield folder, place, warnings
    finally:
        os.close(folder)


def _link(path: Path, place: str, name: str, folder: int) -> str | None:
    """Return the target of the entry ``name`` if it is a link, otherwise None."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(found.st_mode):
        return None
    if found.st_uid not in (os.geteuid(), 0):
        where = os.path.join(place, name)
        raise _error(path, where, f"is a link of {_user(found.st_uid)}", ELSEWHERE)
    return os.readlink(name, dir_fd=folder)


def _enter(name: str, folder: int, place: str) -> int:
    """Open the folder ``name`` at ``place``; create it for this user alone if it is missing."""
    try:
        try:
            return os.open(name, _OPEN_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another kernel was faster
                os.mkdir(name, 0o700, dir_fd=folder)
                os.chmod(name, 0o700, dir_fd=folder)  # an odd umask takes rights from the owner
            return os.open(name, _OPEN_FLAGS, dir_fd=folder)
    except OSError as error:
        error.filename = place
        raise


def _check_parent(path: Path, place: str, found: os.stat_result, warnings: list[str]) -> None:
    """Raise `EngineError` if another user may rename entries of ``place``."""
    if found.st_uid not in (os.geteuid(), 0) and not _is_unmapped(found.st_uid):
        raise _error(path, place, f"belongs to {_user(found.st_uid)}", ELSEWHERE)
    if found.st_mode & stat.S_ISVTX:
        return  # only the owner of an entry may rename it
    if found.st_mode & stat.S_IWOTH:
        problem = "may be written by every user of this machine"
        raise _error(path, place, problem, _command(found, f"chmod o-w {_quoted(place)}"))
    if found.st_mode & stat.S_IWGRP and (others := _others(found.st_gid)):
        warnings.append(
            f"{place}, in which the state folder {path} lies, may be written by "
            f"{', '.join(others[:3])}{', ...' if others[3:] else ''} too, who could replace it. "
            f"Fix: {_command(found, f'chmod g-w {_quoted(place)}')}"
        )


def _check_own(path: Path, found: os.stat_result) -> None:
    """Raise `EngineError` unless this user alone may read and write the state folder."""
    quoted = _quoted(path)
    if found.st_uid != os.geteuid():
        raise _error(path, path, f"belongs to {_user(found.st_uid)}", ELSEWHERE)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "could be written by other users, so what lies there can't be trusted"
        raise _error(path, path, problem, f"mv {quoted} {_quoted(f'{path}.untrusted')}")
    if found.st_mode & 0o077:
        raise _error(path, path, "can be read by other users", f"chmod 700 {quoted}")


def _others(group: int) -> list[str]:
    """Return the names of the group's members, without this user and root."""
    import grp
    import pwd

    known = {one.pw_uid: one.pw_name for one in pwd.getpwall() if one.pw_gid == group}
    members = {name for uid, name in known.items() if uid not in (os.geteuid(), 0)}
    try:
        found = grp.getgrgid(group)
    except KeyError:
        return sorted(members)
    trusted = {"root", *(one.pw_name for one in pwd.getpwall() if one.pw_uid == os.geteuid())}
    return sorted((members | set(found.gr_mem)) - trusted)


def _is_unmapped(uid: int) -> bool:
    """Return whether ``uid`` stands for users outside of this user namespace, such as their
    root.
    """
    try:
        with open("/proc/sys/kernel/overflowuid") as file:
            overflow = int(file.read())
        with open("/proc/self/uid_map") as file:
            whole = file.read().split() == ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return False
    return uid == overflow and not whole


def _user(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _command(found: os.stat_result, command: str) -> str:
    mine = os.geteuid() in (found.st_uid, 0)
    return command if mine else f"sudo {command}, or {ELSEWHERE}"


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def _error(path: Path, place: Path | str, problem: str, fix: str) -> EngineError:
    where = "" if str(place) == str(path) else f" in which the state folder {path} lies,"
    comma = "," if where else ""
    return EngineError(f"the folder {place}{comma}{where} {problem}. Fix: {fix}")


def _impossible(path: Path, error: OSError) -> EngineError:
    """Return the error for a state folder that can't be created or opened."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        problem = f"{error.filename or path} is not a folder"
    else:
        problem = f"{os.strerror(error.errno or 0)} ({error.filename or path})"
    fix = ELSEWHERE
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = f"free some space on that disk, or {ELSEWHERE}"
    return EngineError(f"the state folder {path} can't be used: {problem}. Fix: {fix}")
