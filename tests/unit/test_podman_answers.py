"""What Podman answers otherwise than Docker, and how its containers are asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from unit.test_docker_launch import FACTS, LAUNCH

from lifecycle_magic.engines.base import Launch, StepOutput, VolumeMount
from lifecycle_magic.engines.docker.address import EngineVersion
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.launch import attached_config, config
from lifecycle_magic.engines.docker.progress import BuildProgress
from lifecycle_magic.exception import BuildError
from lifecycle_magic.volume import Volume

PODMAN = replace(FACTS, is_podman=True)
BASE = [
    *("STEP 1/3: FROM x\n", "STEP 2/3: LABEL a\n", f"--> Using cache {'a' * 64}\n"),
    *("--> 250efc40770\n", "STEP 3/3: RUN x\n"),
]
END = ["COMMIT\n", "--> 1b1743552e6\n", f"{'b' * 64}\n", "Successfully built 1b1743552e63\n"]


def follow(texts: list[str], last: dict[str, Any]) -> list[StepOutput]:
    told: list[StepOutput] = []
    progress = BuildProgress(["x"], told.append, clock=itertools.count().__next__)
    for text in texts:
        progress.feed({"stream": text})
    progress.feed(last)
    assert progress.image() == "sha256:1"
    return told


def test_its_version_is_known_by_the_name_of_its_component() -> None:
    parts = [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon"}]
    answer = {"Components": parts, "Version": "4.3.1", "ApiVersion": "1.41"}
    assert EngineVersion.of(answer) == EngineVersion("Podman", "4.3.1", "1.41")
    assert not EngineVersion.of({"Version": "28.0", "ApiVersion": "1.50"}).is_podman


def test_its_build_is_told_without_its_chatter() -> None:
    made = {"aux": {"ID": "sha256:1"}}
    told = follow([*BASE, "hello\n", *END], made)
    assert [(one.status, one.text) for one in told] == [
        *(("running", "x"), ("output", "hello\n"), ("done", "x")),
    ]
    told = follow([*BASE, f"--> Using cache {'a' * 64}\n", *END], made)
    assert [one.status for one in told] == ["running", "cached"]


def test_its_failing_command_has_an_exit_code() -> None:
    words = 'building at STEP "RUN x": while running runtime: exit status 3\n'
    with pytest.raises(BuildError, match=r"step 1 of 1 failed: x \(exit code 3\)$"):
        follow(BASE, {"error": words, "errorDetail": {"message": words}})


def test_without_root_and_with_old_control_groups_it_limits_nothing() -> None:
    info = {"Rootless": True, "CgroupVersion": "1", "MemoryLimit": True, "PidsLimit": True}
    facts = Facts.of(info, is_podman=True)
    assert (facts.limits_memory, facts.limits_cpu, facts.limits_pids) == (False,) * 3
    assert facts.secured_by("rootless")
    assert Facts.of({**info, "CgroupVersion": "2"}, is_podman=True).limits_memory


@pytest.mark.parametrize("make", [config, attached_config])
def test_volumes_do_not_get_files_of_the_image(make: Any) -> None:
    mounts = (
        VolumeMount("/data", Volume.from_name("data")),
        VolumeMount("/kept", Volume.from_name("kept").read_only()),
        VolumeMount("/scratch", Volume.ephemeral()),
    )
    launch: Launch = replace(LAUNCH, mounts=mounts)
    body = make(launch, PODMAN)
    assert body["HostConfig"]["Binds"] == [
        "lifecycle-magic-data:/data:nocopy",
        "lifecycle-magic-kept:/kept:ro,nocopy",
    ]
    others = [one["Target"] for one in body["HostConfig"]["Mounts"] if one["Type"] == "volume"]
    assert others == ["/scratch"]
    assert "['/scratch']" in " ".join(body["Entrypoint"])
    plain = make(launch, FACTS)
    assert "Binds" not in plain["HostConfig"]
    assert "/scratch" not in " ".join(plain["Entrypoint"])
