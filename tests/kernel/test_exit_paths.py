"""A 12 s ``exit`` runs to its end, whatever ends the kernel, and nothing is left.

Every path needs its twelve seconds, so all of them go at the same time, once per test run; each
test then looks at the facts of one path.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kernel.harness import (
    ENGINES,
    Diary,
    Kernel,
    OwnKernel,
    Server,
    Where,
    event_loop_of_this_thread,
    kernel_environment,
    kill_tree_by_parent_pid,
    own_kernel,
    preamble,
    running,
    server,
    subject,
    wait_for,
)

SECONDS = 12.0

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("exit-paths"),
]


@dataclass
class Life:
    """One class in one kernel, up to its end."""

    path: str
    engine: str
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    kernel: Any = None
    where: Any = None
    left: list[str] = field(default_factory=list)  # of the container, once it should be gone
    tmp: Any = None  # the kernel's temporary folder

    @property
    def cls(self) -> str:
        return f"{self.path.title().replace('_', '')}On{self.engine.title()}"

    @property
    def diary(self) -> Diary:
        return Diary(self.folder / "out")

    def open(self, before: str = "") -> OwnKernel:
        """Have this class warm in a kernel of its own, that runs a cell ``before``."""
        kernel = OwnKernel(self.folder / "tmp")
        self.warm(kernel, kernel.tmp, before)
        return kernel

    def warm(self, kernel: Kernel, tmp: Path, before: str = "") -> None:
        """Have this class warm in the kernel, which is closed in the end."""
        self.kernel = kernel
        self.tmp = tmp
        self.stack.callback(kernel.close)
        kernel.run(preamble(self.engine, self.diary))
        kernel.run(before)
        kernel.run(subject(self.cls, SECONDS))
        assert kernel.run(f"print({self.cls}().hello.remote(7))", timeout=120).strip() == "7"
        self.where = kernel.container()

    def busy(self) -> None:
        """Have a method run that takes ten minutes."""
        self.kernel.begin(f"{self.cls}().slow.remote()")
        self.diary.wait("slow")


ENGINE_OVER_TCP = {
    "docker": "DockerEngine(transport='relay')",
    "process": "ProcessEngine(transport='tcp')",
    "plain": "ProcessEngine(sandbox=False, transport='tcp')",
}
OVER_TCP = """\
from lifecycle_magic.session import session
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.process.engine import ProcessEngine
session.current()._engines[options["engine"]] = {engine}
"""


# --- the paths: each makes a kernel warm, ends it, and returns ------------------------------------


def kernel_sigkill(life: Life) -> None:
    life.open().signal(signal.SIGKILL)


def kernel_sigkill_over_tcp(life: Life) -> None:
    over_tcp = OVER_TCP.format(engine=ENGINE_OVER_TCP[life.engine])
    life.open(before=over_tcp).signal(signal.SIGKILL)


def kernel_sigterm(life: Life) -> None:
    life.open().signal(signal.SIGTERM)


def os_exit_in_a_cell(life: Life) -> None:
    life.open().begin("import os; os._exit(1)")


def kernel_killed_while_busy(life: Life) -> None:
    kernel = life.open()
    life.busy()
    kernel.signal(signal.SIGKILL)


def shutdown_request(life: Life) -> None:
    life.open().manager.shutdown_kernel()


def descendants_killed_by_parent_pid(life: Life) -> None:
    kill_tree_by_parent_pid(life.open().pid)


def nbclient_at_the_end_of_the_notebook(life: Life) -> None:
    told = life.folder / "where.json"
    named = "process" if life.engine == "plain" else life.engine
    cells = [
        "%load_ext lifecycle_magic",
        preamble(life.engine, life.diary),
        f"%%lifecycle_cls --engine {named} --volume {life.diary.folder}:{life.diary.folder}\n"
        + subject(life.cls, SECONDS).replace("@app.cls(**options)\n", ""),
        f"{life.cls}().hello.remote(7)",
        f"""
