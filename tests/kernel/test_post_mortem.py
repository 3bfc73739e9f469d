"""The debugger after a remote exception, on the frames in the container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.harness import OwnKernel, own_kernel, path_without_bwrap

CLASSES = """
%load_ext lifecycle_magic
import os
{path}
import lifecycle_magic as lm

app = lm.App()

class Big:
    pass

def declare(**options):
    @app.cls(name="Fails", engine={engine!r}, **options)
    class Fails:
        @lm.enter()
        def start(self):
            self.freed = []

        @lm.method()
        def outer(self, x):
            import weakref
            big = Big()
            weakref.finalize(big, self.freed.append, x)
            return self.inner(x, 0)

        def inner(self, x, zero):
            y = x + 1
            return y / zero

        @lm.method()
        def what_is_freed(self):
            return self.freed
    return Fails

Fails = declare()
fails = Fails()
"""


@pytest.fixture(scope="module")
def fails(
    engine: str, tmp_path_factory: pytest.TempPathFactory, event_loop: None, state_dir: Path
) -> Iterator[OwnKernel]:
    """A kernel with an instance ``fails``."""
    with own_kernel(tmp_path_factory.mktemp("kernel") / "tmp") as kernel:
        path = f"os.environ['PATH'] = {path_without_bwrap()!r}" if engine == "plain" else ""
        named = "process" if engine == "plain" else engine
        kernel.run(CLASSES.format(engine=named, path=path))
        yield kernel


@pytest.mark.parametrize("command", ["%debug", "%lifecycle debug", "%lifecycle debug Fails"])
def test_the_debugger_shows_the_frames_in_the_container(fails: OwnKernel, command: str) -> None:
    for call in ("fails.outer.remote(1)", "fails.outer.spawn(1).get()"):
        failed = fails.talk(call).failed
        assert failed is not None
        assert failed.name == "ZeroDivisionError"
        talk = fails.talk(command, "p x, y", "up", "p big, self.freed", "w", "q")
        assert talk.failed is None
        assert "(1, 2)\n" in talk.printed
        assert "Big object at" in talk.printed
        assert "-> return self.inner(x, 0)" in talk.printed
        assert "lifecycle_magic/" not in talk.printed  # no frame of this package
        assert talk.texts == ["(Pdb) "] * 5
    # What the frames held is freed before the next call begins.
    assert fails.run("print(fails.what_is_freed.remote()[-1])") == "1\n"
    gone = fails.talk(command, "q")
    text = gone.failed.value if gone.failed is not None else gone.printed
    assert "not kept any more" in text


def test_the_debugger_ends_with_an_interrupt_and_opens_again(fails: OwnKernel) -> None:
    assert fails.talk("fails.outer.remote(2)").failed is not None
    talk = fails.talk("%lifecycle debug")
    assert talk.failed is not None
    assert talk.failed.name == "KeyboardInterrupt"
    talk = fails.talk("%lifecycle debug", "p x", "q")
    assert (talk.failed, talk.texts) == (None, ["(Pdb) "] * 2)


def test_an_option_frees_the_frames_at_once(fails: OwnKernel) -> None:
    fails.run("fails.what_is_freed.remote(); freeing = Fails.with_options(drop_frames=True)()")
    assert fails.talk("freeing.outer.remote(3)").failed is not None
    assert fails.run("print(freeing.what_is_freed.remote())") == "[3]\n"
    assert fails.talk("freeing.outer.remote(4)").failed is not None
    talk = fails.talk("%lifecycle debug")
    assert talk.failed is not None
    assert (talk.failed.name, talk.prompts) == ("InvalidError", [])
