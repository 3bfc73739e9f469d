"""Kernels killed, and cells interrupted, at moments that nobody chose.

``LIFECYCLE_MAGIC_KILLS`` and ``LIFECYCLE_MAGIC_INTERRUPTS`` say how many; ``LIFECYCLE_MAGIC_SEED``
repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import answering
import pytest
from kernel.harness import CellFailed, Diary, OwnKernel, own_kernel, preamble, wait_for

from lifecycle_magic.host import temporary_names

KILLS = int(os.environ.get("LIFECYCLE_MAGIC_KILLS", 20))
INTERRUPTS = int(os.environ.get("LIFECYCLE_MAGIC_INTERRUPTS", 20))
SEED = int(os.environ.get("LIFECYCLE_MAGIC_SEED", time.time_ns() % 1_000_000))
AT_ONCE = 4
MOST_SECONDS = 0.4
"""A kill comes up to this long after a line that the kernel printed."""

DOOMED = """
    import os, sys, uuid
    import lifecycle_magic as lm

    OUT = sys.argv[1]
    app = lm.App("doomed")

    def say(what):
        print(what, flush=True)

    @app.cls(volumes={OUT: lm.Volume.from_path(OUT)}, scaledown_window=1)
    class Doomed:
        @lm.enter()
        def load(self):
            self.me = uuid.uuid4().hex
            os.close(os.open(f"{OUT}/entered.{self.me}", os.O_CREAT | os.O_EXCL))

        @lm.method()
        def echo(self, x):
            return x

        @lm.method()
        async def soon(self, x):
            return x

        @lm.method()
        def count(self, most):
            yield from range(most)

        @lm.exit()
        def close(self):
            os.close(os.open(f"{OUT}/exited.{self.me}", os.O_CREAT | os.O_EXCL))

    say("declared")
    one = Doomed()
    while True:
        one.echo.remote(1)
        say("called")
        one.echo.spawn(bytearray(300_000)).get()
        list(one.echo.map(range(50)))
        say("mapped")
        for _ in one.count.remote_gen(20):
            pass
        one.soon.remote(1)
        say("streamed")
        app.stop()
        say("stopped")
"""

SWEEP = """
    from lifecycle_magic.session import session

    current = session.current()
    current.sweep_again()
    print(len(current.history.entries()))
    session.close("it looked")
