"""Interrupting a cell, whatever it is that the cell waits for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.harness import CellFailed, Diary, OwnKernel, preamble

pytestmark = [pytest.mark.kernel]

SLOW = """\
@app.cls(**options)
class Slow(Base):
    @lm.enter()
    def load(self):
        note("loading")
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)

    @lm.method()
    def hello(self, x):
        return x

    @lm.method()
    def sleep(self):
        note("sleeping")
        time.sleep(600)

    @lm.method()
    async def block(self):
        note("blocking")
        time.sleep(600)

    @lm.method()
    def wait(self):
        note("waiting")
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)
        return "waited"

    @lm.method()
    def deaf(self):
        note("deaf")
        while True:
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                note("heard")

    @lm.exit()
    def close(self):
        note("exit begun")
"""


@pytest.fixture(autouse=True)
def declared(kernel: OwnKernel, engine: str, diary: Diary) -> Iterator[None]:
    kernel.run(preamble(engine, diary))
    kernel.run(SLOW)
    yield
    kernel.run("app.stop()")  # what stays warm would be replaced in the next test, not started


def interrupted(kernel: OwnKernel, cell: str) -> CellFailed:
    """Interrupt the cell; the KeyboardInterrupt that it ends with."""
    kernel.interrupt()
    with pytest.raises(CellFailed) as failed:
        kernel.outcome(cell)
    assert failed.value.name == "KeyboardInterrupt"
    return failed.value


@pytest.mark.parametrize("call", ["sleep.remote()", "block.remote().get()", "block.spawn().get()"])
def test_interrupting_a_running_method_keeps_the_container_warm(
    call: str, kernel: OwnKernel, diary: Diary
) -> None:
    cell = kernel.begin(f"Slow().{call}")
    diary.wait("sleeping" if "sleep" in call else "blocking")
    interrupted(kernel, cell)
    assert kernel.run("print(Slow().hello.remote(5))").strip() == "5"
    assert diary.events().count("entered") == 1


def test_interrupting_a_call_that_waits_for_its_turn_leaves_the_running_one_alone(
    kernel: OwnKernel, diary: Diary
) -> None:
    hold = diary.folder / "hold"
    kernel.run("Slow().hello.remote(1)")
    hold.touch()
    kernel.run("running = Slow().wait.spawn()")
    diary.wait("waiting")
    cell = kernel.begin("note('queueing'); Slow().hello.remote(2)")
    diary.wait("queueing")
    interrupted(kernel, cell)
    hold.unlink()
    assert kernel.run("print(running.get())").strip() == "waited"
    assert kernel.run("print(Slow().hello.remote(5))").strip() == "5"
    assert diary.events().count("entered") == 1


def test_interrupting_a_call_whose_container_starts_leaves_the_container_to_the_next_one(
    kernel: OwnKernel, diary: Diary
) -> None:
    hold = diary.folder / "hold"
    hold.touch()
    cell = kernel.begin("Slow().hello.remote(2)")
    diary.wait("loading")
    interrupted(kernel, cell)
    hold.unlink()
    assert kernel.run("print(Slow().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "loading"]


def test_interrupting_a_call_that_replaces_the_container_leaves_the_next_one_to_try_again(
    kernel: OwnKernel, diary: Diary
) -> None:
    kernel.run("Slow().hello.remote(1)")
    kernel.run(
        SLOW.replace("return x", "return -x").replace('note("loading")', 'note("reloading")')
    )
    hold = diary.folder / "hold"
    hold.touch()
    cell = kernel.begin("Slow().hello.remote(2)")
    diary.wait("reloading")
    interrupted(kernel, cell)
    hold.unlink()
    assert "exit begun" not in diary.events()  # the former one stays until there is another
    assert kernel.run("print(Slow().hello.remote(5))").strip() == "-5"
    diary.wait("exit begun")
    assert diary.events().count("exit begun") == 1


def test_a_method_that_ignores_its_interrupt_loses_its_container_and_the_cell_says_so(
    kernel: OwnKernel, diary: Diary
) -> None:
    cell = kernel.begin("Slow().deaf.remote()")
    diary.wait("deaf")
    failed = interrupted(kernel, cell)
    assert "did not stop within 5 s" in str(failed)
    assert "replaced" in str(failed)
    assert kernel.run("print(Slow().hello.remote(5))").strip() == "5"
    assert diary.events().count("entered") == 2
    assert "heard" in diary.events()
