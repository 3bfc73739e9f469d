"""A Python without what only Linux has, as a kernel on macOS finds it.

As a plugin of pytest (``-p bare_platform``), or by `strip`, names are removed from the standard
library, this package may not open ``/proc``, and the platform has another name. Containers are not
affected, and neither is the relay, which runs in a Python of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

_NAMES: dict[ModuleType, tuple[str, ...]] = {
    os: (
        *("memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "pidfd_open", "O_PATH"),
        *("eventfd", "eventfd_read", "eventfd_write", "sched_getaffinity", "sched_setaffinity"),
        *("setresuid", "setresgid", "getresuid", "getresgid", "splice", "copy_file_range"),
    ),
    socket: ("send_fds", "recv_fds", "SCM_RIGHTS", "SO_PEERCRED", "MSG_CMSG_CLOEXEC"),
    select: ("epoll", "EPOLLRDHUP", "EPOLLONESHOT", "POLLRDHUP"),
    signal: ("SIGRTMIN", "SIGRTMAX", "pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
    fcntl: ("F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL"),
    time: ("CLOCK_BOOTTIME",),
}


def strip() -> None:
    """Remove the names from this process. There is no way back."""
    import asyncio  # noqa: F401
    import multiprocessing  # noqa: F401
    import subprocess  # noqa: F401
    import sysconfig
    import urllib.request  # noqa: F401

    import psutil  # noqa: F401

    sysconfig.get_config_vars()  # later it would look for a file of the other platform

    for module, names in _NAMES.items():
        for name in names:
            with contextlib.suppress(AttributeError):
                delattr(module, name)
    for name in ("stat", "lstat", "readlink", "access"):
        setattr(os, name, _refusing(getattr(os, name)))
    sys.platform = "unknown"
    sys.addaudithook(_refuse)


def _refusing(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call of the system for which no hook of the audit is there."""

    def refusing(path: Any, *arguments: Any, **options: Any) -> Any:
        _refuse("open", (path,))
        return call(path, *arguments, **options)

    return refusing


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise for what this package opens below ``/proc`` and ``/sys``."""
    if event not in ("open", "os.listdir", "os.scandir") or not isinstance(arguments[0], str):
        return
    if arguments[0].startswith(("/proc/", "/sys/")) and _is_ours():
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def _is_ours() -> bool:
    """Return whether the nearest code outside of the standard library is this package's."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != __name__ and name.partition(".")[0] not in sys.stdlib_module_names:
            return bool(name.startswith("lifecycle_magic."))
        frame = frame.f_back  # type: ignore[assignment]
    return False


def pytest_configure() -> None:
    strip()
