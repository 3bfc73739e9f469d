"""A build's command that does not outlive the process that ordered it.

Run as a script, ``python -I -S leash.py COMMAND...``, as the leader of a session of its own.
Standard input is a pipe that nobody writes to. When its other end closes, because the kernel closed
it or is dead, everything in the command's process group is killed.

This process becomes the command; what waits for the pipe is an orphan beside it, so that a command
which waits for all its children does not wait for that.

Standard library only, and little of it: this costs 10 ms for each command.
"""

from __future__ import annotations

import os
import signal
import sys


def main(command: list[str]) -> None:
    """Leave a watcher behind and become ``command``; never returns."""
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        _watch()
    os.waitpid(child, 0)
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
    for descriptor in (1, 2):  # whoever reads the command's output waits for its last writer
        os.dup2(null, descriptor)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)  # this process too


if __name__ == "__main__":
    main(sys.argv[1:])
