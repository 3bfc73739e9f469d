"""A second machine: a Docker engine and an ssh server in a network namespace of their own.

The engine has folders, a bridge and a `containerd` of its own, and does not see this machine's
``/tmp``, where the state of tests lies. So nothing but its address leads there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import answering
import docker
import psutil
from conftest import BASE_IMAGE, missing
from kernel.harness import wait_for

_SSHD = "/usr/sbin/sshd"
_STATE = "LIFECYCLE_MAGIC_STATE"
_TOOLS = ("dockerd", "ip", "iptables", "nsenter", "openssl", "ssh", "ssh-keygen", "unshare", _SSHD)


class FarMachine:
    """The machine. ``host`` is its address; its ``folder`` is seen by this machine too.

    What is sent to ``silent``, another address of it, is dropped.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lm-far-", dir="/var/tmp"))
        self.folder.chmod(0o711)  # other users there read their authorized keys
        self.name = self.folder.name.replace("lm-far-", "lm")[:12]
        number = int.from_bytes(os.urandom(2), "big")
        net = f"10.{200 + number % 50}.{number >> 8}"
        self.here, self.host, self.silent = f"{net}.1", f"{net}.2", f"{net}.3"
        self.socket = f"{self.folder}/docker.sock"
        self.certificates = self.folder / "tls"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.engine: subprocess.Popen[bytes]

    @property
    def tcp(self) -> str:
        return f"tcp://{self.host}:2376"

    @property
    def ssh(self) -> str:
        return f"ssh://root@{self.host}{self.socket}"

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to reach the machine: certificates, and ssh's configuration."""
        return {
            "DOCKER_CERT_PATH": str(self.certificates),
            "DOCKER_TLS_VERIFY": "1",
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }

    # --- start -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything. Raises `OSError` or ``CalledProcessError`` where that is impossible."""
        _run("ip", "netns", "add", self.name)
        peer = ["peer", "name", "eth0", "netns", self.name]
        _run("ip", "link", "add", self.name, "type", "veth", *peer)
        _run("ip", "addr", "add", f"{self.here}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")
        for words in (
            ["addr", "add", f"{self.host}/24", "dev", "eth0"],
            ["addr", "add", f"{self.silent}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            _run("ip", "-n", self.name, *words)
        drop = ["iptables", "-A", "INPUT", "-d", self.silent, "-j", "DROP"]
        _run("ip", "netns", "exec", self.name, *drop)
        self._make_certificates()
        self._make_keys()
        self.start_engine()
        self.start_sshd()

    def start_engine(self, *options: str) -> None:
        """Start the engine, and wait for its answer."""
        folder, tls = self.folder, self.certificates
        command = (
            "for hidden in /tmp /etc/docker; do mkdir -p $hidden && "  # its id is in the second
            "mount -t tmpfs tmpfs $hidden || exit; done; "
            f"exec dockerd --data-root={folder}/data "
            f"--exec-root={folder}/exec --pidfile={folder}/pid --host=unix://{self.socket} "
            f"--host=tcp://{self.host}:2376 --tlsverify --tlscacert={tls}/ca.pem "
            f"--tlscert={tls}/server.pem --tlskey={tls}/server-key.pem {' '.join(options)}"
        )
        self.engine = self._spawn("engine", "unshare", "--mount", "sh", "-c", command)
        wait_for(self._answers, f"an answer of the engine; its log is {folder}/engine.log")

    def start_sshd(self) -> None:
        """Start the ssh server, and wait until it listens."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._spawn("sshd", _SSHD, "-D", "-e", "-f", f"{self.folder}/sshd_config")
        wait_for(lambda: _listens(self.host, 22), "the ssh server")

    def _spawn(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        # Without what tells the processes of a module's tests: the machine lives longer.
        env = {name: value for name, value in os.environ.items() if name != _STATE}
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                # Not by `ip netns exec`, which hides the control groups.
                ["nsenter", f"--net=/run/netns/{self.name}", *words],
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def running(self, name: str, *words: str) -> Iterator[None]:
        """A further program there, killed at the end."""
        process = self._spawn(name, *words)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._processes.remove(process)

    def listens(self, host: str, port: int) -> bool:
        """Return whether there is a listener at an address as that machine sees it."""
        dial = ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
        words = ["nsenter", f"--net=/run/netns/{self.name}", *dial]
        return subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0

    def _answers(self) -> bool:
        if self.engine.poll() is not None:
            raise OSError((self.folder / "engine.log").read_text()[-2000:])
        return answering.pings(self.socket)

    def _make_certificates(self) -> None:
        """Make an authority, and certificates of the engine and of its clients."""
        tls = self.certificates
        tls.mkdir()
        _openssl(tls, "req", "-x509", *_key("ca-key.pem"), "-out", "ca.pem", *_subject("authority"))
        for name, more in (
            ("server", f"subjectAltName=IP:{self.host}\nextendedKeyUsage=serverAuth"),
            ("client", "extendedKeyUsage=clientAuth"),
        ):
            (tls / "extensions").write_text(more)
            _openssl(tls, "req", *_key(f"{name}-key.pem"), "-out", "request", *_subject(name))
            _openssl(
                tls,
                *("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca-key.pem"),
                *("-CAcreateserial", "-extfile", "extensions", "-days", "2"),
                *("-out", f"{name}.pem"),
            )
        (tls / "client.pem").rename(tls / "cert.pem")
        (tls / "client-key.pem").rename(tls / "key.pem")

    def _make_keys(self) -> None:
        """Make keys of the server and the user, and an ``ssh`` that knows them."""
        folder = self.folder
        for name in ("host", "user"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}")
        shutil.copy(folder / "user.pub", folder / "authorized")
        (folder / "sshd_config").write_text(
            f"ListenAddress {self.host}\nListenAddress 127.0.0.1\n"
            f"HostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "Match User daemon\nAllowStreamLocalForwarding no\n"
        )
        (folder / "known").write_text(f"{self.host} {(folder / 'host.pub').read_text()}")
        (folder / "ssh_config").write_text(
            # That address is the machine's own there, and this one's here.
            f"Host behind\nHostName 127.0.0.1\nHostKeyAlias {self.host}\n"
            f"ProxyJump root@{self.host}\n"
            f"Host *\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {folder}/known\nGlobalKnownHostsFile /dev/null\n"
        )
        (folder / "bin").mkdir()
        wrapper = folder / "bin" / "ssh"
        # An ssh of the tests' own configuration: the user's is not theirs to change.
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        wrapper.chmod(0o755)

    # --- what tests do to it ---------------------------------------------------------------

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=f"unix://{self.socket}")

    def load(self, source: docker.DockerClient) -> None:
        """Give its engine the base image that another engine has."""
        with contextlib.closing(self.client()) as client:
            client.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))

    def containers(self, *, ended: bool = True) -> list[str]:
        """Return the names of the containers there, also of those that have ended."""
        with contextlib.closing(self.client()) as client:
            return [name for one in client.api.containers(all=ended) for name in one["Names"]]

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the connection: packets of both directions are lost."""
        _run("ip", "link", "set", self.name, "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self.name, "up")

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """End everything and remove it."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run(["ip", "link", "del", self.name], check=False, stderr=subprocess.DEVNULL)
        remove_traces(self.folder, self.name)


def remove_traces(folder: Path, *networks: str) -> None:
    """End what still runs of machines, and remove their network namespaces, mounts and folder."""
    for one in _left(folder, networks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    for network in networks:
        subprocess.run(["ip", "netns", "del", network], check=False, stderr=subprocess.DEVNULL)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounts if one.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False)
    subprocess.run(["rm", "-rf", str(folder)], check=False)  # thousands of files: faster than here


def _left(folder: Path, networks: tuple[str, ...]) -> list[int]:
    """Return the processes of machines that are not this process's children, parents first.

    These are containerd, containers, and ssh's sessions, of which only the network tells.
    """
    ids = set()
    for network in networks:
        with contextlib.suppress(FileNotFoundError):
            ids.add(os.stat(f"/run/netns/{network}").st_ino)
    below: dict[int, list[int]] = {}
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            below.setdefault(process.ppid(), []).append(process.pid)
            of_folder = any(f"{folder}/" in word for word in process.cmdline())
            if of_folder or os.stat(f"/proc/{process.pid}/ns/net").st_ino in ids:
                found.append(process.pid)
    for pid in found:  # it grows
        found += [one for one in below.get(pid, ()) if one not in found]
    return [pid for pid in found if pid != os.getpid()]


@contextlib.contextmanager
def far_machine(source: docker.DockerClient) -> Iterator[FarMachine]:
    """A second machine that has the base image of ``source``."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        missing(f"a second machine takes root and {', '.join(lacking or _TOOLS)}")
    machine = FarMachine()
    try:
        try:
            machine.start()
        except (OSError, subprocess.CalledProcessError) as error:
            missing(f"no second machine can be made here: {error}")
        machine.load(source)
        yield machine
    finally:
        machine.close()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _key(name: str) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name]


def _subject(name: str) -> list[str]:
    return ["-subj", f"/CN={name}"]


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def context_named(name: str, machine: FarMachine, folder: Path) -> None:
    """Write Docker's context ``name`` for the machine into a configuration folder."""
    import hashlib

    digest = hashlib.sha256(name.encode()).hexdigest()
    meta, tls = folder / "contexts" / "meta" / digest, folder / "contexts" / "tls" / digest
    meta.mkdir(parents=True)
    shutil.copytree(machine.certificates, tls / "docker")
    endpoint = {"Host": machine.tcp, "SkipTLSVerify": False}
    (meta / "meta.json").write_text(
        json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}})
    )
