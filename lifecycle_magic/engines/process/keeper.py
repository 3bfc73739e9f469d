"""The small process that stays when the kernel goes: it waits for one guest and clears up after it.

Run as a script, ``python -I -S keeper.py INSTANCE EXIT_FILE CWD CPUS STRAYS FILES COMMAND...``, by
`ProcessEngine.launch`. It forks away from the kernel first, so that nothing which walks the
kernel's descendants by parent pid (a debugger, VS Code) finds it or the guest. Then:

    keeper → launcher   its pid, or ``error`` and why it can't fork
    launcher → keeper   ``g``: the instance is on record, go.  End of file: the launcher is gone
    keeper → launcher   the guest's pid, or ``error`` and the reason

Standard error is the start log, of the keeper and, both streams, of the guest. The environment
is the guest's; its working folder is CWD if that is not empty, its processors are CPUS (``0,2``)
if that is not. STRAYS ``kill`` ends what the guest leaves behind; ``wait`` waits for it, since a
sandbox ends its own. FILES is the guest's limit of open files.

It is a *subreaper* (prctl(2), PR_SET_CHILD_SUBREAPER): whatever the guest orphans becomes the
keeper's child, so the end of the instance is the end of all its processes. It writes the exit
code (128+n for signal n) to EXIT_FILE and removes the folder INSTANCE. SIGTERM is handed to the
guest, as ``docker stop`` would.

Standard library only, and little of it: this costs 10 ms and about 5 MB of its own per instance.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from collections.abc import Iterator
    from typing import Any

INFO_FD = 3  # where bubblewrap writes the pid of the process it sandboxes
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Fork, keep one guest, and exit; never return to the caller."""
    instance, exit_file, cwd, cpus, strays, files, *command = arguments
    try:
        child = os.fork()
    except OSError as error:  # a limit on processes
        _report(f"error {error}")
        os._exit(1)
    if child:
        os._exit(0)
    os.umask(0o077)
    _report(str(os.getpid()))
    if os.read(0, 1) != b"g":
        os._exit(1)  # nothing is on record, or the next sweep finds it
    try:
        _limit_files(int(files))
        guest, info = _start(command, cwd, cpus)
    except OSError as error:
        _report(f"error {error}")
        remove_tree(instance)
        os._exit(1)
    _report(str(guest))
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


def _limit_files(limit: int) -> None:
    """Set the soft limit of open files, which the launcher may have raised for itself."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _report(line: str) -> None:
    """Write one line to the launcher, which may have exited."""
    try:
        os.write(1, f"{line}\n".encode(errors="replace"))
    except OSError:
        return


def _start(command: list[str], cwd: str, cpus: str) -> tuple[int, int | None]:
    """Start the guest with clean signals and three descriptors; return its pid and bubblewrap's
    pipe.
    """
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
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
        _without_vanished(command),
        os.environ,
        file_actions=actions,
        setsigmask=(),
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    if writer is not None:
        os.close(writer)
    return guest, reader


def _without_vanished(command: list[str]) -> list[str]:
    """Leave out what hides files that are gone: a program that changes ``/etc`` has removed its
    temporary file, and bubblewrap can't mount over nothing.
    """
    kept: list[str] = []
    rest = iter(command)
    for word in rest:
        if word != "--ro-bind":
            kept.append(word)
            continue
        source, target = next(rest), next(rest)
        if source != os.devnull or os.path.exists(target):
            kept += (word, source, target)
    return kept


def _above(descriptor: int, floor: int) -> int:
    """Return a copy of ``descriptor`` above ``floor``."""
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
    """Adopt the guest's orphans; if the kernel lacks this feature, init adopts them."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


def _sandboxed_pid(info: int | None) -> int | None:
    """Return the host's pid of the process that bubblewrap started; None without a sandbox."""
    if info is None:
        return None
    import json

    with open(info, "rb") as pipe:
        try:
            return int(json.loads(pipe.read())["child-pid"])
        except (ValueError, KeyError):
            return None  # bubblewrap failed before it had one; its exit code says so


def _wait_for(guest: int, inner: int, *, kill_strays: bool) -> int:
    """Reap until no process of the instance is left, and return the guest's exit code.

    ``guest`` is the started process; ``inner`` is the same, or what bubblewrap runs inside. If
    bubblewrap's outer half is killed, ``inner`` is adopted, continues, and is still waited for.
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
    """Write the exit code next to the container's log, whose folder may no longer exist.

    The guest can write there too: whatever it put at that path is neither followed nor written to.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        file = os.open(path, flags, 0o600)
        os.write(file, f"{code}\n".encode())
        os.close(file)
    except OSError:
        return


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove a folder that a user's code wrote, whatever modes it left; missing is fine.

    Each folder inside is moved to the top before it is emptied, so however deep they lie, neither
    a path nor the stack grows. What can't be removed is left.
    """
    try:
        top = os.open(path, _FOLDER)
    except NotADirectoryError:
        _quietly(os.unlink, path)
        return
    except OSError:
        return
    mark = os.urandom(8).hex()
    free = (f".gone-{mark}-{number}" for number in itertools.count())
    waiting = _empty(top, top, free)
    while waiting:
        name = waiting.pop()
        try:
            folder = _open_folder(name, top)
        except OSError:
            continue
        waiting += _empty(folder, top, free)
        os.close(folder)
        _quietly(os.rmdir, name, dir_fd=top)
    os.close(top)
    _quietly(os.rmdir, path)


def _empty(folder: int, top: int, free: Iterator[str]) -> list[str]:
    """Remove the files of a folder, move its folders to ``top`` under ``free`` names, and return
    those.
    """
    found = []
    _quietly(_permit, folder)
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if not is_folder:
            _quietly(os.unlink, name, dir_fd=folder)
        elif folder == top:
            found.append(name)
        else:
            new = next(free)
            try:
                os.close(_open_folder(name, folder))  # one that may not be written can't be moved
                os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
            except OSError:
                continue
            found.append(new)
    return found


def _open_folder(name: str, parent: int) -> int:
    """Open a folder without following a link, its owner given every right to it."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        _permit_reading(name, parent)
        folder = os.open(name, _FOLDER, dir_fd=parent)
    _quietly(_permit, folder)
    return folder


def _permit_reading(name: str, parent: int) -> None:
    if sys.platform != "linux":
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    handle = os.open(name, _FOLDER | os.O_PATH, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)


def _permit(folder: int) -> None:
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        os.fchmod(folder, 0o700)


def _quietly(do: Any, *given: Any, **options: Any) -> None:
    try:
        do(*given, **options)
    except OSError:
        return


if __name__ == "__main__":
    main(sys.argv[1:])
