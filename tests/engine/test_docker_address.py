"""Docker's environment variables: half set, left over, or naming what is not there."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import closing
from pathlib import Path

import docker
import pytest

from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.exception import EngineUnavailable

pytestmark = pytest.mark.docker

SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture(autouse=True)
def plain(need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets is set, and the engine is at Docker's own address."""
    if os.environ.get("DOCKER_HOST", SOCKET) != SOCKET:
        pytest.skip("this needs an engine at Docker's own address")
    for name in [name for name in os.environ if name.startswith("DOCKER_")]:
        monkeypatch.delenv(name)


def answer() -> str:
    with closing(DockerEngine()) as engine:
        return engine.check()


@pytest.mark.parametrize("name", ["DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"])
@pytest.mark.parametrize("host", [None, SOCKET])
def test_tls_variables_change_nothing_about_a_local_engine(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str | None
) -> None:
    monkeypatch.setenv(name, "/nowhere")
    if host is not None:
        monkeypatch.setenv("DOCKER_HOST", host)
    assert answer().endswith(SOCKET)


@pytest.mark.parametrize("name", ["DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"])
def test_half_set_tls_names_the_variable_and_the_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(EngineUnavailable, match=rf"{name} asks.*lacks ca\.pem.*Fix: set DOCKER_CE"):
        answer()


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_certificates_is_not_for_the_engine(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/nowhere")
    assert answer().endswith(SOCKET)


def test_a_context_is_honoured_and_one_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    with pytest.raises(EngineUnavailable, match=r"DOCKER_CONTEXT names the context 'mine'.*Fix:"):
        answer()
    folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest()
    folder.mkdir(parents=True)
    (tmp_path / "sock").symlink_to("/var/run/docker.sock")
    told = {"Name": "mine", "Endpoints": {"docker": {"Host": f"unix://{tmp_path}/sock"}}}
    (folder / "meta.json").write_text(json.dumps(told))
    assert answer().endswith(f"{tmp_path}/sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert answer().endswith(SOCKET)


def test_a_configuration_that_can_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    assert answer().endswith(SOCKET)
    (tmp_path / "config.json").write_text("[1, 2]")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(EngineUnavailable, match=rf"{tmp_path}/config\.json can't be read.*Fix:"):
        answer()
