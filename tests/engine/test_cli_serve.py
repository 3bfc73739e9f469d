"""``lifecycle-magic serve``: a process that answers, follows edits and leaves in order."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.usefixtures("engine_name")]

PATIENCE = 120.0  # seconds: the first one builds the image

SCRIPT = """\
import beside
import lifecycle_magic as modal

app = modal.App(NAME)
image = modal.Image.debian_slim().uv_pip_install("fastapi", "flask")


@app.cls(image=image)
class Model:
    @modal.enter()
    def load(self):
        self.calls = 0

    @modal.fastapi_endpoint(requires_proxy_auth=True)
    def predict(self, x: int = 1):
        self.calls += 1
        return {"y": beside.double(x), "calls": self.calls}

    @modal.exit()
    def close(self):
        print(f"closing after {self.calls}")


@app.cls(image=image)
class Sized:
    size: str = modal.parameter()

    @modal.fastapi_endpoint()
    def tell(self):
        return self.size
"""


class Serving:
    """The process, its lines as they come, and a client."""

    def __init__(self, script: Path, text: str) -> None:
        self.script = script
        self.text = text
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lifecycle_magic", "serve", str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LIFECYCLE_MAGIC_WEB_TOKEN": "open-sesame"},
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def wait(self, pattern: str) -> re.Match[str]:
        """The next line that matches."""
        while True:
            line = self.lines.get(timeout=PATIENCE)
            assert line is not None, "".join(self.seen)
            self.seen.append(line)
            if found := re.search(pattern, line):
                return found

    def ended(self) -> list[str]:
        """The remaining lines, when it is over."""
        rest: list[str] = []
        while (line := self.lines.get(timeout=PATIENCE)) is not None:
            rest.append(line)
        self.process.wait(PATIENCE)
        return rest


@pytest.fixture
def serving(tmp_path: Path, engine_name: str) -> Iterator[Serving]:
    # A name has its usual port: two tests at once would answer for each other.
    text = SCRIPT.replace("NAME", repr(f"served-on-{engine_name}"))
    (tmp_path / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    script = tmp_path / "shop.py"
    script.write_text(text)
    one = Serving(script, text)
    yield one
    if one.process.poll() is None:
        one.process.terminate()
        one.ended()
    assert one.process.stdout is not None
    one.process.stdout.close()


def test_a_script_is_served_follows_its_edits_and_leaves_in_order(serving: Serving) -> None:
    url = serving.wait(r"Model\.predict +(http://127\.0\.0\.1:\d+)")[1]
    assert "open-sesame" not in "".join(serving.seen)
    sized = serving.wait(r"Sized\.tell +(http\S+)")[1]
    with httpx.Client(timeout=PATIENCE) as client:
        assert client.get(sized).status_code == 400
        assert client.get(sized, params={"size": "big"}).json() == "big"
        assert client.get(url).status_code == 401
        client.headers["Authorization"] = "Bearer open-sesame"
        assert client.get(url, params={"x": 4}).json() == {"y": 8, "calls": 1}

        # A method: new code under the live instance.
        serving.script.write_text(serving.text.replace('"calls": self', '"v": 2, "calls": self'))
        assert serving.wait(r"Model\.predict +(http\S+)")[1] == url
        assert client.get(url, params={"x": 4}).json() == {"y": 8, "v": 2, "calls": 2}

        # A module beside it: a new container first, then the former one's exit.
        serving.script.with_name("beside.py").write_text("def double(x):\n    return 3 * x\n")
        serving.wait("closing after 2")
        assert client.get(url, params={"x": 4}).json() == {"y": 12, "v": 2, "calls": 1}

        serving.script.write_text("app = (")
        serving.wait("the previous version still serves")
        assert client.get(url, params={"x": 4}).json() == {"y": 12, "v": 2, "calls": 2}

        serving.process.send_signal(signal.SIGTERM)
        rest = serving.ended()
        assert "closing after 2\n" in rest
        assert serving.process.returncode == 0
        with pytest.raises(httpx.ConnectError):
            client.get(url)


def test_a_script_without_web_methods_says_so(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text("import lifecycle_magic as modal\napp = modal.App()\n")
    told = subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", "serve", str(script)],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1
    assert "plain.py has no web endpoint. Fix: put @fastapi_endpoint()" in told.stderr
