"""The ends that are asked for, each with the class's ``exit`` before its container is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel.harness import Diary, OwnKernel, own_kernel, preamble, subject, wait_for

pytestmark = [pytest.mark.kernel]

WENT = ["entered", "exit begun", "exit done"]


def warm(kernel: OwnKernel, engine: str, diary: Diary, name: str) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run(subject(name, 0))
    assert kernel.run(f"print({name}().hello.remote(5))", timeout=120).strip() == "5"


def test_app_stop_returns_when_exit_has_run(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    warm(kernel, engine, diary, "Stopped")
    where = kernel.container("Stopped")
    kernel.run("app.stop()")
    assert diary.events() == WENT
    where.wait_gone(state_dir)
    entry = kernel.describe_end("Stopped", where)
    assert (entry["state"], entry["why"]) == ("exited", "app.stop()")
    assert not (where.folder / where.name).exists()
    assert kernel.run("print(Stopped().hello.remote(6))").strip() == "6"


def test_what_app_run_started_is_gone_when_its_block_ends(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run(subject("InABlock", 0))
    kernel.run("with app.run():\n    InABlock().hello.remote(5)")
    assert diary.events() == WENT
    assert kernel.containers("InABlock") == []


def test_an_idle_container_goes_after_its_scaledown_window(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run("options['scaledown_window'] = 0.2\n" + subject("Idle", 0))
    kernel.run("Idle().hello.remote(5)")
    diary.wait("exit done")
    wait_for(lambda: not kernel.containers("Idle"), "the kernel to hear of it")
    assert "scaledown_window" in kernel.history("Idle")[-1]["why"]
    assert kernel.run("print(Idle().hello.remote(5))").strip() == "5"


def test_a_stop_from_outside_runs_exit(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    warm(kernel, engine, diary, "StoppedOutside")
    where = kernel.container("StoppedOutside")
    where.stop()
    where.wait_gone(state_dir)
    assert diary.events() == WENT
    wait_for(lambda: not kernel.containers("StoppedOutside"), "the kernel to hear of it")
    entry = kernel.describe_end("StoppedOutside", where)
    assert (entry["state"], entry["why"]) == ("exited", "it was stopped from outside (SIGTERM)")
    assert kernel.run("print(StoppedOutside().hello.remote(5))").strip() == "5"


def test_new_code_comes_up_before_the_former_exits_with_its_own_exit(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    warm(kernel, engine, diary, "Replaced")
    kernel.run(
        subject("Replaced", 0)
        .replace("(Base):", '(Base):\n    @lm.enter()\n    def more(self): note("more")\n')
        .replace('note("exit', 'note("new exit')
    )
    assert kernel.run("print(Replaced().hello.remote(6))").strip() == "6"
    diary.wait("exit done")
    assert diary.events() == ["entered", "entered", "more", "exit begun", "exit done"]
    first, second = dict.fromkeys(line.container for line in diary.lines())
    assert [line.container for line in diary.lines()] == [first, second, second, first, first]
    kernel.run("app.stop()")
    assert diary.events()[5:] == ["new exit begun", "new exit done"]


MAGIC = """\
%%lifecycle_cls --engine {engine} --volume {out}:{out}
class WithTheMagic(Base):
    @lm.method()
    def hello(self, x):
        return x

    @lm.exit()
    def close(self):
        note("exit begun")
        note("exit done")
"""


def test_unloading_the_extension_ends_everything_and_a_new_load_starts_afresh(
    engine: str, diary: Diary, tmp_path: Path, state_dir: Path, event_loop: None
) -> None:
    with own_kernel(tmp_path / "tmp") as kernel:
        kernel.run(preamble(engine, diary))
        kernel.run("%load_ext lifecycle_magic")
        named = "process" if engine == "plain" else engine
        kernel.run(MAGIC.format(engine=named, out=diary.folder), timeout=120)
        assert diary.events() == ["entered"]
        assert kernel.run("print(WithTheMagic().hello.remote(5))").strip() == "5"
        where = kernel.container()
        told = kernel.run("%unload_ext lifecycle_magic")
        assert diary.events() == WENT
        assert "WithTheMagic" in told
        where.wait_gone(state_dir)
        assert not where.folder.exists()
        kernel.run("%load_ext lifecycle_magic")
        assert "WithTheMagic" in kernel.run("%lifecycle history")
        kernel.run(MAGIC.format(engine=named, out=diary.folder))
        assert kernel.run("print(WithTheMagic().hello.remote(6))").strip() == "6"
        kernel.kill()
    diary.wait("exit done", times=2)
