"""An ``exit`` hook that never ends is killed at the end of its grace, and that is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel.harness import Diary, OwnKernel, own_kernel, preamble

pytestmark = [pytest.mark.kernel]

HANGING = """\
@app.cls(**options, exit_grace=1)
class {name}(Base):
    @lm.method()
    def hello(self, x):
        return x

    @lm.exit()
    def close(self):
        note("exit begun")
        {hang}
        note("exit done")

    @lm.exit()
    def later(self):
        note("later")
"""

HANGS = {
    "Sleeps": "time.sleep(600)",
    "HoldsTheGil": "import ctypes; ctypes.PyDLL(None).sleep(600)",
    "IgnoresSignals": "import signal; signal.pthread_sigmask(0, range(1, 65)); time.sleep(600)",
}


def warm(kernel: OwnKernel, engine: str, diary: Diary, name: str) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run(HANGING.format(name=name, hang=HANGS[name]))
    assert kernel.run(f"print({name}().hello.remote(5))").strip() == "5"


@pytest.mark.parametrize("name", HANGS)
def test_a_hook_that_hangs_is_killed_and_told_when_it_is_stopped(
    name: str, kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    warm(kernel, engine, diary, name)
    where = kernel.container(name)
    kernel.run("app.stop()")
    where.wait_gone(state_dir)
    assert diary.events() == ["entered", "exit begun"]
    entry = kernel.history(name)[-1]
    assert entry["state"] == "failed"
    assert entry["why"] == "it was killed: exit did not end within its grace of 1 s"


@pytest.mark.parametrize("name", HANGS)
def test_a_hook_that_hangs_is_killed_and_told_when_the_kernel_is_gone(
    name: str, kernel: OwnKernel, engine: str, diary: Diary, tmp_path: Path, state_dir: Path
) -> None:
    with own_kernel(tmp_path / "tmp") as other:
        warm(other, engine, diary, name)
        where = other.container()
        other.kill()
    where.wait_gone(state_dir)
    assert diary.events() == ["entered", "exit begun"]
    entry = kernel.describe_end(name, where)
    assert entry["state"] == "failed"
    assert entry["why"] == "it was killed: exit did not end within its grace of 1 s"
    assert not where.folder.exists()
