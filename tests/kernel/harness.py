"""Real kernels, real Jupyter servers, and what a container left behind.

A test runs cells in a kernel, ends something, and follows the container's *diary*: a file on the
host into which the class's hooks write a line each. Nothing here waits for time to pass, only for
something to have happened, inside a bound that is far above what it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import answering
import docker
import psutil
import requests
import zmq
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_core.utils import ensure_event_loop
from kernel.users import User

LABEL_SESSION = "lifecycle-magic.session"
MARKER = "LIFECYCLE_MAGIC_INSTANCE"
PATIENCE = 60.0  # seconds; only a bug takes that long

ENGINES = ("docker", "process", "plain")  # plain: the process engine where there is no bubblewrap


def existing(root: Path, pattern: str) -> list[Path]:
    """What matches in a folder whose entries come and go. ``Path.glob`` fails at one that went."""
    return [Path(found) for found in glob.glob(f"{glob.escape(str(root))}/{pattern}")]


def wait_for(
    condition: Callable[[], Any], what: str, timeout: float = PATIENCE, every: float = 0.02
) -> Any:
    """The first true value of ``condition()``, looked at ``every`` so many seconds; a failure that
    says ``what`` did not come.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)
    return value


# --- what the hooks write -----------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of a diary. ``at`` is seconds since the epoch, ``container`` tells lives apart."""

    event: str
    at: float
    container: str


class Diary:
    """The folder that a class's containers write into, by a volume at the same path."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def lines(self) -> list[Line]:
        try:
            text = (self.folder / "diary").read_text()
        except FileNotFoundError:
            return []
        return [Line(**json.loads(line)) for line in text.splitlines()]

    def events(self) -> list[str]:
        return [line.event for line in self.lines()]

    def at(self, event: str) -> float:
        """When ``event`` was first noted."""
        return next(line.at for line in self.lines() if line.event == event)

    def wait(self, event: str, times: int = 1, timeout: float = PATIENCE) -> None:
        wait_for(
            lambda: self.events().count(event) >= times,
            f"{event!r} x {times} in {self.folder}: {self.events()}",
            timeout,
        )


PREAMBLE = """\
import json, os, sys, time
import lifecycle_magic as lm

OUT = {out!r}

def note(event):
    told = dict(event=event, at=time.time(), container=os.environ.get("BORN", ""))
    with open(OUT + "/diary", "a") as file:
        file.write(json.dumps(told) + "\\n")

class Base:
    @lm.enter()
    def born(self):
        os.environ["BORN"] = str(time.time())
        note("entered")

app = lm.App()
options = dict(engine={engine!r}, volumes={{OUT: lm.Volume.from_path(OUT)}})
"""

SUBJECT = """\
@app.cls(**options)
class {name}(Base):
    @lm.method()
    def hello(self, x):
        return x

    @lm.method()
    def slow(self):
        note("slow")
        time.sleep(600)

    @lm.exit()
    def close(self):
        note("exit begun")
        time.sleep({seconds})
        note("exit done")
"""


def preamble(engine: str, diary: Diary) -> str:
    """The cell that every test begins with: ``note``, ``app``, ``Base`` and ``options``."""
    named = "process" if engine == "plain" else engine
    text = PREAMBLE.format(out=str(diary.folder), engine=named)
    if engine == "plain":
        text = f"import os\nos.environ['PATH'] = {path_without_bwrap()!r}\n{text}"
    return text


def subject(name: str, seconds: float) -> str:
    """The cell with a class whose ``exit`` takes ``seconds``."""
    return SUBJECT.format(name=name, seconds=seconds)


def path_without_bwrap() -> str:
    """A PATH with everything that is on ours but bubblewrap."""
    folder = Path(os.environ["LIFECYCLE_MAGIC_STATE"]) / "path"
    if not folder.exists():
        part = folder.with_name(f"path-{os.getpid()}-{time.monotonic_ns()}")
        part.mkdir()
        for place in os.get_exec_path():
            for tool in Path(place).glob("*"):
                if tool.name != "bwrap" and not os.path.lexists(part / tool.name):
                    (part / tool.name).symlink_to(tool)
        with contextlib.suppress(OSError):  # another thread was quicker
            part.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
    return str(folder)


# --- kernels ------------------------------------------------------------------------------------


@contextlib.contextmanager
def event_loop_of_this_thread() -> Iterator[None]:
    """`jupyter_client` gives each thread that uses it an event loop, and leaves it open."""
    loop = ensure_event_loop()
    try:
        yield
    finally:
        loop.close()
        asyncio.set_event_loop(None)


class CellFailed(Exception):
    """A cell raised. ``name`` is the exception's type, the message is the plain traceback."""

    def __init__(self, name: str, value: str, traceback: list[str]) -> None:
        super().__init__(_plain("\n".join(traceback)))
        self.name = name
        self.value = value


