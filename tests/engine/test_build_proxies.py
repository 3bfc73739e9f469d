"""Proxies of this machine in the commands of a build."""

from __future__ import annotations

import json
import secrets
from contextlib import closing

import docker
import pytest

import lifecycle_magic as lm
from lifecycle_magic.engines.base import StepOutput
from lifecycle_magic.engines.docker.engine import DockerEngine

pytestmark = pytest.mark.docker


def test_commands_get_proxies_but_no_password_and_the_image_keeps_none(
    need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example.org:3128")
    steps: list[StepOutput] = []
    command = f'echo "{secrets.token_hex(4)} <$http_proxy> <$https_proxy>"'
    image = lm.Image.debian_slim().run_commands(command)
    with closing(DockerEngine()) as engine:
        built = engine.build(image, secrets.token_hex(32), steps.append)
    try:
        printed = "".join(step.text for step in steps if step.status == "output")
        assert "<http://proxy.example.org:3128> <>" in printed
        assert "https_proxy holds a password" in printed
        kept = json.dumps([need_docker.api.history(built), need_docker.api.inspect_image(built)])
        assert "proxy.example.org" not in kept
        assert "hunter2" not in kept + printed
    finally:
        need_docker.images.remove(built, force=True)
