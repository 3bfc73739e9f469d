"""Two kernels with the same class on the same engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

KERNEL = """
import json, os, sys
import lifecycle_magic as lm
from lifecycle_magic.session import session

app = lm.App("same")

class Model:
    @lm.enter()
    def load(self):
        import uuid
        self.id, self.calls = uuid.uuid4().hex, 0

    @lm.method()
    def who(self):
        self.calls += 1
        return self.id, self.calls

model = app.cls(Model, max_containers=2)()

def say(told):
    print(json.dumps(told), flush=True)

for line in sys.stdin:
    if line == "call\\n":
        say(model.who.remote())
    elif line == "containers\\n":
        say([container.name for container in session.current().containers()])
    elif line == "stop\\n":
        app.stop()
        say("stopped")
"""


class Kernel:
    """A process with a session of its own. `ask` it for something."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KERNEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )

    def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.mark.usefixtures("engine_name")
def test_two_kernels_never_see_each_others_containers() -> None:
    with Kernel() as one, Kernel() as two:
        (mine, first), (yours, _) = one.ask("call"), two.ask("call")
        assert mine != yours
        assert one.ask("call") == [mine, first + 1]
        assert not set(one.ask("containers")) & set(two.ask("containers"))
        assert two.ask("stop") == "stopped"
        assert one.ask("call") == [mine, first + 2]  # what the other stops is the other's own
        assert one.ask("stop") == "stopped"
