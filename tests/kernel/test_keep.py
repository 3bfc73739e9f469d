"""``keep``: the next kernel of a notebook adopts the containers, whatever ended the one before.

Each way in which a kernel can end is tried once on each engine, all of them at the same time; then
one new kernel declares every class again. Further tests look at single sentences.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from kernel.harness import (
    CellFailed,
    Diary,
    Kernel,
    OwnKernel,
    Server,
    event_loop_of_this_thread,
    existing,
    kernel_environment,
    kill_tree_by_parent_pid,
    own_kernel,
    preamble,
    running,
    server,
    wait_for,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]

NOTEBOOK = """
import os
os.environ["JPY_SESSION_NAME"] = "/notebooks/{name}.ipynb"
"""

MODEL = """
@app.cls(**options, **{more})
class {name}(Base):
    @lm.method()
    def count(self, by=1):
        self.n = getattr(self, "n", {start}) + by
        return self.n

    @lm.method()
    def slow(self):
        note("slow")
        while not os.path.exists(OUT + "/go"):
            time.sleep(0.01)
        self.n = 100
        note("slow done")
        return self.n

    @lm.exit()
    def close(self):
        note("exit")
"""


def model(name: str, *, start: int = 0, **more: Any) -> str:
    """The cell of a class that counts its calls. Another ``start`` is another ``count``."""
    return MODEL.format(name=name, start=start, more={"keep": 120, **more})


def declare(kernel: Kernel, engine: str, diary: Diary, notebook: str, cell: str) -> None:
    kernel.run(NOTEBOOK.format(name=notebook))
    kernel.run(preamble(engine, diary))
    kernel.run(cell)


def count(kernel: Kernel, name: str) -> int:
    return int(kernel.run(f"print({name}().count.remote())", timeout=120))


def listed(kernel: Kernel) -> str:
    """What ``%lifecycle ps`` shows."""
    return kernel.run(
        """
        from lifecycle_magic.session import session as _session
        from lifecycle_magic.ui import commands as _commands
        print(_commands.run("ps", _session.current()).text())
        """
    )


@pytest.fixture
def one(tmp_path: Path, event_loop: None, state_dir: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "one") as kernel:
        yield kernel


@pytest.fixture
def other(tmp_path: Path, event_loop: None, state_dir: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "other") as kernel:
        yield kernel


def test_the_next_kernel_goes_on_with_the_instance(
    one: OwnKernel, other: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(one, engine, diary, "goes-on", model("GoesOn"))
    assert count(one, "GoesOn") == 1
    one.signal(signal.SIGKILL)
    wait_for(lambda: not running(one.pid), "the end of the kernel")
    assert "GoesOn" in (told := other.run("%load_ext lifecycle_magic")), told
    assert "left" in told
    assert re.search(r"GoesOn .* kept, (2|1) min", listed(other)), listed(other)
    # A comment and another method body are no other state.
    declare(other, engine, diary, "goes-on", "# edited\n" + model("GoesOn", start=50))
    assert count(other, "GoesOn") == 2, "the instance is another one"
    [container] = other.containers("GoesOn")
    printed = other.run("app.stop()")
    assert diary.events() == ["entered", "exit"], printed
    assert other.describe_end("GoesOn", container)["why"] == "app.stop()"