def _plain(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@dataclass(frozen=True)
class Talk:
    """What a cell printed, its prompts with whether each hides the answer, and how it failed."""

    printed: str
    prompts: list[tuple[str, bool]]
    failed: CellFailed | None

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.prompts]


class Kernel:
    """A kernel by its connection file: whoever started it."""

    def __init__(self, connection_file: str) -> None:
        self.client = BlockingKernelClient(connection_file=connection_file)
        self.client.load_connection_file()
        self.client.start_channels()
        wait_for(self._is_ready, f"an answer of the kernel at {connection_file}")
        self.pid = int(self.run("import os; print(os.getpid())"))

    def _is_ready(self) -> bool:
        try:
            self.client.wait_for_ready(timeout=PATIENCE)
        except RuntimeError:
            return False  # no heartbeat yet: on a busy machine it takes its time
        return True

    def run(self, code: str, timeout: float = PATIENCE) -> str:
        """Run a cell to its end; what it printed. Raises `CellFailed`."""
        return self.outcome(self.begin(code), timeout)

    def begin(self, code: str) -> str:
        """Send a cell and do not wait for it; its id."""
        return str(self.client.execute(textwrap.dedent(code), allow_stdin=False))

    def outcome(self, cell: str, timeout: float = PATIENCE) -> str:
        """Wait for a cell that `begin` sent; what it printed. Raises `CellFailed`."""
        deadline = time.monotonic() + timeout
        printed: list[str] = []
        failed: CellFailed | None = None
        while True:
            left = deadline - time.monotonic()
            try:
                message = self.client.get_iopub_msg(timeout=max(left, 0.01))
            except Empty:
                raise AssertionError(
                    f"the cell did not end within {timeout:g} s; it printed: {''.join(printed)}"
                ) from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                failed = CellFailed(content["ename"], content["evalue"], content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
        if failed is not None:
            failed.args = (f"{failed.args[0]}\nprinted: {''.join(printed)}",)
            raise failed
        return "".join(printed)

    def talk(self, code: str, *answers: str) -> Talk:
        """Run a cell to its end and answer what it asks, in this order.

        At a prompt without an answer the cell is interrupted.
        """
        left = list(answers)
        prompts: list[tuple[str, bool]] = []
        cell = str(self.client.execute(textwrap.dedent(code), allow_stdin=True))
        asked, shown = self.client.stdin_channel, self.client.iopub_channel
        poller = zmq.Poller()
        poller.register(asked.socket, zmq.POLLIN)
        poller.register(shown.socket, zmq.POLLIN)
        printed: list[str] = []
        failed: CellFailed | None = None
        deadline = time.monotonic() + PATIENCE
        while True:
            poller.poll(max(deadline - time.monotonic(), 0) * 1000)
            assert time.monotonic() < deadline, f"the cell did not end: {printed}, {prompts}"
            while shown.msg_ready():
                message = shown.get_msg()
                if message["parent_header"].get("msg_id") != cell:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "stream":
                    printed.append(content["text"])
                elif kind == "error":
                    failed = CellFailed(content["ename"], content["evalue"], content["traceback"])
                elif kind == "status" and content["execution_state"] == "idle":
                    return Talk("".join(printed), prompts, failed)
            while asked.msg_ready():
                content = asked.get_msg()["content"]
                prompts.append((content["prompt"], content["password"]))
                if left:
                    self.client.input(left.pop(0))
                else:
                    self.interrupt()

    def interrupt(self) -> None:
        """What the stop button does."""
        raise NotImplementedError

    def containers(self, cls: str | None = None) -> list[Where]:
        """The containers that this kernel's session has now, of one class or of all."""
        told = self.run(
            """
            import json as _json
            from lifecycle_magic.session import session as _session
            _s = _session.current()
            print(_json.dumps([
                [_s.id, str(_s.folder), c.name, c.id]
                for c in _s.containers() if CLS in (None, c.plan.cls)
            ]))
            """.replace("CLS", repr(cls))
        )
        return [Where(one[0], Path(one[1]), one[2], one[3]) for one in json.loads(told)]

    def container(self, cls: str | None = None) -> Where:
        """The one container of a class, or of the kernel."""
        [one] = self.containers(cls)
        return one

    def history(self, cls: str, *, sweep: bool = False) -> list[dict[str, Any]]:
        """What the history tells of a class, the oldest first.

        A session looks once for what dead ones left; with ``sweep`` it looks again.
        """
        told = self.run(
            f"""
            import dataclasses as _dataclasses, json as _json
            from lifecycle_magic.session import session as _session
            _s = _session.current()
            _s.sweep_again()
            if {sweep}: _session.sweep(_s.root, _s)
            print(_json.dumps([
                _dataclasses.asdict(one) for one in _s.history.entries() if one.cls == {cls!r}
            ]))
            """
        )
        found: list[dict[str, Any]] = json.loads(told)
        return found

    def describe_end(self, cls: str, where: Where) -> dict[str, Any]:
        """What the history tells of one container: exactly one entry."""
        [entry] = [one for one in self.history(cls, sweep=True) if one["container"] == where.name]
        return entry

    def close(self) -> None:
        self.client.stop_channels()


@dataclass(frozen=True)
class Where:
    """A container's name and engine id, its session and that session's run folder."""

    session: str
    folder: Path
    name: str
    id: str

    def leftovers(self, root: Path) -> list[str]:
        """Everything of this container that is still there, each in words."""
        return list(self._left(root))

    def _left(self, root: Path) -> Iterator[str]:
        """The same one after the other, first what is quickly found: many tests ask again and
        again until there is nothing.
        """
        for path in (self.folder / self.name / "sock", self.folder / self.name / "boot.json"):
            if path.exists():
                yield f"file {path}"
        if (root / "instances" / self.name).exists():
            yield f"instance folder of {self.name}"
        run_dir = str(self.folder / self.name)
        sockets = Path("/proc/net/unix").read_text().splitlines()
        yield from (f"socket {line}" for line in sockets if run_dir in line)
        yield from (f"process {pid}: {told}" for pid, told in self.processes().items())
        label = f"{LABEL_SESSION}={self.session}"
        with answering.client() as client:
            if not isinstance(client, str):
                some = client.containers.list(
                    all=True, filters={"label": label, "name": self.name}, ignore_removed=True
                )
                # One that ended after its kernel stays until a session sweeps.
                yield from (
                    f"container {one.name} ({one.status})" for one in some if one.status != "exited"
                )

    def is_gone(self, root: Path) -> bool:
        """Whether nothing of it is left."""
        return next(self._left(root), None) is None

    def kill(self) -> None:
        """End it from outside: ``docker kill``, or SIGKILL for each of its processes."""
        if not (pids := self.processes()):
            with contextlib.closing(docker.from_env()) as client:
                client.containers.get(self.id).kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it politely from outside: ``docker stop``, or SIGTERM for the keeper."""
        if pids := self.processes():
            os.kill(next(pid for pid, told in pids.items() if "keeper.py" in told), signal.SIGTERM)
            return
        with contextlib.closing(docker.from_env()) as client:
            client.containers.get(self.id).stop()

    def wait_gone(self, root: Path) -> None:
        """Wait until nothing of it is left."""
        wait_for(lambda: self.is_gone(root), f"the end of {self.name}")

    def processes(self) -> dict[int, str]:
        """Processes of the host that carry this instance's marker or name."""
        found = {}
        marker = f"{MARKER}={self.name}".encode()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if pid == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if marker in environment or self.name.encode() in command:
                    found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
        return found


class OwnKernel(Kernel):
    """A kernel that this process started with `jupyter_client`, as ``user`` if one is given."""

    def __init__(
        self, tmp: Path, env: dict[str, str] | None = None, user: User | None = None
    ) -> None:
        tmp.mkdir(parents=True, exist_ok=True)
        self.tmp = tmp
        # By Unix sockets: of TCP ports chosen in advance, another test's kernel may take one.
        self._sockets = Path(tempfile.mkdtemp(prefix="lm-k-"))
        self.manager = KernelManager(
            kernel_name="python3", transport="ipc", connection_file=f"{self._sockets}/kernel.json"
        )
        if user is not None:
            user.own(self._sockets)
            spec = self.manager.kernel_spec
            spec.argv = [*user.prefix, sys.executable, *spec.argv[1:]]
        self.manager.start_kernel(
            env=kernel_environment(tmp) | (env or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        super().__init__(self.manager.connection_file)

    def signal(self, number: int) -> None:
        """Send the kernel a signal, as anybody might."""
        os.kill(self.pid, number)

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def kill(self) -> float:
        """SIGKILL it, wait until it is dead; when it was sent, in seconds since the epoch."""
        at = time.time()
        self.signal(signal.SIGKILL)
        wait_for(lambda: not running(self.pid), f"the end of kernel {self.pid}")
        return at

    def close(self) -> None:
        super().close()
        process = self.manager.provisioner.process
        if running(self.pid):
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        shutil.rmtree(self._sockets)
        if process is not None:
            process.wait(PATIENCE)


def kernel_environment(tmp: Path) -> dict[str, str]:
    """Our own environment, with a temporary folder and IPython settings of its own."""
    return {
        **os.environ,
        "TMPDIR": str(tmp),
        "IPYTHONDIR": str(tmp.with_name(f"{tmp.name}-ipython")),
        "JUPYTER_RUNTIME_DIR": str(tmp.with_name(f"{tmp.name}-runtime")),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


@contextlib.contextmanager
def own_kernel(
    tmp: Path, env: dict[str, str] | None = None, user: User | None = None
) -> Iterator[OwnKernel]:
    kernel = OwnKernel(tmp, env, user)
    try:
        yield kernel
    finally:
        kernel.close()


def running(pid: int) -> bool:
    """Whether a process of that pid runs; one that only waits to be buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_tree_by_parent_pid(pid: int) -> list[int]:
    """SIGKILL a process and every descendant that parent pids lead to, as VS Code does."""
    try:
        top = psutil.Process(pid)
        family = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    return [one.pid for one in family]


# --- servers ------------------------------------------------------------------------------------


class Server:
    """A real Jupyter server on a free port of the loopback, with a token, used by its REST API."""

    def __init__(self, tmp: Path) -> None:
        tmp.mkdir(parents=True, exist_ok=True)
        self.tmp = tmp
        self.runtime = tmp.with_name(f"{tmp.name}-runtime")
        self._token = os.urandom(16).hex()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        home = tmp.with_name(f"{tmp.name}-home")
        home.mkdir(exist_ok=True)
        self.log = home / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-X", "faulthandler", "-m", "jupyter_server"),
                    *("--allow-root", "--no-browser"),
                    *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
                    f"--ServerApp.root_dir={home}",
                ],
                env=kernel_environment(tmp)
                | {"JUPYTER_TOKEN": self._token, "JUPYTER_CONFIG_DIR": str(home)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_for(self._answers, f"an answer of the server; its log is {self.log}")

    def _answers(self) -> bool:
        try:
            return self.ask("get", "/status").ok
        except requests.ConnectionError:
            assert self.process.poll() is None, "the server ended"
            return False

    def ask(self, how: str, path: str, **json: Any) -> requests.Response:
        headers = {"Authorization": f"token {self._token}"}
        with requests.request(
            how, self.url + path, json=json or None, headers=headers, timeout=PATIENCE
        ) as answer:
            answer.raise_for_status()
            return answer

    def kernel(self) -> tuple[str, Kernel]:
        """Start a kernel; its id and a connection to it."""
        id_ = self.ask("post", "/kernels", name="python3").json()["id"]
        return id_, self.connect(id_)

    def connect(self, id_: str) -> Kernel:
        return Kernel(str(self.runtime / f"kernel-{id_}.json"))

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the server a signal and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it writes where its threads are
            self.process.wait(PATIENCE)
            raise AssertionError(f"the server didn't end: {self.log.read_text()}") from None


@contextlib.contextmanager
def server(tmp: Path) -> Iterator[Server]:
    one = Server(tmp)
    try:
        yield one
    finally:
        kernels = psutil.Process(one.process.pid).children() if running(one.process.pid) else []
        one.end(signal.SIGKILL)
        for kernel in kernels:
            with contextlib.suppress(psutil.NoSuchProcess):
                kernel.kill()
