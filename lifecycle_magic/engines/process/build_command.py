"""A command of a build that does not outlive the process that started it.

Run as a script, ``python -I -S build_command.py FILES COMMAND...``, as the leader of its own
session. FILES is the command's limit of open files, which the kernel may have raised for itself.
Standard input is a pipe to which no process writes. When its other end closes, because the kernel
closed it or is dead, everything in the command's process group is killed.

This process becomes the command; the watcher of the pipe is an orphan next to it, so that a command
which waits for all its children does not wait for the watcher.

Standard library only, and little of it: this costs 10 ms for each command.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

_OSERR = 71  # of sysexits(3)


def main(files: str, *command: str) -> None:
    """Start a watcher and become ``command``; never return."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), hard))
    try:
        child = os.fork()
        if child == 0:
            if os.fork():
                os._exit(0)
            _watch()
        _, status = os.waitpid(child, 0)
    except OSError as error:  # a limit on processes; the second fork's is the child's status
        print(f"could not fork: {error.strerror}", flush=True)
        os._exit(_OSERR)
    if status:
        os._exit(_OSERR)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"could not start {command[0]}: {error.strerror}", flush=True)
        os._exit(127)


def _watch() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # the reader of the command's output waits for its last writer
        os.dup2(null, descriptor)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)  # this process too


if __name__ == "__main__":
    main(*sys.argv[1:])
