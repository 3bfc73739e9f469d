"""An ssh tunnel to an engine's socket, by the user's own ssh client."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time

__all__ = ["Tunnel", "log_path", "ssh_command", "words"]

OPEN_SECONDS = 9.0
"""Seconds until the tunnel is open. ssh itself gives up on a silent host after 8 s."""

_CHANNEL = re.compile(r"^channel \d+: ")

_PR_SET_PDEATHSIG = 1  # prctl(2)


def ssh_command(user_and_host: str, port: int | None, remote: str, local: str) -> list[str]:
    """Return the command of a tunnel from the socket ``local`` to ``remote`` on that host.

    It asks no question: an unknown host key or a password is an error, in ssh's own words.

    >>> ssh_command("me@box", None, "/run/docker.sock", "/tmp/s")[-4:]
    ['-L', '/tmp/s:/run/docker.sock', '--', 'me@box']
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "8",
        # Forwardings of the user's own configuration may be in use by a session of theirs.
        "ExitOnForwardFailure": "no",
        "StreamLocalBindUnlink": "yes",
        # As long as a container waits: after a longer cut there is another tunnel.
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "4",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "RemoteCommand": "none",
        # A connection of its own: it must live as long as the session, and end with it.
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "no",
        "PermitLocalCommand": "no",
        "RequestTTY": "no",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    where = ["-p", str(port)] if port is not None else []
    return ["ssh", "-N", "-T", *words, *where, "-L", f"{local}:{remote}", "--", user_and_host]


class Tunnel:
    """An ssh process that ends with this one. ``path`` is the socket that it opens."""

    def __init__(self, command: list[str], path: str) -> None:
        self._path = path
        self._error = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with open(log_path(path), "wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        except OSError as error:
            self._error = f"ssh can't be run: {error.strerror}"

    def wait(self) -> str:
        """Wait until the tunnel is open. Return what ssh said if it is not."""
        process = self._process
        if process is None:
            return self._error
        deadline = time.monotonic() + OPEN_SECONDS
        while not os.path.exists(self._path):
            if process.poll() is not None:
                return words(self._path) or f"ssh ended with exit code {process.returncode}"
            if time.monotonic() > deadline:
                return words(self._path) or f"ssh did not connect within {OPEN_SECONDS:g} s"
            time.sleep(0.01)
        return ""

    def wait_for_end(self) -> None:
        """Wait until ssh has exited."""
        if self._process is not None:
            self._process.wait()

    def ending(self) -> str:
        """Return how ssh ended, with what it said."""
        said = words(self._path)
        return f"the ssh connection has ended{f': {said}' if said else ''}"

    def close(self) -> None:
        """End ssh and remove its socket with the folder that it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for path in (self._path, log_path(self._path)):
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._path))


def log_path(path: str) -> str:
    """Return where ssh's messages are kept for the tunnel with the socket ``path``."""
    return f"{path}.log"


def words(path: str) -> str:
    """Return what ssh has said so far, each line once: each failed connection has its number."""
    try:
        with open(log_path(path), "rb") as file:
            lines = file.read(1 << 14).decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = (_CHANNEL.sub("", line.strip()) for line in lines)
    return "; ".join(dict.fromkeys(line for line in said if line))[-2000:]


def _end_with_parent() -> None:
    """Have the system end this process when the relay is killed."""
    with contextlib.suppress(Exception):  # not Linux: an idle ssh stays until its connection ends
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