"""


class Doom:
    """Processes with a session each, killed at random moments; one state folder for all."""

    def __init__(self, engine: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lm-doom-"))
        self.out = self.root / "out"
        self.out.mkdir()
        self.state = self.root / "state"
        self.script = self.root / "doomed.py"
        self.script.write_text(textwrap.dedent(DOOMED))
        self._env = os.environ | {
            "LIFECYCLE_MAGIC_STATE": str(self.state),
            "LIFECYCLE_MAGIC_ENGINE": engine,
        }

    def kill_one(self, lines: int, seconds: float) -> None:
        """Kill a session's process so many seconds after the last of some lines."""
        process = subprocess.Popen(
            [sys.executable, str(self.script), str(self.out)],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(lines):
                if not process.stdout.readline():
                    raise AssertionError(process.stderr.read())
            time.sleep(seconds)  # the moment; nothing is waited for
            process.kill()
            # What it started may hold its standard error open.
            process.stderr.close()
            process.stdout.close()
        assert process.returncode == -signal.SIGKILL

    def notes(self, event: str) -> set[str]:
        return {name.partition(".")[2] for name in os.listdir(self.out) if name.startswith(event)}

    def sweep(self) -> int:
        """Have a new session look after what the dead ones left; its entries in the history."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SWEEP)],
            env=self._env,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    def leftovers(self) -> list[str]:
        """Return what is left of all of them."""
        found = [str(path) for path in (self.state / "run").iterdir()]
        for kind in ("instances", "guest", "images"):
            found += map(str, temporary_names.abandoned(self.state / kind))
        found += map(str, (self.state / "instances").glob("*"))
        found += self._processes()
        with answering.client() as client:
            if not isinstance(client, str):
                some = client.containers.list(all=True, filters={"name": "lm-doomed-"})
                mounted = [(one.name, str(one.attrs["Mounts"])) for one in some]
                found += [str(name) for name, mounts in mounted if str(self.root) in mounts]
        return found

    def _processes(self) -> Iterator[str]:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if str(self.root).encode() in command:
                    yield command.decode(errors="replace").replace("\0", " ")


@pytest.fixture
def doom(engine_name: str) -> Iterator[Doom]:
    one = Doom(engine_name)
    yield one
    shutil.rmtree(one.root)


@pytest.mark.slow
@pytest.mark.timeout(180 + 3 * KILLS)
def test_kernels_killed_at_random_moments_lose_no_exit_and_leave_nothing(
    doom: Doom, engine_name: str
) -> None:
    dice = random.Random(SEED)
    count = KILLS if engine_name == "process" else KILLS // 4
    moments = [(dice.randrange(8), dice.uniform(0, MOST_SECONDS)) for _ in range(count)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda moment: doom.kill_one(*moment), moments))

    def settled() -> bool:
        entries = doom.sweep()
        return (
            doom.notes("entered") == doom.notes("exited")
            and not doom.leftovers()
            and (entries >= len(doom.notes("entered")))
        )

    try:
        wait_for(settled, "the last exit", every=0.5)
    except AssertionError:
        entered, exited = doom.notes("entered"), doom.notes("exited")
        raise AssertionError(
            f"seed {SEED}: {len(entered)} entered, {len(exited)} exited, "
            f"left: {doom.leftovers()[:10]}"
        ) from None
    print(f"{count} kernels killed: {len(doom.notes('entered'))} entered and exited")


BUSY = """\
@app.cls(**options)
class Busy(Base):
    @lm.method()
    def echo(self, x):
        return x

    @lm.method()
    async def soon(self, x):
        import asyncio
        await asyncio.sleep(0.01)
        return x

    @lm.method()
    def count(self, most):
        for number in range(most):
            time.sleep(0.001)
            yield number

    @lm.exit()
    def close(self):
        note("exit")

busy = Busy()
big = bytearray(os.urandom(1 << 20))
"""

CELLS = {
    "calls": "for n in range(2000): assert busy.echo.remote(n) == n",
    "a first call": "app.stop(); assert busy.echo.remote(5) == 5",
    "coroutines": "for n in range(30): assert await busy.soon.remote(n) == n",
    "a map": "assert list(busy.echo.map(range(3000))) == list(range(3000))",
    "a generator": "assert list(busy.count.remote_gen(200)) == list(range(200))",
    "spawned calls": "for n in range(500): assert busy.echo.spawn(n).get() == n",
    "large values": "for n in range(100): assert busy.echo.remote(big) == big",
}


@pytest.mark.slow
@pytest.mark.timeout(180 + 3 * INTERRUPTS)
@pytest.mark.kernel
def test_cells_interrupted_at_random_moments_get_no_wrong_value_and_do_not_hang(
    engine_name: str, tmp_path: Path, event_loop: None
) -> None:
    dice = random.Random(SEED)
    diary = Diary(tmp_path / "out")
    ended: Counter[str] = Counter()
    with own_kernel(tmp_path / "tmp") as kernel:
        kernel.run(preamble(engine_name, diary) + BUSY)
        kernel.run("busy.echo.remote(1)", timeout=120)
        for number in range(INTERRUPTS):
            name = dice.choice(sorted(CELLS))
            cell = kernel.begin(f"note('begun {number}')\n{CELLS[name]}")
            diary.wait(f"begun {number}")
            time.sleep(dice.uniform(0, MOST_SECONDS))  # the moment; nothing is waited for
            kernel.interrupt()
            where = f"seed {SEED}, interrupt {number}, in {name}"
            how = outcome(kernel, cell)
            assert how in ("done", "KeyboardInterrupt", "CancelledError"), f"{where}: {how}"
            ended[how] += 1
            assert after(kernel, number) == str(-number), where
        kernel.run("app.stop()")
        wait_for(
            lambda: diary.events().count("exit") == diary.events().count("entered"),
            f"as many exits as enters (seed {SEED})",
        )
    assert ended["KeyboardInterrupt"]


def outcome(kernel: OwnKernel, cell: str) -> str:
    """Return how a cell ended: ``done``, or the exception's type."""
    try:
        kernel.outcome(cell)
    except CellFailed as failed:
        return failed.name
    return "done"


def after(kernel: OwnKernel, number: int) -> str:
    """Return what a call returns now; a late interrupt of the test may hit this cell instead."""
    for _ in range(3):
        with contextlib.suppress(CellFailed):
            return kernel.run(f"print(busy.echo.remote(-{number}))").strip()
    return "no answer"
