"""What goes to descriptors 1 and 2 of a container is shown before the call returns."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm


class Writes:
    @lm.enter()
    def start(self) -> None:
        subprocess.run(["echo", "of enter"], check=True)

    @lm.method()
    def run(self, text: str) -> str:
        subprocess.run(["echo", text], check=True)
        subprocess.run(["sh", "-c", f"echo {text} >&2"], check=True)
        return text

    @lm.method()
    def shell(self, text: str) -> int:
        return os.system(f"echo {text}")

    @lm.method()
    def fork(self, text: str) -> int:
        if (pid := os.fork()) == 0:
            os.write(1, text.encode())
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    @lm.method()
    def c_code(self, text: str) -> int:
        library = ctypes.CDLL(None)
        written = int(library.puts(text.encode()))
        library.fflush(None)
        return written

    @lm.method()
    def raises(self, text: str) -> None:
        subprocess.run(["echo", text], check=True)
        raise KeyError(text)

    @lm.method()
    def items(self, text: str) -> Iterator[int]:
        yield 1
        subprocess.run(["echo", text], check=True)

    @lm.method()
    async def waits(self, text: str) -> None:
        import asyncio

        child = await asyncio.create_subprocess_exec("echo", text)
        await child.wait()

    @lm.method()
    def plain(self) -> int:
        return 1


class Quiet:
    @lm.method()
    def shell(self, text: str) -> int:
        return os.system(f"echo {text}")


@pytest.mark.parametrize("name", ["run", "shell", "fork", "waits", "c_code"])
def test_it_is_there_when_the_call_returns(
    site_on_each: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    work = site_on_each.cls(Writes)()
    work.plain.remote()
    assert "of enter" in capsys.readouterr().out
    for number in range(100):
        getattr(work, name).remote(f"{number} of {name}")
        shown = capsys.readouterr()
        assert f"{number} of {name}" in shown.out
        if name == "run":
            assert f"{number} of {name}" in shown.err


def test_a_first_command_of_a_container_is_there_too(
    site_on_each: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = site_on_each.cls(Quiet)()
    assert quiet.shell.remote("the first") == 0
    assert "the first" in capsys.readouterr().out


def test_it_is_there_when_a_call_fails_and_when_a_generator_ends(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    work = site.cls(Writes)()
    with pytest.raises(KeyError):
        work.raises.remote("before the error")
    assert "before the error" in capsys.readouterr().out
    assert list(work.items.remote_gen("of an item")) == [1]
    assert "of an item" in capsys.readouterr().out
    assert work.run.spawn("of a spawned call").get() == "of a spawned call"
    assert "of a spawned call" in capsys.readouterr().out
    words = [f"{number} of a map" for number in range(20)]
    assert list(work.run.map(words)) == words
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)


def test_calls_at_once_have_all_their_output(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    work = site.cls(lm.concurrent(max_inputs=8)(Writes))()
    words = [f"{number} at once" for number in range(60)]
    assert list(work.run.map(words)) == words
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)


def test_a_child_that_writes_for_ever_delays_no_answer(site: Site) -> None:
    class Endless:
        @lm.method()
        def start(self) -> int:
            self.child = subprocess.Popen(["sh", "-c", "while :; do echo on and on; done"])
            return self.child.pid

        @lm.method()
        def end(self) -> int:
            self.child.kill()
            return self.child.wait()

    work: Any = site.app.cls(Endless)()
    assert work.start.remote() > 0
    assert work.end.remote() == -9


def test_redirected_descriptors_delay_no_answer(site: Site) -> None:
    class Redirects:
        @lm.method()
        def go(self) -> float:
            import tempfile
            import time

            began = time.monotonic()
            subprocess.run(["true"], check=True)
            with tempfile.TemporaryFile() as file:
                os.dup2(file.fileno(), 1)
            os.dup2(0, 2)
            return time.monotonic() - began

    work: Any = site.app.cls(Redirects)()
    for _ in range(3):
        work.go.remote()
