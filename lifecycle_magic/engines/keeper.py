"""The small process that stays when the kernel goes: it waits for one guest and clears up after it.

Run as a script, ``python -I -S keeper.py INSTANCE EXIT_FILE CWD CPUS STRAYS COMMAND...``, by
`ProcessEngine.launch`. It forks away from the kernel first, so that nothing which walks the
kernel's descendants by parent pid (a debugger, VS Code) finds it or the guest. Then:

    keeper → launcher   its pid
    launcher → keeper   ``g``: the instance is on record, go.  End of file: the launcher is gone
    keeper → launcher   the guest's pid, or ``error`` and the reason

Standard error is the start log, of the keeper and, both streams, of the guest. The environment
is the guest's; its working folder is CWD if that is not empty, its processors are CPUS (``0,2``)
if that is not. STRAYS ``kill`` ends what the guest leaves behind; ``wait`` waits for it, since a
sandbox ends its own.

It is a *subreaper* (prctl(2), PR_SET_CHILD_SUBREAPER): whatever the guest orphans becomes the
keeper's child, so the end of the instance is the end of all its processes. It writes the exit
code (128+n for signal n) to EXIT_FILE and removes the folder INSTANCE. SIGTERM is handed to the
guest, as ``docker stop`` would.

Standard library only, and little of it: this costs 10 ms and about 5 MB of its own per instance.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from typing import Any

INFO_FD = 3  # where bubblewrap writes the pid of the process it sandboxes
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Fork, keep one guest, and leave; never returns to the caller."""
    instance, exit_file, cwd, cpus, strays, *command = arguments
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    _tell(str(os.getpid()))
    if os.read(0, 1) != b"g":
        os._exit(1)  # nothing is on record, or the next sweep finds it
    try:
        guest, info = _start(command, cwd, cpus)
    except OSError as error:
        _tell(f"error {error}")
        remove_tree(instance)
        os._exit(1)
    _tell(str(guest))
    _leave_the_launcher()
    _become_subreaper()
    inner = _sandboxed_pid(info) or guest
    signal.signal(signal.SIGTERM, lambda *_: _send(inner, signal.SIGTERM))
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    code = _wait_for(guest, inner, kill_strays=strays == "kill")
    _write_exit(exit_file, code)
    remove_tree(instance)
    os._exit(0)


def _tell(line: str) -> None:
    """One line to the launcher, which may be gone."""
    try:
        os.write(1, f"{line}\n".encode(errors="replace"))
    except OSError:
        return


def _start(command: list[str], cwd: str, cpus: str) -> tuple[int, int | None]:
    """Start the guest with clean signals and three descriptors; its pid, and bubblewrap's pipe."""
    if cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    if cwd:
        os.chdir(cwd)
    actions: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, 2, 1),
    ]
    reader, writer = os.pipe() if "--info-fd" in command else (None, None)
    if writer is not None:
        # dup2 onto itself would keep close-on-exec, so the pipe must not be INFO_FD already.
        writer = _above(writer, INFO_FD)
        actions.append((os.POSIX_SPAWN_DUP2, writer, INFO_FD))
    # The launcher may run with signals blocked or ignored; a guest that inherits an ignored
    # SIGINT could never be interrupted.
    guest = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=actions,
        setsigmask=(),
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    if writer is not None:
        os.close(writer)
    return guest, reader


def _above(descriptor: int, floor: int) -> int:
    """``descriptor``, moved above ``floor``."""
    if descriptor > floor:
        return descriptor
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, floor + 1)
    os.close(descriptor)
    return moved


def _leave_the_launcher() -> None:
    """Close the pipes to the launcher, and hold no folder as working directory."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")


def _become_subreaper() -> None:
    """Adopt what the guest orphans; where the kernel has no such thing, init does it."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


def _sandboxed_pid(info: int | None) -> int | None:
    """The pid, as the host sees it, of the process that bubblewrap started; None without."""
    if info is None:
        return None
    import json

    with open(info, "rb") as pipe:
        try:
            return int(json.loads(pipe.read())["child-pid"])
        except (ValueError, KeyError):
            return None  # bubblewrap failed before it had one; its exit code says so


def _wait_for(guest: int, inner: int, *, kill_strays: bool) -> int:
    """Reap until no process of the instance is left; the guest's exit code.

    ``guest`` is what was started; ``inner`` is the same, or what bubblewrap runs inside. Should
    bubblewrap's outer half be killed, ``inner`` is adopted, goes on, and is still waited for.
    """
    code = 0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return code
        if pid in (guest, inner):
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
            guest = pid
        if kill_strays and pid == guest:
            kill_strays = False
            _end_children()


def _end_children() -> None:
    """Kill every child, and every child that is adopted because of that, until none is left."""
    while True:
        for pid in _children(os.getpid()):
            _send(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _children(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The command name in parentheses may hold spaces and parentheses.
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(entry))
        except (OSError, IndexError, ValueError):
            continue
    return found


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return


def _write_exit(path: str, code: int) -> None:
    """Leave the exit code beside the container's log; its folder may be gone by now."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{code}\n")
    except OSError:
        return


def remove_tree(path: str) -> None:
    """Remove a folder that a user's code wrote, whatever modes it left; missing is fine."""
    import shutil

    for folder, names, _ in os.walk(path):
        for name in names:
            inside = os.path.join(folder, name)
            try:
                mode = os.lstat(inside).st_mode
                if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                    os.chmod(inside, 0o700)
            except OSError:
                continue
    shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
