"""With everything built, running the same again reaches for no network."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine.test_images_edits import a_base_with_the_label, remove_images

SCRIPT = """
import sys
import lifecycle_magic as lm
from lifecycle_magic.session import session
from lifecycle_magic.lifecycle.states import BuildStep

BASE = sys.argv[1]
image = lm.Image.from_registry(BASE) if BASE else lm.Image.debian_slim()

class Model:
    @lm.build()
    def bake(self):
        with open("baked", "w") as file:
            file.write("baked")
    @lm.method()
    def get(self):
        import six
        with open("baked") as file:
            return six.__name__, file.read()

app = lm.App("offline")
events = []
session.current().bus.subscribe(events.append)
Model = app.cls(image=image.pip_install("six"))(Model)
with app.run():
    print(*Model().get.remote())
print(sum(isinstance(one, BuildStep) for one in events))
"""


def test_the_second_run_needs_no_network(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    offline = ["unshare", "--map-root-user", "--net", "--"]
    if not shutil.which("unshare") or subprocess.run([*offline, "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here")
    base = ""
    client = None
    if engine_name == "docker":
        client = request.getfixturevalue("need_docker")
        mark = secrets.token_hex(8)
        base = f"lifecycle-magic-test/{mark}"
        a_base_with_the_label(client, mark, "1").tag(base)
        request.addfinalizer(lambda: remove_images(client, mark))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(*before: str) -> list[str]:
        command = [*before, sys.executable, str(script), base]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[-3:-1]

    words, steps = run()
    assert words == "six baked"
    assert int(steps) > 0
    began = int(time.time())
    assert run(*offline) == ["six baked", "0"]
    if client is not None:  # the engine has a network of its own: it says what it did with it
        asked = {"event": ["pull", "push"]}
        events = client.events(since=began, until=int(time.time()) + 1, filters=asked, decode=True)
        assert [one for one in events if base in str(one)] == []
