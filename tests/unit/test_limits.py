"""The process engine's support of options. Pure: the tests do not look at the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.engines.base import Launch, VolumeMount
from lifecycle_magic.engines.process import unsupported_options
from lifecycle_magic.engines.process.unsupported_options import Host
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.gpus.request import read
from lifecycle_magic.images.image import Image
from lifecycle_magic.volume import Volume

BOXED = Host(sandboxed=True, why_not="", cores=4, gpus=(), volumes="/state/volumes")
PLAIN = replace(BOXED, sandboxed=False, why_not="bwrap is forbidden", fix="permit it")


def _launch(**options: Any) -> Launch:
    return Launch("n", "i", Path("/run/n"), Path("/guest"), {}, **options)


def test_a_plain_class_is_honoured_with_and_without_a_sandbox() -> None:
    for host in (BOXED, PLAIN):
        assert (
            unsupported_options.of_launch(_launch(cpu=2.0), host) == unsupported_options.Honoured()
        )
        assert (
            unsupported_options.of_image(Image.debian_slim().pip_install("six"), host)
            == unsupported_options.Honoured()
        )


def test_more_cores_than_there_are_is_reported() -> None:
    (text,) = unsupported_options.of_launch(_launch(cpu=8.0), BOXED).ignored
    assert text == "cpu=8: this machine has 4 cores, so it gets those"


def test_a_blocked_network_needs_a_way_home_that_is_no_network() -> None:
    launch = _launch(block_network=True)
    assert unsupported_options.of_launch(launch, BOXED).refused == ()
    assert (
        "Unix socket"
        in unsupported_options.of_launch(launch, replace(BOXED, unix=False)).refused[0]
    )
    refused = unsupported_options.of_launch(launch, PLAIN).refused[0]
    assert refused.endswith("permit it (bwrap is forbidden), or start Docker Engine")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    card = replace(BOXED, gpus=(Gpu("GPU-3a", 0, "NVIDIA L4", 23034),))
    assert "no GPU" in unsupported_options.of_launch(_launch(gpu=read("A100")), BOXED).refused[0]
    assert (
        "only NVIDIA L4"
        in unsupported_options.of_launch(_launch(gpu=read("A100")), card).refused[0]
    )
    assert (
        unsupported_options.of_launch(_launch(gpu=read("L4")), card)
        == unsupported_options.Honoured()
    )


def test_a_named_volume_may_be_mounted_at_its_own_folder_without_a_sandbox() -> None:
    volume = Volume.from_name("weights")
    own = _launch(mounts=(VolumeMount("/state/volumes/weights", volume),))
    assert unsupported_options.of_launch(own, PLAIN).refused == ()
    elsewhere = _launch(mounts=(VolumeMount("/weights", volume),))
    assert "/state/volumes/weights" in unsupported_options.of_launch(elsewhere, PLAIN).refused[0]
    assert unsupported_options.of_launch(elsewhere, BOXED).refused == ()


def test_a_volume_is_read_only_in_a_sandbox_alone() -> None:
    own = VolumeMount("/state/volumes/weights", Volume.from_name("weights").read_only())
    (text,) = unsupported_options.of_launch(_launch(mounts=(own,)), PLAIN).refused
    assert "read-only in a sandbox alone: permit it" in text
    assert unsupported_options.of_launch(_launch(mounts=(own,)), BOXED).refused == ()


def test_an_ephemeral_volume_has_no_path_of_its_own() -> None:
    launch = _launch(mounts=(VolumeMount("/scratch", Volume.ephemeral()),))
    (text,) = unsupported_options.of_launch(launch, PLAIN).refused
    assert "its own path" not in text


def test_local_files_go_below_the_working_folder_without_a_sandbox(tmp_path: Path) -> None:
    inside = Image.debian_slim().workdir("/app").add_local_dir(tmp_path, "/app/data")
    outside = Image.debian_slim().workdir("/app").add_local_dir(tmp_path, "/data")
    assert unsupported_options.of_image(inside, PLAIN).refused == ()
    assert "below workdir" in unsupported_options.of_image(outside, PLAIN).refused[0]
    assert unsupported_options.of_image(outside, BOXED).refused == ()


def test_local_files_can_not_go_into_the_machines_own_folders(tmp_path: Path) -> None:
    image = Image.debian_slim().add_local_dir(tmp_path, "/usr/share/data/")
    assert (
        "/usr/share/data/ is the machine's own"
        in unsupported_options.of_image(image, BOXED).refused[0]
    )


def test_instances_are_spread_over_the_cores() -> None:
    chosen = {tuple(unsupported_options.choose_cpus(1, f"n{i}", [0, 1, 2, 3])) for i in range(100)}
    assert chosen == {(0,), (1,), (2,), (3,)}


@pytest.mark.parametrize("cpu", [None, 4, 7.5])
def test_all_cores_is_no_pinning(cpu: float | None) -> None:
    assert unsupported_options.choose_cpus(cpu, "n", [0, 1, 2, 3]) == []