from lifecycle_magic.session import session
s = session.current()
[c] = s.containers()
open({str(told)!r}, "w").write(json.dumps([s.id, str(s.folder), c.name, c.id]))
""",
    ]
    import nbclient  # takes a second, which no test that is only collected should cost
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    life.tmp = life.folder / "tmp"
    life.tmp.mkdir()
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(env=kernel_environment(life.tmp))
    session, folder, name, id_ = json.loads(told.read_text())
    life.where = Where(session, Path(folder), name, id_)


ALONE: list[Callable[[Life], None]] = [
    kernel_sigkill,
    kernel_sigkill_over_tcp,
    kernel_sigterm,
    os_exit_in_a_cell,
    kernel_killed_while_busy,
    shutdown_request,
    descendants_killed_by_parent_pid,
    nbclient_at_the_end_of_the_notebook,
]


# --- the paths by way of a server: its kernels are told apart by engine ---------------------------


def rest_delete(server: Server, life: Life) -> None:
    id_, kernel = server.kernel()
    life.warm(kernel, server.tmp)
    server.ask("delete", f"/kernels/{id_}")


def rest_delete_of_a_busy_kernel(server: Server, life: Life) -> None:
    id_, kernel = server.kernel()
    life.warm(kernel, server.tmp)
    printed = life.folder / "busy"
    kernel.begin(f"open({str(printed)!r}, 'w').close()\nwhile True: pass")
    wait_for(printed.exists, "the busy cell's beginning")
    server.ask("delete", f"/kernels/{id_}")


def rest_restart(server: Server, life: Life) -> None:
    id_, kernel = server.kernel()
    life.warm(kernel, server.tmp)
    assert server.ask("post", f"/kernels/{id_}/restart").json()["id"] == id_
    wait_for(lambda: not running(kernel.pid), "the end of the kernel's first life")
    again = server.connect(id_)
    life.stack.callback(again.close)
    assert again.run("print('options' in dir())").strip() == "False"


BY_REST = [rest_delete, rest_delete_of_a_busy_kernel, rest_restart]
BY_SERVER = {"server_sigterm": signal.SIGTERM, "server_sigkill": signal.SIGKILL}

PATHS = [one.__name__ for one in (*ALONE, *BY_REST)] + list(BY_SERVER)


class Everything:
    """All paths on all engines, run at once; what became of each."""

    def __init__(self, tmp: Path, root: Path, stack: ExitStack) -> None:
        self._tmp = tmp
        self._root = root
        self._stack = stack
        self._starting = threading.Semaphore(4)  # kernels on their way up, for two cores' sake
        self.lives: dict[tuple[str, str], Future[Life]] = {}

    def run(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            for engine in ENGINES:
                pool.submit(self._warm_image, engine)
        self._pool = ThreadPoolExecutor(64)
        self._stack.callback(self._pool.shutdown)
        shared = self._stack.enter_context(server(self._tmp / "server"))
        for engine in ENGINES:
            for path in ALONE:
                self._submit(path.__name__, engine, path)
            for by_rest in BY_REST:
                self._submit(by_rest.__name__, engine, lambda life, p=by_rest: p(shared, life))
        for name, number in BY_SERVER.items():
            self._end_server(name, number)

    def _warm_image(self, engine: str) -> None:
        """Have the image made once, before thirty kernels want it."""
        life = self._life("image", engine)
        with event_loop_of_this_thread(), life.stack:
            life.open()

    def _life(self, path: str, engine: str) -> Life:
        folder = self._tmp / f"{path}-{engine}"
        folder.mkdir()
        return Life(path, engine, folder)

    def _submit(self, path: str, engine: str, end: Callable[[Life], None]) -> None:
        self.lives[path, engine] = self._pool.submit(self._live, self._life(path, engine), end)

    def _live(self, life: Life, end: Callable[[Life], None]) -> Life:
        with event_loop_of_this_thread(), life.stack:
            with self._starting:
                end(life)
            self._see_off(life)
        return life

    def _end_server(self, name: str, number: int) -> None:
        """One server with a kernel for each engine gets a signal."""
        one = self._stack.enter_context(server(self._tmp / name))
        ready = threading.Barrier(len(ENGINES), lambda: one.end(number))

        def end(life: Life) -> None:
            try:
                life.warm(one.kernel()[1], one.tmp)
            except BaseException:
                ready.abort()
                raise
            ready.wait(120)
            wait_for(lambda: not running(life.kernel.pid), "the end of the server's kernel")

        for engine in ENGINES:
            life = self._life(name, engine)
            self.lives[name, engine] = self._pool.submit(self._live_unbound, life, end)

    def _live_unbound(self, life: Life, end: Callable[[Life], None]) -> Life:
        with event_loop_of_this_thread(), life.stack:
            end(life)  # the three wait for each other, so none may wait for the others' turn
            self._see_off(life)
        return life

    def _see_off(self, life: Life) -> None:
        """Follow the diary to its end, then wait for the last of the container."""
        # Not every 20 ms: 39 threads would, and each look reads a file.
        wait_for(lambda: "exit done" in life.diary.events(), f"the exit of {life.cls}", every=0.25)
        try:
            wait_for(lambda: life.where.is_gone(self._root), "nothing left", 20, every=0.2)
        except AssertionError:
            life.left = life.where.leftovers(self._root)  # the test says what


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory, state_dir: Path, need_docker: object, need_bwrap: str
) -> Iterator[Everything]:
    with ExitStack() as stack:
        all_of_it = Everything(tmp_path_factory.mktemp("exit"), state_dir, stack)
        all_of_it.run()
        yield all_of_it


@dataclass(frozen=True)
class Told:
    """What a new kernel tells of all of them: by the magic, and the entries of each class."""

    by_magic: str
    entries: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def told(everything: Everything, tmp_path_factory: pytest.TempPathFactory) -> Told:
    lives = [future.result() for future in everything.lives.values() if not future.exception()]
    with own_kernel(tmp_path_factory.mktemp("later") / "tmp") as kernel:
        kernel.run("%load_ext lifecycle_magic")
        by_magic = kernel.run("%lifecycle history -n 200")
        return Told(by_magic, {life.cls: kernel.history(life.cls) for life in lives})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", PATHS)
def test_a_12_s_exit_hook_runs_to_its_end(
    path: str, engine: str, everything: Everything, told: Told
) -> None:
    life = everything.lives[path, engine].result()
    begun, done = life.diary.at("exit begun"), life.diary.at("exit done")
    assert done - begun >= SECONDS
    assert [life.diary.events().count(event) for event in ("entered", "exit begun")] == [1, 1]
    assert life.left == []
    [entry] = told.entries[life.cls]
    assert entry["state"] == "exited", entry
    [hook] = entry["hooks"]
    assert hook["hook"] == "close"
    assert hook["seconds"] >= SECONDS
    assert hook["error"] is None
    assert re.search(rf"{life.cls}  exited .*\n +close\(\)  ok in 1[2-9]", told.by_magic)
    assert not life.where.folder.exists(), "the dead session's run folder is still there"
    assert os.listdir(life.tmp) == []
