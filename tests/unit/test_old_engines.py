"""An engine that is too old, whose answer names both versions."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.exception import EngineUnavailable


class Old(BaseHTTPRequestHandler):
    """An engine of 2018."""

    def do_GET(self) -> None:
        body = json.dumps({"Version": "18.09.1", "ApiVersion": "1.39"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a Unix socket has no address"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def old_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    path = f"{tmp_path}/docker.sock"
    with socketserver.ThreadingUnixStreamServer(path, Old) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def test_an_engine_that_is_too_old_is_refused_with_both_versions(old_engine: str) -> None:
    with contextlib.closing(DockerEngine()) as engine, pytest.raises(EngineUnavailable) as error:
        engine.check()
    assert f"{old_engine} is too old: it is Docker 18.09.1 with version 1.39" in str(error.value)
    assert "1.40 is needed. Fix: update it" in str(error.value)
