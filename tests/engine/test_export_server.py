"""``export --dockerfile``: the folder is built by an engine, answers, and runs ``exit``."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.main import main
from lifecycle_magic.ui.export import docker_folder

CELLS = [
    "import lifecycle_magic as lm\nimport beside_it\nFACTOR = 3",
    """%%lifecycle_cls --cpu 1 --env 'GREETING=hello "x"' --run 'touch /step'
class Model:
    @lm.build()
    def download(self):
        with open("built.txt", "w") as file:
            file.write("built")

    @lm.enter()
    async def load(self):
        with open("built.txt") as file:
            self.built = file.read()
        print("entered", flush=True)

    @lm.method()
    def go(self, x):
        import os
        return [beside_it.double(x) * FACTOR, os.environ.get("GREETING"), self.built]

    @lm.method()
    async def later(self, x):
        if x < 0:
            raise ValueError("negative")
        return x

    @lm.method()
    def items(self):
        yield from range(3)

    @lm.method()
    def quits(self):
        import sys
        sys.exit(3)

    @lm.exit()
    async def close(self):
        print("exited", flush=True)
""",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported folder of a saved notebook."""
    place = tmp_path_factory.mktemp("export")
    (place / "beside_it.py").write_text("def double(x):\n    return 2 * x\n")
    cells = [{"cell_type": "code", "source": text} for text in CELLS]
    (place / "book.ipynb").write_text(json.dumps({"cells": cells}))
    out = place / "out"
    command = ["export", str(place / "book.ipynb"), str(place / "shop.py"), "--dockerfile"]
    for _ in range(2):  # the second export replaces the first
        assert main([*command, str(out)]) == 0
    return out


def answers(address: str) -> Callable[..., tuple[int, Any]]:
    """Return what calls a method there, and returns the status and the content."""

    def call(path: str, given: object) -> tuple[int, Any]:
        data = given if isinstance(given, bytes) else json.dumps(given).encode()
        try:
            with urllib.request.urlopen(f"{address}/{path}", data, timeout=60) as found:
                return found.status, json.load(found)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return call


def check(call: Callable[..., tuple[int, Any]], greeting: str | None) -> None:
    assert call("Model/go", {"x": 4}) == (200, {"result": [24, greeting, "built"]})
    assert call("Model/later", [5]) == (200, {"result": 5})
    assert call("Model/later", [-1]) == (500, {"error": "ValueError: negative"})
    assert call("Model/items", {}) == (200, {"result": [0, 1, 2]})
    assert call("Model/quits", {}) == (500, {"error": "SystemExit: 3"})
    assert call("Model/go", b"{")[0] == 400
    assert call("Model/nothing", {})[0] == 404


@contextlib.contextmanager
def served(folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server of the folder as a process of this machine, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = folder / "server.py"
    text = server.read_text().replace("port=8000", f"port={port}, address='127.0.0.1'")
    server.with_name("here.py").write_text(text)
    words = [sys.executable, str(folder / "here.py")]
    subprocess.run([*words, "--build"], check=True, cwd=tmp_path)
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "entered\n"
            assert process.stdout.readline().startswith("serving Model/go, ")
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_the_server_enters_answers_and_exits_at_sigterm(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path) as (process, address):
        check(answers(address), None)
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        for length, status in ((None, 200), ("-1", 400), ("x", 400), (str(1 << 40), 413)):
            headers = {} if length is None else {"Content-Length": length}
            body = iter([b'{"x"', b": 4}"]) if length is None else None  # in chunks
            connection.request("POST", "/Model/go", body, headers)
            answer = connection.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (status, True)
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "exited\n"


def test_sigterm_ends_a_server_that_still_imports_the_script(folder: Path, tmp_path: Path) -> None:
    # Process 1 of a container ignores a signal without a handler, so -SIGTERM is not enough.
    slow = "print('importing', flush=True)\nimport time\ntime.sleep(60)\nimport shop as script"
    server = (folder / "server.py").read_text().replace("import shop as script", slow)
    (folder / "slow.py").write_text(server)
    words = [sys.executable, str(folder / "slow.py")]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.usefixtures("need_docker")
def test_an_engine_builds_and_stops_it(folder: Path) -> None:
    client = docker.from_env()
    image, _ = client.images.build(path=str(folder), rm=True)
    try:
        container = client.containers.run(
            image.id, detach=True, ports={"8000/tcp": ("127.0.0.1", 0)}
        )
        try:
            for line in container.logs(stream=True, follow=True):
                if line.startswith(b"serving"):
                    break
            container.reload()
            port = container.ports["8000/tcp"][0]["HostPort"]
            check(answers(f"http://127.0.0.1:{port}"), 'hello "x"')
            container.stop(timeout=35)
            container.reload()
            assert container.attrs["State"]["ExitCode"] == 0
            assert container.logs(stderr=False).decode().splitlines()[-1] == "exited"
        finally:
            container.remove(force=True)
    finally:
        client.images.remove(image.id, force=True)
        client.close()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(InvalidError, match="files that were not exported"):
        docker_folder.write(tmp_path / "shop.py", tmp_path)


@pytest.mark.parametrize(
    ("image", "what"),
    [
        ("lm.Image.debian_slim().run_function(setup)", "runs functions"),
        ("lm.Image.debian_slim().pip_install('x', secrets=[s])", "secrets or volumes"),
    ],
)
def test_what_a_dockerfile_can_not_hold_is_refused(tmp_path: Path, image: str, what: str) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        "import lifecycle_magic as lm\n"
        "s = lm.Secret.from_dict({'A': 'b'})\n"
        "app = lm.App('shop')\n"
        "def setup(): ...\n"
        f"@app.function(image={image})\n"
        "def go(): ...\n"
    )
    with pytest.raises(InvalidError, match=what):
        docker_folder.write(script, tmp_path / "out")
