"""Calls by name between sessions that are killed and interrupted: run by `test_named_moments`.

Arguments: the seed, the number of kills, the number of interrupts, and a folder.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from engine.other_process import OtherProcess

import lifecycle_magic as lm
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.engines.process.store import Store
from lifecycle_magic.exception import (
    ContainerDied,
    InputCancelled,
    InvalidError,
    NotFoundError,
    StartError,
)
from lifecycle_magic.host.paths import state_root

CODE = """
import os, signal, uuid
import lifecycle_magic as lm

NOTES, HERE = PLACE, NAME
app = lm.App(NAME)

options = dict(volumes={NOTES: lm.Volume.from_path(NOTES)}, max_containers=2)

def declare(extra):
    class Base:
        @lm.enter()
        def load(self):
            self.id = uuid.uuid4().hex

        def note(self):  # not in enter, which the end of its session may interrupt
            open(f"{NOTES}/entered-{self.id}", "w").close()

        @lm.exit()
        def close(self):
            open(f"{NOTES}/exited-{self.id}", "w").close()

        @lm.method()
        def echo(self, x):
            self.note()
            return x

        @lm.method()
        def chain(self, names, x):
            self.note()
            if not names:
                return x
            return lm.Cls.from_name(*names[0])().chain.remote(names[1:], x) + 1

        @lm.method()
        def beside(self, x):
            self.note()
            other = "Second" if type(self).__name__ == "Model" else "Model"
            return lm.Cls.from_name(HERE, other)().echo.remote(x) + 1

        @lm.method()
        def count(self, to):
            self.note()
            yield from range(to)

        @lm.method()
        def die(self):
            self.close()
            os.kill(os.getpid(), signal.SIGKILL)

        @lm.method()
        def extra(self):
            return extra

    @app.cls(**options)
    class Model(Base):
        pass

    @app.cls(**options)
    class Second(Base):
        pass

declare(0)
from lifecycle_magic.session import session
session.current()
"""

NAMES = ("one", "two", "three")
CLASSES = [(name, cls) for name in NAMES for cls in ("Model", "Second")]
ALLOWED = (InputCancelled, ContainerDied, NotFoundError)  # what an end of a session may cause
FORMS = (*["echo"] * 6, "big", "chain", "chain", "beside", "count", "spawn", "map", "die")


class Soak:
    """Callers on threads, and the events that disturb them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.serving: dict[str, OtherProcess] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.is_over = False
        self._ended = threading.Condition()
        self._calls = 0
        self._started = 0

    def start(self, name: str) -> None:
        self._started += 1
        code = CODE.replace("NAME", repr(name)).replace("PLACE", repr(str(self.notes)))
        self.serving[name] = OtherProcess(self.folder / f"{name}-{self._started}", code)
        self.serving[name].run("pass")

    def call(self, dice: random.Random, number: int) -> None:
        (name, cls), form = dice.choice(CLASSES), dice.choice(FORMS)
        model = lm.Cls.from_name(name, cls)()
        try:
            if not self.is_right(dice, model, name, form, number):
                self.wrong.append(f"{form} of {name}")
            self.counts[form] += 1
        except ALLOWED as error:
            self.counts[type(error).__name__] += 1
        except StartError as error:  # its container was stopped before it was ready
            self.counts["StartError"] += 1
            if "was interrupted" not in str(error):
                self.wrong.append(traceback.format_exc())
        except InvalidError as error:  # for a moment, two processes of a name live
            if "sessions serve" not in str(error) and "would wait forever" not in str(error):
                self.wrong.append(traceback.format_exc())
        except Exception:
            self.wrong.append(traceback.format_exc())
        with self._ended:
            self._calls += 1
            self._ended.notify_all()

    @staticmethod
    def is_right(dice: random.Random, model: Any, name: str, form: str, number: int) -> bool:
        if form == "echo":
            return bool(model.echo.remote(number) == number)
        if form == "big":
            return len(model.echo.remote(bytes(300_000))) == 300_000
        if form == "chain":
            path = [one for one in CLASSES if one[0] != name]
            path = dice.sample(path, dice.randint(1, 2))
            return bool(model.chain.remote(path, number) == number + len(path))
        if form == "beside":
            return bool(model.beside.remote(number) == number + 1)
        if form == "count":
            return list(model.count.remote_gen(5)) == list(range(5))
        if form == "spawn":
            return bool(model.echo.spawn(number).get() == number)
        if form == "map":
            return list(model.echo.map(range(5))) == list(range(5))
        with contextlib.suppress(ContainerDied):
            model.die.remote()
            return False
        return True

    def go_on(self, seed: int) -> None:
        dice, number = random.Random(seed), 0
        while not self.is_over and not self.wrong:
            number += 1
            self.call(dice, number)

    def wait_for_calls(self) -> None:
        with self._ended:
            wanted = self._calls + self.dice.randint(1, 15)
            self._ended.wait_for(lambda: self._calls >= wanted or bool(self.wrong))

    def disturb(self, kills: int, interrupts: int) -> None:
        events = ["kill"] * kills + ["interrupt"] * interrupts
        events += ["declare", "stop"] * (kills + 1)
        self.dice.shuffle(events)
        for event in events:
            self.wait_for_calls()
            if self.wrong:
                break
            name = self.dice.choice(NAMES)
            if event == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            elif event == "stop":
                self.stop_container()
            elif event == "declare":
                self.serving[name].run(f"declare({self.dice.randint(1, 9)})")
            else:
                self.serving[name].kill()
                self.start(name)
            self.counts[event] += 1
        self.is_over = True

    def stop_container(self) -> None:
        """Stop any container from outside, as ``docker stop`` does: its exit runs."""
        running = [one for one in ProcessEngine().containers() if one.running]
        if running:
            record = Store(state_root()).instance(self.dice.choice(running).name)
            if record is not None and record.keeper.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.keeper.pid, signal.SIGTERM)

    def missing_exits(self) -> list[str]:
        """Close the sessions. Return the instances whose exit has not run a while later."""
        for process in self.serving.values():
            process.close()
        deadline = time.monotonic() + 60
        while True:
            entered = {path.name.partition("-")[2] for path in self.notes.glob("entered-*")}
            exited = {path.name.partition("-")[2] for path in self.notes.glob("exited-*")}
            if entered <= exited or time.monotonic() > deadline:
                return sorted(entered - exited)
            time.sleep(0.01)


def main(seed: int, kills: int, interrupts: int, folder: Path) -> None:
    soak = Soak(seed, folder)
    for name in NAMES:
        soak.start(name)
    threads = [threading.Thread(target=soak.go_on, args=(seed + n,)) for n in range(1, 4)]
    threads.append(threading.Thread(target=soak.disturb, args=(kills, interrupts)))
    for thread in threads:
        thread.start()
    while not soak.is_over:  # the main thread gets the interrupts
        with contextlib.suppress(KeyboardInterrupt):
            soak.go_on(seed)
            break
    for thread in threads:
        thread.join()
    print(json.dumps([soak.wrong, soak.missing_exits(), soak.counts]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
