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
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.wire.host_settings import HOST

HOME = "/root"
VENV = "/opt/venv"
GUEST = "/opt/lifecycle_magic"
RUN = "/run/lifecycle"

# Shared with the host as they are; the first that is a symbolic link there is one here too.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/sys", "/nix")
_OWN = ("root", "tmp", "run", "proc", "dev", "opt", "var/tmp", "home", "mnt", "srv")
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

# What the machine's own root may write below /proc without any capability, as Docker protects it.
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


# Kernel settings that forbid namespaces to users: name, the value that forbids, one that permits.
_SWITCHES = (
    ("user.max_user_namespaces", "0", "10000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")  # Docker's and Podman's


@dataclass(frozen=True)
class Probe:
    """The result of a trial run: the ``path`` of a bubblewrap that works, or None.

    ``detail`` is its version, or why none works; ``fix`` is what to do then.
    """

    path: str | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Bind:
    """A bind mount: ``source`` of the host at ``path`` inside; ``dev`` allows device access."""

    source: str
    path: str
    mode: Literal["ro", "rw", "dev"] = "ro"


@dataclass(frozen=True)
class Sandbox:
    """The view of one sandboxed process. ``shm_size`` is MiB; None sets no limit on ``/dev/shm``.

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
    masked: Iterable[str] = (),
    info_fd: int | None = None,
    privileged: bool = False,
) -> list[str]:
    """Return the whole command that runs ``command`` as PID 1 of ``sandbox``.

    ``host`` are the read-only folders of `host_binds`, ``late`` those that go over ``/dev`` and
    ``/run`` (`gpu_devices`, `resolver_binds`), ``masked`` what is hidden (`private_files`);
    ``privileged`` means that root calls, whose capabilities must be dropped by name. Its exit code
    is the command's (128+n for signal n).

        >>> box = Sandbox(root="/i/root", workdir="/root", hostname="m")
        >>> command_line("bwrap", box, ["true"])[:4]
        ['bwrap', '--bind', '/i/root', '/']
    """
    line = [bwrap, "--bind", sandbox.root, "/"]
    for bind in host:
        line += _option(bind)
    for path in masked:
        line += ["--tmpfs", path] if path.endswith("/") else ["--ro-bind", os.devnull, path]
    line += ["--proc", "/proc", "--dev", "/dev"]
    for name in _PROC_READ_ONLY if privileged else ():
        line += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
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
    """Return the host's read-only folders: system, each Python prefix, and ``files`` (a CA bundle).

    Folders below an included folder are omitted. Symbolic links such as ``/lib`` are no binds;
    `prepare_root` creates them.
    """
    chosen = [path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    for path in (*pythons, *files):
        for seen in (path, os.path.realpath(path)):
            if os.path.exists(seen) and not is_below(seen, chosen) and seen != "/":
                chosen.append(seen)
    return tuple(Bind(path, path) for path in chosen)


def private_files(folder: str = "/etc") -> tuple[str, ...]:
    """Return the entries of ``folder`` that not every user may read; folders end with a slash.

    A sandbox of root could read them: password hashes, private keys. Locks are left out: they hold
    a pid, and are there for a moment only.
    """
    found: list[str] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return ()
    for entry in entries:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            continue  # it was removed meanwhile
        if stat.S_ISDIR(mode) and mode & 0o5 != 0o5:
            found.append(f"{entry.path}/")
        elif stat.S_ISDIR(mode):
            found += private_files(entry.path)
        elif stat.S_ISREG(mode) and not mode & 0o4 and not entry.name.endswith(".lock"):
            found.append(entry.path)
    return tuple(found)


def resolver_binds() -> tuple[Bind, ...]:
    """Return the folder that ``/etc/resolv.conf`` points into, if it is elsewhere (systemd,
    WSL).
    """
    target = os.path.realpath("/etc/resolv.conf")
    folder = os.path.dirname(target)
    if is_below(folder, _SYSTEM) or not os.path.exists(target):
        return ()
    # The folder, not the file: a resolver replaces the file and a bind would keep the old one.
    return (Bind(folder, folder),)


def hosts_bind(run_dir: Path) -> tuple[Bind, ...]:
    """Return the machine's ``/etc/hosts`` with a name for the machine, written to ``run_dir``.

    Nothing is returned where that file is a link or missing: there is no place to mount it then.
    """
    path = Path("/etc/hosts")
    try:
        if path.is_symlink():
            return ()
        text = path.read_bytes()
        (run_dir / "hosts").write_bytes(text + f"\n127.0.0.1\t{HOST}\n".encode())
        (run_dir / "hosts").chmod(0o644)
    except OSError:
        return ()
    return (Bind(str(run_dir.absolute() / "hosts"), str(path)),)


def gpu_devices(gpus: Sequence[Gpu], dev: Path = Path("/dev")) -> tuple[Bind, ...]:
    """Return the device files of these GPUs that exist, with those that any GPU needs."""
    own = [node for gpu in gpus for node in gpu.nodes]
    found = sorted({*inventory.control_nodes(gpus, dev), *own})
    return tuple(Bind(path, path, "dev") for path in found if os.path.exists(path))


def prepare_root(root: Path) -> None:
    """Create in ``root`` the missing folders and links that every root folder has."""
    for name in _OWN:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for path in _SYSTEM:
        link = root / path.lstrip("/")
        if os.path.islink(path) and not os.path.lexists(link):
            link.symlink_to(os.readlink(path))


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Return whether ``path`` is one of ``folders`` or lies inside one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def reserved(path: str) -> bool:
    """Return whether a volume at ``path`` would hide what a sandbox itself needs."""
    taken = ("/proc", "/dev", "/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/sys")
    return path == "/" or is_below(path, (*taken, VENV, GUEST, RUN))


def probe() -> Probe:
    """Run a bubblewrap, for about 10 ms, and return whether it works here.

    An installed bubblewrap may still be forbidden: this user, or the container around this
    process, may not be allowed to make namespaces.
    """
    if sys.platform != "linux":
        return Probe(None, "bubblewrap needs Linux", "use Linux (on Windows, WSL 2 is Linux)")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Probe(None, "bubblewrap (bwrap) is not on the PATH", "install bubblewrap")
    bwrap = os.path.abspath(bwrap)
    trial = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid"]
    trial += ["--as-pid-1", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    try:
        version = _run([bwrap, "--version"])
        tried = _run([bwrap, *trial, "--", "/bin/sh", "-c", ":"])
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(None, f"{bwrap} is installed but does not run: {error}", _permission())
    if tried.returncode:
        reason = " ".join(tried.stderr.split()) or f"exit code {tried.returncode}"
        return Probe(None, f"{bwrap} is installed but not permitted here: {reason}", _permission())
    return Probe(bwrap, version.stdout.strip() or "bubblewrap")


def _permission(root: Path = Path("/")) -> str:
    """Return what permits an installed bubblewrap, as far as the machine shows what forbids it."""
    for name, forbidden, allowed in _SWITCHES:
        try:
            value = (root / "proc/sys" / name.replace(".", "/")).read_text().strip()
        except OSError:
            continue
        if value == forbidden:
            return f"permit user namespaces: sysctl -w {name}={allowed}"
    if any((root / name).exists() for name in _CONTAINER_MARKS):
        return (
            "permit it in the container around this one: docker run --security-opt "
            "seccomp=unconfined --security-opt systempaths=unconfined"
        )
    return "permit this user to make namespaces (see user_namespaces(7))"


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
