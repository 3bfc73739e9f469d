"""Processes of this container that listen on a port, as ``/proc`` shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["is_own_listener"]

_LISTENS = "0A"  # the state in /proc/net/tcp, proc(5)


def is_own_listener(port: int) -> bool:
    """Return whether the worker, or a process below the same supervisor, listens on ``port``.

    False if that can't be read, such as without ``/proc``.
    """
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    return bool(wanted) and any(wanted & set(_files(pid)) for pid in _own_processes())


def _inodes(port: int) -> Iterator[str]:
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _lines(path):
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS and fields[1].endswith(f":{port:04X}"):
                yield fields[9]


def _own_processes() -> Iterator[int]:
    above: dict[int, int] = {}
    for name in _names("/proc"):
        if name.isdecimal():
            for line in _lines(f"/proc/{name}/stat"):  # pid (name) state ppid ...
                above[int(name)] = int(line.rpartition(")")[2].split()[1])
    top = os.getppid()
    for pid in above:
        one = pid
        while one not in (top, 0):
            one = above.get(one, 0)
        if one == top:
            yield pid


def _files(pid: int) -> Iterator[str]:
    for name in _names(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return file.readlines()
    except OSError:  # the process has exited, or there is no such file
        return []
