"""The user that the worker becomes: an image's ``USER``, or the kernel's own user.

Process 1 stays root. The kernel's user keeps root's right to write everywhere, as ambient
capabilities (capabilities(7)): files that it creates in a mounted folder are the user's own, and
the image's folders stay writable.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import Any, NamedTuple

from lifecycle_magic.exception import StartError
from lifecycle_magic.wire.host_settings import Account

_CHOWN, _DAC_OVERRIDE, _FOWNER = 0, 1, 3  # linux/capability.h
_KEPT = (_CHOWN, _DAC_OVERRIDE, _FOWNER)
_VERSION_3 = 0x20080522
_SET_DUMPABLE, _SET_KEEPCAPS, _SET_SECUREBITS, _CAP_AMBIENT = 4, 8, 28, 47  # linux/prctl.h
_AMBIENT_RAISE = 2
_NO_SETUID_FIXUP = 1 << 2  # linux/securebits.h


class _Ids(NamedTuple):
    uid: int
    gid: int
    groups: list[int]
    home: str


def switch_user(account: Account, folders: tuple[str, ...]) -> None:
    """Make this process the user of ``account``, and give root's ``folders`` to that user.

    A build hook stays root and gets the user's home folder. Raises `StartError` if there is no such
    user or group.
    """
    ids = _resolve(account)
    if not account.keeps_rights:
        _set_home(ids)
    if account.hook or (ids.uid == 0 and ids.gid == 0):
        return
    if account.keeps_rights:
        _add_entries(ids, account.login)
    for folder in () if account.keeps_rights else folders:
        if os.stat(folder).st_uid == 0:
            os.chown(folder, ids.uid, ids.gid)
    for stream in (1, 2):  # programs open /dev/stdout and /dev/stderr
        os.fchown(stream, ids.uid, ids.gid)
    os.setgroups(ids.groups)
    if account.keeps_rights:
        _set_ids_and_keep_rights(ids)
    else:
        _set_ids(ids)


def _resolve(account: Account) -> _Ids:
    """Look up a user as Docker does: a number needs no entry, a name does."""
    user, colon, group = account.user.partition(":")
    entry = _entry(pwd.getpwnam, pwd.getpwuid, user)
    if entry is None and not user.isdecimal():
        raise _missing(account, f"no user {user!r}", "/etc/passwd")
    uid = int(user) if entry is None else entry.pw_uid
    gid = 0 if entry is None else entry.pw_gid
    home = entry.pw_dir if entry is not None else "/"
    if not colon:
        groups = os.getgrouplist(entry.pw_name, gid) if entry is not None else [gid]
        return _Ids(uid, gid, groups, home)
    found = _entry(grp.getgrnam, grp.getgrgid, group)
    if found is None and not group.isdecimal():
        raise _missing(account, f"no group {group!r}", "/etc/group")
    gid = int(group) if found is None else found.gr_gid
    return _Ids(uid, gid, [gid], home)


def _entry(by_name: Any, by_number: Any, text: str) -> Any:
    for look_up, key in ((by_name, text), (by_number, int(text) if text.isdecimal() else -1)):
        try:
            return look_up(key)
        except (KeyError, OverflowError):
            continue
    return None


def _missing(account: Account, what: str, file: str) -> StartError:
    return StartError(
        f"the image's USER is {account.user!r}, and there is {what} in its {file}. "
        f"Fix: create it in the image, as in .run_commands('useradd --create-home NAME') before "
        "the USER instruction, or name one that exists"
    )


def _set_home(ids: _Ids) -> None:
    """Set HOME, unless the image set a home other than root's."""
    try:
        roots = pwd.getpwuid(0).pw_dir
    except KeyError:
        roots = "/root"
    if os.environ.get("HOME", roots) == roots:
        os.environ["HOME"] = ids.home


def _add_entries(ids: _Ids, login: str) -> None:
    """Name the user and its group where the image has no entry for their numbers."""
    if _entry(pwd.getpwnam, pwd.getpwuid, str(ids.uid)) is None:
        name = login if _is_free(pwd.getpwnam, login) else f"user{ids.uid}"
        home = os.environ.get("HOME", "/root")
        _append("/etc/passwd", f"{name}:x:{ids.uid}:{ids.gid}::{home}:/bin/sh\n")
    if _entry(grp.getgrnam, grp.getgrgid, str(ids.gid)) is None:
        name = login if _is_free(grp.getgrnam, login) else f"group{ids.gid}"
        _append("/etc/group", f"{name}:x:{ids.gid}:\n")


def _is_free(by_name: Any, login: str) -> bool:
    try:
        by_name(login)
    except KeyError:
        return bool(login)
    return False


def _append(path: str, line: str) -> None:
    with open(path, "a+") as file:
        file.seek(0)
        text = file.read()
        file.write(line if not text or text.endswith("\n") else f"\n{line}")
    os.chmod(path, 0o644)


# --- the system's calls ---------------------------------------------------------------------------


def _set_ids(ids: _Ids) -> None:
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    os.setresgid(ids.gid, ids.gid, ids.gid)
    os.setresuid(ids.uid, ids.uid, ids.uid)
    _libc().prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # otherwise /proc/self stays root's


def _set_ids_and_keep_rights(ids: _Ids) -> None:
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    libc = _libc()
    # With this bit access(2) includes the kept rights: pip, for example, uses it to find a folder.
    if libc.prctl(_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0) != 0:
        libc.prctl(_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresgid(ids.gid, ids.gid, ids.gid)
    os.setresuid(ids.uid, ids.uid, ids.uid)
    _set_capabilities(libc)
    for one in _KEPT:
        if libc.prctl(_CAP_AMBIENT, _AMBIENT_RAISE, one, 0, 0) != 0:
            raise StartError(
                "the container's kernel gives this user no ambient capabilities (Linux 4.3 has "
                "them). Fix: run the notebook as root, or mount a named volume"
            )
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def _set_capabilities(libc: Any) -> None:
    """Keep only the capabilities in `_KEPT`, inherited by children."""
    import ctypes

    mask = sum(1 << one for one in _KEPT)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable
    if libc.capset(header, data) != 0:
        raise StartError(f"capset failed: {os.strerror(ctypes.get_errno())}")


def _libc() -> Any:
    try:
        import ctypes
    except ImportError:
        raise StartError(
            "the image's Python has no ctypes, which a worker that is not root needs. "
            "Fix: use an image with a complete Python, such as Image.debian_slim()"
        ) from None
    return ctypes.CDLL(None, use_errno=True)
