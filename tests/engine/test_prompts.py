"""Methods that ask the user, in scripts that run in a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds; only a bug takes that long

CLASSES = """
import getpass, os, sys, threading
import lifecycle_magic as lm

app = lm.App(engine="process")

@app.cls(timeout={timeout})
@lm.concurrent(max_inputs=2)
class Asks:
    @lm.method()
    def name(self, prompt):
        return input(prompt)

    @lm.method()
    def secret(self):
        return getpass.getpass("password: ")

    @lm.method()
    def stops(self, x):
        breakpoint()
        return x + 1

    @lm.method()
    def hello(self):
        return "hello"

    @lm.method()
    def waits(self):
        threading.Event().wait()

with app.run():
    asks = Asks()
"""


class Terminal:
    """A script in a terminal of its own."""

    def __init__(self, code: str, folder: Path, timeout: float | None, env: dict[str, str]) -> None:
        script = folder / "script.py"
        script.write_text(CLASSES.format(timeout=timeout) + textwrap.indent(code, "    "))
        self.text = ""
        self._seen = 0
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AS_LEADER, str(script)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **env},
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Read until ``text`` is shown, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.text[self._seen :]:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.text!r}"
            if not select.select([self._master], [], [], left)[0]:
                continue
            try:
                data = os.read(self._master, 4096)
            except OSError:  # its other end is closed
                data = b""
            assert data, f"{text!r} is not in {self.text!r}"
            self.text += data.decode().replace("\r\n", "\n")
        self._seen = self.text.index(text, self._seen) + len(text)

    def enter(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self._master)


_AS_LEADER = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # getpass opens /dev/tty
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextlib.contextmanager
def terminal(
    code: str, folder: Path, timeout: float | None = None, **env: str
) -> Iterator[Terminal]:
    one = Terminal(textwrap.dedent(code), folder, timeout, env)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.process
def test_a_script_asks_in_its_terminal(tmp_path: Path) -> None:
    code = """
        print("got", asks.name.remote("name? "))
        print("got", asks.secret.remote())
        print("got", asks.stops.remote(1))
        try:
            asks.name.remote("again? ")
        except KeyboardInterrupt:
            print("interrupted", asks.hello.remote())
        try:
            asks.name.remote("last? ")
        except EOFError as error:
            print("ended", error)
        """
    with terminal(code, tmp_path) as one:
        one.wait_for("name? ")
        one.enter("Ann")
        one.wait_for("got Ann")
        one.wait_for("password: ")
        one.enter("hidden")
        one.wait_for("got hidden")
        assert one.text.count("hidden") == 1  # it was not echoed
        for command, shown in {"p x + 10": "11", "c": "got 2"}.items():
            one.wait_for("(Pdb) ")
            one.enter(command)
            one.wait_for(shown)
        one.wait_for("again? ")
        os.killpg(one.process.pid, signal.SIGINT)
        one.wait_for("interrupted hello")
        one.wait_for("last? ")
        os.write(one._master, b"\x04")
        one.wait_for("ended EOF when reading a line")


@pytest.mark.process
def test_other_lanes_go_on_while_one_asks_and_the_time_does_not_count(tmp_path: Path) -> None:
    # The prompt is answered after the time limit of the call, when another call has reached it.
    code = """
        def others():
            open(os.environ["STARTED"]).close()  # blocks until the test opens it
            print("other", asks.hello.remote())
            try:
                asks.waits.remote()
            except lm.exception.MethodTimeout:
                print("too long")
        threading.Thread(target=others).start()
        print("got", asks.name.remote("name? "))
        """
    started = tmp_path / "started"
    os.mkfifo(started)
    # The limit holds for the other calls too, so it is far above what they take on a busy machine.
    with terminal(code, tmp_path, timeout=3, STARTED=str(started)) as one:
        one.wait_for("name? ")
        started.open("w").close()
        one.wait_for("other hello")
        one.wait_for("too long")
        one.enter("late")
        one.wait_for("got late")


@pytest.mark.process
def test_a_breakpoint_that_is_switched_off_is_none(tmp_path: Path) -> None:
    code = """
        print("got", asks.stops.remote(1))
        """
    with terminal(code, tmp_path, PYTHONBREAKPOINT="0") as one:
        one.wait_for("got 2")
