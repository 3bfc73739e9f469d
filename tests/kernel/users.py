"""A user of this machine who is not root, for kernels that run as one."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import missing

SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True)
class User:
    """A user; ``prefix`` is the command under which a program runs as the user."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def own(self, path: Path) -> Path:
        """Give a folder to the user."""
        os.chown(path, self.uid, self.gid)
        return path


@contextlib.contextmanager
def some_user() -> Iterator[User]:
    """This process's user if that is not root; otherwise one that is made, and removed at the end.

    The user may use the engine's socket, and read this process's Python wherever it lies.
    """
    if os.geteuid() != 0:
        yield User(os.geteuid(), os.getegid())
        return
    if shutil.which("setpriv") is None or shutil.which("useradd") is None:
        missing("a kernel of another user takes setpriv and useradd: install util-linux and passwd")
    name = f"lm-{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True)
    try:
        entry = pwd.getpwnam(name)
        prefix = (
            *("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}"),
            f"--groups={SOCKET.stat().st_gid}",
            *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
        )
        yield User(entry.pw_uid, entry.pw_gid, prefix)
    finally:
        subprocess.run(["userdel", name], check=True)
