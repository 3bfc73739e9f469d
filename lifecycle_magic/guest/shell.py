"""The program of ``lifecycle-magic shell`` in a container: a command, or a shell with a terminal.

Standard library only. Queues and what comes out of them belong to the caller.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import Any

__all__ = ["run_command", "run_terminal"]

SHELLS = ("/bin/bash", "/bin/sh")
_BLOCK_BYTES = 1 << 16


def run_command(command: str | None, given: bytes) -> int:
    """Run a command, or a shell, with ``given`` as its input, and return its exit code.

    Its output is the container's.
    """
    words = [_shell(), *(["-c", command] if command is not None else [])]
    sys.stdout.flush()
    return subprocess.run(words, input=given).returncode


def run_terminal(
    command: str | None, inbox: Any, outbox: Any, size: tuple[int, int], term: str
) -> int:
    """Run a command, or a shell, on a new terminal and return its exit code.

    ``inbox`` has what is typed, as bytes, and new sizes, as pairs of columns and rows. ``outbox``
    gets what appears, and None at the end.
    """
    words = [_shell(), *(["-c", command] if command is not None else [])]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = term
        os.execv(words[0], words)
    _resize(terminal, size)

    def type_in() -> None:
        # It raises when the caller deletes the queue, or is gone.
        with contextlib.suppress(Exception):
            while (typed := inbox.get()) is not None:
                if isinstance(typed, bytes):
                    os.write(terminal, typed)
                else:
                    _resize(terminal, typed)

    threading.Thread(target=type_in, name="shell-input", daemon=True).start()
    try:
        while shown := _read(terminal):
            outbox.put(shown)
    finally:
        os.close(terminal)  # hangs up: a shell that still runs ends
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        outbox.put(None)
    return code


def _read(terminal: int) -> bytes:
    """Return what appears next; nothing when the last process on the terminal has exited."""
    try:
        return os.read(terminal, _BLOCK_BYTES)
    except OSError:
        return b""


def _resize(terminal: int, size: tuple[int, int]) -> None:
    columns, rows = size
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _shell() -> str:
    return next((one for one in SHELLS if os.path.exists(one)), SHELLS[-1])
