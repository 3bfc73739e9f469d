"""A PostgreSQL server of its own for a test: Debian's binaries, run as a user who is not root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import missing

# The packages make it; the server refuses to run as root.
USER = "postgres"


@dataclass(frozen=True)
class Postgres:
    """A running server, with one database and one password."""

    binaries: Path
    sockets: Path
    port: int
    password: str

    def url(self, host: str) -> str:
        """The address of the database for a client that finds this machine as ``host``."""
        return f"postgresql://{USER}:{self.password}@{host}:{self.port}/{USER}"

    def ask(self, query: str) -> str:
        """Return what a query prints, over the server's own socket."""
        command = [
            *(self.binaries / "psql", "--no-psqlrc", "-tA", "-v", "ON_ERROR_STOP=1"),
            *("-h", self.sockets, "-p", str(self.port), "-U", USER, "-c", query),
        ]
        environment = {**os.environ, "PGPASSWORD": self.password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL is not installed: run scripts/test-packages.sh")
    return found[-1].parent


@contextlib.contextmanager
def running(*addresses: str) -> Iterator[Postgres]:
    """Start a server that listens on these addresses, and stop it at the end."""
    binaries = _binaries()
    prefix: tuple[str, ...] = ()
    folder = Path(tempfile.mkdtemp(prefix="lm-pg-"))  # short: its socket's path has 107 characters
    if os.geteuid() == 0:
        entry = pwd.getpwnam(USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    try:
        with socket.socket() as probe:
            probe.bind((addresses[0], 0))
            port = probe.getsockname()[1]
        server = Postgres(binaries, folder, port, secrets.token_hex(16))
        _make(server, prefix, folder)
        command = [*prefix, binaries / "postgres", "-D", folder / "data", "-k", folder]
        command += ["-p", str(port), "-h", ",".join(addresses), "-c", "fsync=off"]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
        try:
            _wait(server, process, folder)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # "fast": connections are closed
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(server: Postgres, prefix: tuple[str, ...], folder: Path) -> None:
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text(server.password)
    if prefix:
        shutil.chown(secret, USER)
    command = [*prefix, server.binaries / "initdb", "-D", folder / "data", "-U", USER, "-N"]
    command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-locale", "-E", "UTF8"]
    subprocess.run(command, cwd="/", check=True, capture_output=True, timeout=120)
    with open(folder / "data" / "pg_hba.conf", "a") as rules:
        rules.write("host all all all scram-sha-256\n")


def _wait(server: Postgres, process: subprocess.Popen[bytes], folder: Path) -> None:
    from kernel.harness import wait_for

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        command = [server.binaries / "pg_isready", "-q", "-h", server.sockets, "-p", server.port]
        return subprocess.run(list(map(str, command)), check=False).returncode == 0

    wait_for(answers, "an answer of PostgreSQL", every=0.1)
