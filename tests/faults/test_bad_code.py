"""Code of the user's that goes wrong: a clear error for the call, and the next call works."""

from __future__ import annotations

import pytest
from kernel.harness import CellFailed, Diary, OwnKernel, preamble

pytestmark = [pytest.mark.kernel]


def declare(kernel: OwnKernel, engine: str, diary: Diary, body: str) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run(body)


BROKEN = """\
@app.cls(**options)
class Broken(Base):
    @lm.enter()
    def load(self):
        print("looking for the weights")
        if not os.path.exists(OUT + "/weights"):
            raise ValueError("no weights")

    @lm.enter()
    def later(self):
        note("later")

    @lm.method()
    def hello(self, x):
        return x

    @lm.exit()
    def close(self):
        note("exit begun")
"""


def test_enter_that_raises_fails_every_waiting_call_and_the_next_starts_afresh(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, BROKEN)
    printed = kernel.run(
        """
        waiting = [Broken().hello.spawn(n) for n in range(3)]
        for call in waiting:
            try:
                call.get()
            except ValueError as error:
                print("failed:", error)
        """
    )
    assert printed.count("failed: no weights") == 3
    assert "looking for the weights" in printed
    assert diary.events() == ["entered"]  # nothing loops, no later enter, no exit
    with pytest.raises(CellFailed, match="no weights") as failed:
        kernel.run("Broken().hello.remote(1)")
    assert failed.value.name == "ValueError"
    assert 'raise ValueError("no weights")' in str(failed.value)
    assert "lifecycle_magic/" not in str(failed.value)
    (diary.folder / "weights").touch()
    assert kernel.run("print(Broken().hello.remote(5))").split()[-1] == "5"
    kernel.run("app.stop()")
    assert diary.events() == ["entered", "entered", "entered", "later", "exit begun"]


FRAGILE = """\
@app.cls(**options)
class Fragile(Base):
    @lm.method()
    def hello(self, x):
        return x

    @lm.method()
    def leave(self, how):
        print("about to leave")
        how()

    @lm.method()
    def lock(self):
        import threading
        return threading.Lock()

    @lm.exit()
    def close(self):
        note("exit begun")
"""


def test_sys_exit_in_a_method_is_an_error_and_the_container_stays(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, FRAGILE)
    with pytest.raises(CellFailed) as failed:
        kernel.run("Fragile().leave.remote(lambda: sys.exit(3))")
    assert (failed.value.name, failed.value.value) == ("SystemExit", "3")
    assert kernel.run("print(Fragile().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered"]


def test_a_result_that_can_not_be_pickled_is_named_and_the_container_stays(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, FRAGILE)
    with pytest.raises(CellFailed, match="lock returned a lock, which can't be pickled") as failed:
        kernel.run("Fragile().lock.remote()")
    assert failed.value.name == "SerializationError"
    assert kernel.run("print(Fragile().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered"]


def test_an_argument_that_can_not_be_pickled_is_named_before_anything_is_sent(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, FRAGILE)
    with pytest.raises(CellFailed, match=r"Fragile\.hello.*x=.*can't be pickled") as failed:
        kernel.run("import threading; Fragile().hello.remote(x=threading.Lock())")
    assert failed.value.name == "SerializationError"
    assert kernel.run("print(Fragile().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("lambda: os._exit(3)", "exit code 3"),
        ("lambda: __import__('ctypes').string_at(0)", "SIGSEGV"),
        ("lambda: os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
    ids=["os._exit", "segfault", "killed"],
)
def test_a_worker_that_dies_fails_its_call_with_the_reason_and_is_replaced(
    how: str, told: str, kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, FRAGILE)
    with pytest.raises(CellFailed, match=told) as failed:
        kernel.run(f"Fragile().leave.remote({how})")
    assert failed.value.name == "ContainerDied"
    assert "Fragile.leave" in failed.value.value
    assert "about to leave" in failed.value.value.partition("last lines")[2]
    assert kernel.run("print(Fragile().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "entered"]
    failures = [one for one in kernel.history("Fragile") if one["state"] == "failed"]
    assert told in failures[-1]["why"]


HUNGRY = """\
@app.cls(**options, memory=100)
class Hungry(Base):
    @lm.method()
    def eat(self, mib):
        return len(bytearray(os.urandom(1 << 20)) * mib)
"""


@pytest.mark.docker
def test_out_of_memory_names_the_limit(
    need_docker: object, kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    if engine != "docker":
        pytest.skip("only Docker limits memory")
    declare(kernel, engine, diary, HUNGRY)
    with pytest.raises(CellFailed, match=r"limit of 100 MiB.*memory=") as failed:
        kernel.run("Hungry().eat.remote(400)")
    assert failed.value.name == "ContainerDied"
    assert kernel.run("print(Hungry().eat.remote(2))").strip() == str(2 << 20)
    assert diary.events() == ["entered", "entered"]


FAILING_EXIT = """\
@app.cls(**options)
class FailingExit(Base):
    @lm.method()
    def hello(self, x):
        return x

    @lm.exit()
    def first(self):
        note("first")
        raise OSError("disk full")

    @lm.exit()
    async def second(self):
        note("second")
        raise SystemExit(3)

    @lm.exit()
    def third(self):
        note("third")
"""


def test_exit_hooks_that_raise_do_not_stop_the_others_and_are_all_told(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    declare(kernel, engine, diary, FAILING_EXIT)
    kernel.run("FailingExit().hello.remote(1); app.stop()")
    assert diary.events() == ["entered", "first", "second", "third"]
    entry = kernel.history("FailingExit")[-1]
    assert [bool(hook["error"]) for hook in entry["hooks"]] == [True, True, False]
    assert "disk full" in entry["hooks"][0]["error"]
    assert entry["why"].endswith("exit hook first, second raised")
