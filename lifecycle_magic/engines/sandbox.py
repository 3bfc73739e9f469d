"""The bubblewrap command line: an instance's folder as its root, the host's system over it.

What hooks write at an absolute path lands in the instance's own folder, so it is private and
can be kept; `/usr`, `/etc` and the like are the host's, read-only. No root is needed: it works
wherever unprivileged user namespaces do, which `probe` finds out. The options are bubblewrap's own
(bwrap(1), 0.5 and later). This keeps instances apart and their paths private; it is no wall against
hostile code, which shares the kernel and, unless ``block_network`` is set, the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HOME = "/root"
VENV = "/opt/venv"
GUEST = "/opt/lifecycle_magic"
RUN = "/run/lifecycle"

# Shared with the host as they are; the first that is a symbolic link there is one here too.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/sys", "/nix")
_OWN = ("root", "tmp", "run", "proc", "dev", "opt", "var/tmp", "home", "mnt", "srv")
_GPU_DEVICES = ("nvidia*", "kfd", "dri", "dxg")

# What package installs and servers need of root's capabilities; the rest is dropped.
_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
)


@dataclass(frozen=True)
class Bind:
    """``source`` of the host at ``path`` inside; ``dev`` allows device access."""

    source: str
    path: str
    mode: Literal["ro", "rw", "dev"] = "ro"


@dataclass(frozen=True)
class Sandbox:
    """What one sandboxed process sees. ``shm_size`` is MiB; None leaves ``/dev/shm`` unbounded.

    ``ends_with_parent``: the kernel kills it when the thread that started it ends; for builds.
    """

    root: str
    workdir: str
    hostname: str
    binds: tuple[Bind, ...] = ()
    block_network: bool = False
    shm_size: int | None = None
    ends_with_parent: bool = False


def command_line(
    bwrap: str,
    sandbox: Sandbox,
    command: Sequence[str],
    *,
    host: Iterable[Bind] = (),
    late: Iterable[Bind] = (),
    info_fd: int | None = None,
    privileged: bool = False,
) -> list[str]:
    """The whole command that runs ``command`` as PID 1 of ``sandbox``.

    ``host`` are the read-only folders of `host_binds`, ``late`` those that go over ``/dev`` and
    ``/run`` (`gpu_devices`, `resolver_binds`); ``privileged`` says that root calls, whose
    capabilities have to be dropped by name. Its exit code is the command's (128+n for signal n).

        >>> box = Sandbox(root="/i/root", workdir="/root", hostname="m")
        >>> command_line("bwrap", box, ["true"])[:4]
        ['bwrap', '--bind', '/i/root', '/']
    """
    line = [bwrap, "--bind", sandbox.root, "/"]
    for bind in host:
        line += _option(bind)
    line += ["--proc", "/proc", "--dev", "/dev"]
    if sandbox.shm_size is not None:
        line += ["--perms", "1777", "--size", str(sandbox.shm_size << 20), "--tmpfs", "/dev/shm"]
    # A fresh /run: what was mounted or left there at run time is no part of an image.
    line += ["--tmpfs", "/run"]
    for bind in (*late, *sandbox.binds):
        line += _option(bind)
    line += ["--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts"]
    line += ["--hostname", sandbox.hostname, "--new-session", "--chdir", sandbox.workdir]
    if sandbox.block_network:
        line += ["--unshare-net"]
    if sandbox.ends_with_parent:
        line += ["--die-with-parent"]
    if privileged:
        line += ["--cap-drop", "ALL"]
        line += [word for name in _CAPABILITIES for word in ("--cap-add", name)]
    if info_fd is not None:
        line += ["--info-fd", str(info_fd)]
    return [*line, "--", *command]


def host_binds(pythons: Iterable[str], files: Iterable[str] = ()) -> tuple[Bind, ...]:
    """The host's read-only folders: system, each Python prefix, and ``files`` (a CA bundle).

    What lies below a folder that is there already is left out. Symbolic links such as ``/lib`` are
    no binds; `prepare_root` makes them.
    """
    chosen = [path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    for path in (*pythons, *files):
        for seen in (path, os.path.realpath(path)):
            if os.path.exists(seen) and not is_below(seen, chosen) and seen != "/":
                chosen.append(seen)
    return tuple(Bind(path, path) for path in chosen)


def resolver_binds() -> tuple[Bind, ...]:
    """The folder that ``/etc/resolv.conf`` points into, where that is elsewhere (systemd, WSL)."""
    target = os.path.realpath("/etc/resolv.conf")
    folder = os.path.dirname(target)
    if is_below(folder, _SYSTEM) or not os.path.exists(target):
        return ()
    # The folder, not the file: a resolver replaces the file and a bind would keep the old one.
    return (Bind(folder, folder),)


def gpu_devices(dev: Path = Path("/dev")) -> tuple[Bind, ...]:
    """The GPU devices of this machine: NVIDIA, AMD, and WSL's."""
    found = sorted(path for pattern in _GPU_DEVICES for path in dev.glob(pattern))
    return tuple(Bind(str(path), str(path), "dev") for path in found)


def prepare_root(root: Path) -> None:
    """Make in ``root`` the folders and links that every root folder has, where they are missing."""
    for name in _OWN:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for path in _SYSTEM:
        link = root / path.lstrip("/")
        if os.path.islink(path) and not os.path.lexists(link):
            link.symlink_to(os.readlink(path))


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or lies inside one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def reserved(path: str) -> bool:
    """Whether a volume at ``path`` would hide what a sandbox itself needs."""
    taken = ("/proc", "/dev", "/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/sys")
    return path == "/" or is_below(path, (*taken, VENV, GUEST, RUN))


def probe() -> tuple[str | None, str]:
    """The path of a bubblewrap that works here, or None; and one line that says which, or why not.

    It runs one, for about 10 ms: that it is installed does not mean that this user, or the
    container around us, may make namespaces.
    """
    bwrap = shutil.which("bwrap")
    if sys.platform != "linux":
        return None, "bubblewrap is for Linux"
    if bwrap is None:
        return None, "bubblewrap (bwrap) is not on the PATH"
    bwrap = os.path.abspath(bwrap)
    trial = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid"]
    trial += ["--as-pid-1", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    try:
        version = _run([bwrap, "--version"])
        tried = _run([bwrap, *trial, "--", "/bin/sh", "-c", ":"])
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"bubblewrap does not run here: {error}"
    if tried.returncode:
        return None, f"bubblewrap does not work here: {tried.stderr.strip() or 'no reason given'}"
    return bwrap, version.stdout.strip() or "bubblewrap"


def _option(bind: Bind) -> list[str]:
    option = {"ro": "--ro-bind", "rw": "--bind", "dev": "--dev-bind"}[bind.mode]
    return [option, bind.source, bind.path]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=10,
        check=False,
    )
