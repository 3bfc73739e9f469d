"""A class with ``keep`` lives on, whatever ends the kernel, and the next kernel goes on with it.

All ways go at the same time, once per engine. Then one new kernel of each engine declares every
class again; each test looks at the facts of one way.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kernel.harness import (
    Diary,
    Kernel,
    OwnKernel,
    Server,
    event_loop_of_this_thread,
    kernel_environment,
    kill_tree_by_parent_pid,
    own_kernel,
    preamble,
    running,
    server,
    wait_for,
)
from kernel.kept import NOTEBOOK, count, declare, model

ENGINES = ("docker", "process")

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("exit-paths"),
]


@dataclass
class Life:
    """One class in one kernel, up to the kernel's end."""

    path: str
    engine: str
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def cls(self) -> str:
        return f"{self.path.title().replace('_', '')}On{self.engine.title()}"

    @property
    def diary(self) -> Diary:
        return Diary(self.folder / "out")

    def open(self) -> OwnKernel:
        """Have this class warm in a kernel of its own."""
        kernel = OwnKernel(self.folder / "tmp")
        self.warm(kernel)
        return kernel

    def warm(self, kernel: Kernel) -> None:
        """Have this class warm in the kernel, which is closed in the end."""
        self.stack.callback(kernel.close)
        declare(kernel, self.engine, self.diary, self.engine, model(self.cls))
        assert count(kernel, self.cls) == 1


def kernel_sigkill(life: Life) -> None:
    life.open().signal(signal.SIGKILL)


def kernel_sigterm(life: Life) -> None:
    life.open().signal(signal.SIGTERM)


def os_exit_in_a_cell(life: Life) -> None:
    life.open().begin("import os; os._exit(1)")


def kernel_killed_while_busy(life: Life) -> None:
    kernel = life.open()
    kernel.begin(f"{life.cls}().slow.remote()")
    life.diary.wait("slow")
    kernel.kill()
    (life.diary.folder / "go").touch()


def shutdown_request(life: Life) -> None:
    life.open().manager.shutdown_kernel()


def descendants_killed_by_parent_pid(life: Life) -> None:
    kill_tree_by_parent_pid(life.open().pid)


def nbclient_at_the_end_of_the_notebook(life: Life) -> None:
    import nbclient  # takes a second, which no test that is only collected should cost
    import nbformat

    cells = [
        "%load_ext lifecycle_magic",
        NOTEBOOK.format(name=life.engine),
        preamble(life.engine, life.diary),
        model(life.cls),
        f"{life.cls}().count.remote()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    (life.folder / "tmp").mkdir()
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(env=kernel_environment(life.folder / "tmp"))


def rest_delete(server: Server, life: Life) -> None:
    id_, kernel = server.kernel()
    life.warm(kernel)
    server.ask("delete", f"/kernels/{id_}")


def rest_restart(server: Server, life: Life) -> None:
    id_, kernel = server.kernel()
    life.warm(kernel)
    server.ask("post", f"/kernels/{id_}/restart")
    wait_for(lambda: not running(kernel.pid), "the end of the kernel's first life")


ALONE: list[Callable[[Life], None]] = [
    kernel_sigkill,
    kernel_sigterm,
    os_exit_in_a_cell,
    kernel_killed_while_busy,
    shutdown_request,
    descendants_killed_by_parent_pid,
    nbclient_at_the_end_of_the_notebook,
]
BY_REST = [rest_delete, rest_restart]
BY_SERVER = {"server_sigterm": signal.SIGTERM, "server_sigkill": signal.SIGKILL}
PATHS = [*(one.__name__ for one in (*ALONE, *BY_REST)), *BY_SERVER]


@dataclass(frozen=True)
class Outcome:
    """What the next kernel found: the count of the next call, and the diary before and after."""

    count: int
    before: list[str]
    after: list[str]


class Everything:
    """All ways on all engines, run at once, and what the next kernels find."""

    def __init__(self, tmp: Path, stack: ExitStack) -> None:
        self._tmp = tmp
        self._stack = stack
        self._starting = threading.Semaphore(4)  # for the sake of two cores
        self.outcomes: dict[tuple[str, str], Outcome] = {}

    def run(self) -> None:
        shared = self._stack.enter_context(server(self._tmp / "server"))
        with ThreadPoolExecutor(64) as pool:
            lives = [
                pool.submit(self._live, self._life(name, engine), end)
                for engine in ENGINES
                for name, end in self._ways(shared)
            ]
        with ThreadPoolExecutor(len(ENGINES)) as pool:
            found = [one.result() for one in lives]
            list(pool.map(lambda engine: self._go_on(engine, found), ENGINES))

    def _ways(self, shared: Server) -> list[tuple[str, Callable[[Life], None]]]:
        ways = [(one.__name__, one) for one in ALONE]
        ways += [(one.__name__, lambda life, one=one: one(shared, life)) for one in BY_REST]
        return [*ways, *((name, self._ended_with_its_server) for name in BY_SERVER)]

    def _ended_with_its_server(self, life: Life) -> None:
        with server(life.folder / "server") as own:
            kernel = own.kernel()[1]
            life.warm(kernel)
            own.end(BY_SERVER[life.path])
            wait_for(lambda: not running(kernel.pid), "the end of the server's kernel")

    def _life(self, path: str, engine: str) -> Life:
        folder = self._tmp / f"{path}-{engine}"
        folder.mkdir()
        return Life(path, engine, folder)

    def _live(self, life: Life, end: Callable[[Life], None]) -> Life:
        with self._starting, event_loop_of_this_thread(), life.stack:
            end(life)
        return life

    def _go_on(self, engine: str, lives: list[Life]) -> None:
        """Declare every class of an engine in one new kernel, call it, and stop it."""
        mine = [life for life in lives if life.engine == engine]
        with (
            event_loop_of_this_thread(),
            own_kernel(self._tmp / f"next-{engine}" / "tmp") as kernel,
        ):
            for life in mine:
                before = life.diary.events()
                declare(kernel, engine, life.diary, engine, model(life.cls))
                counted = count(kernel, life.cls)
                kernel.run("app.stop()")
                self.outcomes[life.path, engine] = Outcome(counted, before, life.diary.events())


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory, state_dir: Path, need_docker: object, need_bwrap: str
) -> Iterator[Everything]:
    with ExitStack() as stack:
        all_of_it = Everything(tmp_path_factory.mktemp("keep"), stack)
        all_of_it.run()
        yield all_of_it


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", PATHS)
def test_the_next_kernel_goes_on_with_the_instance(
    path: str, engine: str, everything: Everything
) -> None:
    found = everything.outcomes[path, engine]
    busy = path == "kernel_killed_while_busy"
    assert found.count == (101 if busy else 2)
    assert [one for one in found.before if "slow" not in one] == ["entered"]
    assert found.after == [*found.before, *(["slow done"] * (found.before[-1] == "slow")), "exit"]
