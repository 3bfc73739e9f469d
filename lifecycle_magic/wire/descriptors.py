"""File descriptors: the limit of this process, a reserve, and the error if none is left.

The kernel raises its soft limit when it opens a session. Most systems set that limit to 1,024 for
programs that use ``select(2)``, which handles no descriptor above 1,023, and let other programs
raise it up to the hard limit. `ENOUGH` bounds it, because some programs that the kernel may start
close every descriptor up to the limit.

A container keeps the limit that the kernel was started with, so that code which reads its limit, or
uses ``select``, gets the same result as in plain Python.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import threading
from collections.abc import Iterator

DESCRIPTORS_PER_CONNECTION = 3
"""Descriptors of a data connection: its socket, the one for shared memory, its ticket FIFO."""

SPARE_DESCRIPTORS = 64  # for all other files that are opened meanwhile

ENOUGH = 65_536
"""The soft limit of a kernel with a session, if the hard limit allows it."""

FEW = 512
"""A limit below this one causes a warning: each container takes about ten descriptors."""

RESERVED = 4
"""Descriptors kept for work that must succeed when no other is left: an import opens one at a
time.
"""

whose = "this kernel"
"""The name of this process in errors."""

_SHORTAGE = re.compile(r"too many open files|\bE[MN]FILE\b", re.IGNORECASE)
_reserve: list[int] = []
_lock = threading.Lock()
_before: int | None = None


def raise_limit() -> None:
    """Raise the soft limit to `ENOUGH`, or as far as the hard limit allows."""
    global _before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _before is None:
        _before = soft
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit_before() -> int:
    """Return the soft limit that this process had before it was raised."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if _before is None else _before


def make_room(connections: int) -> None:
    """Raise the soft limit if ``connections`` more data connections need it.

    Raises `OSError`, which names both limits, if the hard limit is too low as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    have = _open()
    wanted = have + DESCRIPTORS_PER_CONNECTION * connections + SPARE_DESCRIPTORS
    if wanted <= soft:
        return
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    elif connections > 1:
        raise OSError(
            f"it takes {connections} inputs at once, for which {whose} needs up to {wanted} "
            f"open files, and it may have {hard} (ulimit -Hn)"
        )
    # A single connection needs no spare descriptors.
    elif have + DESCRIPTORS_PER_CONNECTION + RESERVED > hard:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def explain(error: object) -> str:
    """Return a sentence with the count, the limit and the fix if ``error`` reports missing
    descriptors.

    ``error`` is an error or its message. The result is empty for any other error.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENFILE:
        return (
            "this machine has no file descriptor left (fs.file-max). "
            "Fix: close files, or raise the limit: sysctl -w fs.file-max=1000000"
        )
    if number != errno.EMFILE and not _SHORTAGE.search(str(error)):
        return ""
    return exhausted()


def exhausted() -> str:
    """Return the sentence for a process that has no descriptor left."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    where = "before the kernel starts" if whose == "this kernel" else "before it opens files"
    return (
        f"{whose} has {_open()} of {soft} file descriptors open. Fix: close files and sockets that "
        f"are no longer needed, or raise the limit {where}: ulimit -n {max(4096, 4 * soft)}"
    )


def few() -> str:
    """Return a warning if this process may have few open files, even with its limit raised."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= FEW:
        return ""
    return (
        f"this process may have {soft} files open, and each container takes about ten. "
        "Fix: raise the limit before the kernel starts: ulimit -n 4096"
    )


# --- the reserve ---------------------------------------------------------------------------------


def reserve() -> None:
    """Keep a few descriptors open for `room`."""
    with _lock:
        _fill()


def is_exhausted() -> bool:
    """Return whether this process can open no file now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


@contextlib.contextmanager
def room() -> Iterator[None]:
    """If no descriptor is left, release the reserve for the block."""
    if not is_exhausted():
        yield
        return
    with _lock:
        while _reserve:
            os.close(_reserve.pop())
    try:
        yield
    finally:
        with _lock:
            _fill()


def _fill() -> None:
    with contextlib.suppress(OSError):
        while len(_reserve) < RESERVED:
            _reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _open() -> int:
    """Return the number of open descriptors, or a likely number where they can't be counted."""
    with _lock:
        lent = bool(_reserve)
        if lent:
            os.close(_reserve.pop())  # for the descriptor that the listing takes
        try:
            return len(os.listdir("/dev/fd")) - 1 + lent
        except OSError:
            return 256
        finally:
            if lent:
                _fill()


def _in_forked_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent's may hold it
    while _reserve:
        os.close(_reserve.pop())  # the child is the user's, and has no descriptor of the parent's


os.register_at_fork(after_in_child=_in_forked_child)
