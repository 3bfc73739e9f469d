"""What the tests of engines on another machine share: a class there, its diary, and errors."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from far_machine import FarMachine
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import EngineUnavailable, InvalidError


def address(machine: FarMachine, way: str) -> str:
    return str(getattr(machine, way))


class FarDiary:
    """What hooks write into a named volume, which lies below the engine's folder."""

    def __init__(self, machine: FarMachine, name: str) -> None:
        self.name = name
        volume = f"lifecycle-magic-{name}"
        self._file = machine.folder / "data" / "volumes" / volume / "_data" / "diary"

    def events(self) -> list[str]:
        try:
            return self._file.read_text().split()
        except FileNotFoundError:
            return []

    def wait(self, event: str, times: int = 1, timeout: float = 60.0) -> None:
        wait_for(lambda: self.events().count(event) >= times, f"{event} x {times}", timeout, 0.002)


def declare(app: lm.App, diary: FarDiary, **options: Any) -> Any:
    """A class whose hooks and methods note what they do."""
    volume = lm.Volume.from_name(diary.name, create_if_missing=True)

    @app.cls(volumes={"/notes": volume}, **options)
    class Noted:
        @lm.enter()
        def load(self) -> None:
            self.calls = 0
            self.note("entered")

        def note(self, event: str) -> None:
            with open("/notes/diary", "a") as file:
                file.write(f"{event}\n")

        @lm.method()
        def count(self) -> int:
            self.calls += 1
            return self.calls

        @lm.method()
        def same(self, value: Any) -> Any:
            return value

        @lm.method()
        def pause(self, value: Any) -> Any:
            time.sleep(0.05)
            return value

        @lm.method()
        def large(self, size: int) -> bytes:
            return bytes(size)

        @lm.method()
        def hold(self) -> str:
            self.note("holding")
            while not os.path.exists("/notes/go"):
                time.sleep(0.01)
            return "let go"

        @lm.exit()
        def close(self) -> None:
            self.note("exited")

    return Noted


def refusal(url: str) -> str:
    """The error of a first call there, which comes within ten seconds."""
    began = time.monotonic()
    app = lm.App("refused", engine=url)

    @app.function(name=f"one-{secrets.token_hex(4)}")
    def one() -> int:
        return 1

    with pytest.raises((EngineUnavailable, InvalidError)) as failed:
        one.remote()
    assert time.monotonic() - began < 11
    return str(failed.value)


@contextlib.contextmanager
def docker_app(url: str, image: lm.Image | None = None) -> Iterator[Any]:
    """A function that runs there."""
    app = lm.App("answers", engine=url)

    @app.function(name=f"one-{secrets.token_hex(4)}", image=image)
    def one() -> int:
        return 1

    yield one
    app.stop()


def relays(machine: FarMachine) -> list[psutil.Process]:
    """The relays that lead to the machine: they are no children of their kernels."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            is_relay = any("engines.relay.relay import main" in word for word in words)
            if is_relay and any(machine.host in word for word in words):
                found.append(process)
    return found


def restarted(machine: FarMachine, number: signal.Signals, *options: str) -> None:
    """End the engine there by a signal, and start it again."""
    end_engine(machine, number)
    machine.start_engine(*options)


def end_engine(machine: FarMachine, number: signal.Signals) -> None:
    """End the engine there by a signal."""
    [daemon] = [
        one
        for one in psutil.process_iter()
        if one.name() == "dockerd" and f"--data-root={machine.folder}/data" in one.cmdline()
    ]
    daemon.send_signal(number)
    machine.engine.wait()
    if number == signal.SIGKILL:
        # Its containerd ends with it, and where nobody reaps that, the next engine takes it for one
        # that runs.
        for name in ("pid", "exec/containerd/containerd.pid"):
            (machine.folder / name).unlink(missing_ok=True)
