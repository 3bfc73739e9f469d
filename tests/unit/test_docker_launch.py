"""Launch options for engines not available here: other security modules, fewer limits, GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.engines.base import Honoured, Launch
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.launch import config, review
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.gpus.request import read

FACTS = Facts.of(
    {
        "Name": "host",
        "ServerVersion": "28.0",
        "OperatingSystem": "Debian GNU/Linux 12",
        "OSType": "linux",
        "NCPU": 4,
        "MemTotal": 8 << 30,
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "MemoryLimit": True,
        "CpuCfsQuota": True,
        "PidsLimit": True,
    }
)
LAUNCH = Launch("name", "image", Path("/run-dir"), Path("/guest"), {})
L4 = Gpu("GPU-3a", 0, "NVIDIA L4", 23034)


def host_config(launch: Launch, facts: Facts = FACTS) -> dict[str, Any]:
    found: dict[str, Any] = config(launch, facts)["HostConfig"]
    return found


def test_where_selinux_rules_the_container_may_open_the_mounted_socket() -> None:
    assert host_config(LAUNCH)["SecurityOpt"] == ["no-new-privileges"]
    facts = replace(FACTS, security=("name=selinux",))
    assert host_config(LAUNCH, facts)["SecurityOpt"] == ["no-new-privileges", "label=disable"]


def test_where_users_are_remapped_root_may_enter_the_run_folder() -> None:
    assert "UsernsMode" not in host_config(LAUNCH)
    assert host_config(LAUNCH, replace(FACTS, security=("name=userns",)))["UsernsMode"] == "host"


def test_limits_that_the_engines_kernel_lacks_are_left_out_and_reported() -> None:
    launch = replace(LAUNCH, cpu=2.0, memory=512)
    bare = replace(FACTS, limits_memory=False, limits_cpu=False, limits_pids=False)
    asked = {"Memory", "MemorySwap", "NanoCpus", "PidsLimit"}
    assert asked <= set(host_config(launch))
    assert not asked & set(host_config(launch, bare))
    told = review(launch, bare, "unix").ignored
    assert [text.partition("=")[0] for text in told] == ["cpu", "memory"]


def test_swap_does_not_soften_the_memory_limit() -> None:
    made = host_config(replace(LAUNCH, memory=512))
    assert made["Memory"] == made["MemorySwap"] == 512 << 20


def test_cores_are_capped_at_the_engines() -> None:
    assert host_config(replace(LAUNCH, cpu=0.5))["NanoCpus"] == 500_000_000
    assert host_config(replace(LAUNCH, cpu=64.0))["NanoCpus"] == 4_000_000_000


def test_a_memory_limit_above_what_the_engine_has_is_reported() -> None:
    told = review(replace(LAUNCH, memory=1 << 20), FACTS, "unix")
    assert told.refused == ()
    assert told.ignored == ("memory=1048576: the engine has only 8192 MiB",)


@pytest.mark.parametrize(
    ("asked", "count"), [(2, 2), ("any", 1), ("T4", 1), ("A100:4", 4), ("all", -1)]
)
def test_gpus_are_asked_for_by_number(asked: str | int, count: int) -> None:
    (request,) = host_config(replace(LAUNCH, gpu=read(asked)))["DeviceRequests"]
    assert request == {"Driver": "", "Count": count, "Capabilities": [["gpu"]]}


def test_gpus_are_asked_for_by_id() -> None:
    launch = replace(LAUNCH, gpu=read("device=0,GPU-3a"))
    (request,) = host_config(launch)["DeviceRequests"]
    assert request == {"Driver": "", "DeviceIDs": ["0", "GPU-3a"], "Capabilities": [["gpu"]]}
    assert review(launch, FACTS, "unix").ignored == ()


@pytest.mark.parametrize(
    ("asked", "told"), [(1, False), ("any", False), ("all", False), ("T4", True), ("H100:8", True)]
)
def test_a_gpu_model_that_can_not_be_chosen_is_reported(asked: str | int, told: bool) -> None:
    ignored = review(replace(LAUNCH, gpu=read(asked)), FACTS, "unix").ignored
    assert bool(ignored) is told
    assert all(repr(asked) in text for text in ignored)


def test_leased_gpus_are_asked_for_by_their_ids() -> None:
    launch = replace(LAUNCH, gpu=read("L4:2"), gpus=(L4, replace(L4, id="GPU-5b", index=1)))
    made = host_config(launch)
    (request,) = made["DeviceRequests"]
    assert request == {"Driver": "", "DeviceIDs": ["GPU-3a", "GPU-5b"], "Capabilities": [["gpu"]]}
    assert "Devices" not in made
    assert review(launch, FACTS, "unix", gpus=launch.gpus) == Honoured()
    (refused,) = review(launch, FACTS, "unix", gpus=[L4]).refused
    assert (
        refused == "gpu='L4:2': there is only NVIDIA L4. Fix: ask for what there is, or gpu='any'"
    )


def test_gpus_of_amd_are_device_files() -> None:
    card = Gpu("GPU-ff", 0, "AMD Instinct MI300X", 65536, ("/dev/dri/renderD129",), "amd")
    made = host_config(replace(LAUNCH, gpu=read(1), gpus=(card,)))
    assert "/dev/dri/renderD129" in [one["PathOnHost"] for one in made["Devices"]]
    assert "DeviceRequests" not in made


def test_which_gpus_an_engine_elsewhere_has_is_said_to_be_unknown() -> None:
    launch = replace(LAUNCH, gpu=read(1))
    (text,) = review(launch, FACTS, "relay", "ssh://me@box").ignored
    assert "ssh://me@box" in text
    assert 'gpu="device=1"' in text
    assert review(replace(LAUNCH, gpu=read("all")), FACTS, "relay").ignored == ()


def test_docker_desktop_is_known_by_its_name() -> None:
    assert not FACTS.desktop
    assert replace(FACTS, system="Docker Desktop").desktop


def test_containers_know_the_machine_by_name_but_on_an_old_engine_or_without_network() -> None:
    assert host_config(LAUNCH)["ExtraHosts"] == ["host.docker.internal:host-gateway"]
    assert "ExtraHosts" not in host_config(replace(LAUNCH, block_network=True))
    old = Facts.of({"OSType": "linux"}, "1.40")
    assert "ExtraHosts" not in host_config(LAUNCH, old)
    assert any("20.10" in text for text in review(LAUNCH, old, "unix").ignored)
    assert Facts.of({}, "1.41").host_gateway
