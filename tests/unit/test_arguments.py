"""The options line of ``%%lifecycle_cls``: every option, and what is refused with a fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.image import Image
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.retries import Retries
from lifecycle_magic.ui.notebook import options_line
from lifecycle_magic.ui.notebook.options_line import parse

AS_FLAGS_OF_THEIR_OWN = {"image", "env", "secrets", "volumes"}


def test_every_option_of_a_class_can_be_written_in_the_magic():
    fields = {field.name for field in dataclasses.fields(Options)}
    written = {f.flag[2:].replace("-", "_") for _, flags in options_line.GROUPS for f in flags}
    assert fields - AS_FLAGS_OF_THEIR_OWN <= written


def test_the_help_lists_every_flag_and_the_defaults():
    told = options_line.describe()
    for _, flags in options_line.GROUPS:
        for flag in flags:
            assert f"  {flag.flag}" in told
            assert flag.help in told
    assert f"default: {Options().exit_grace:g}" in told


def test_no_options_are_the_defaults():
    assert parse("") == options_line.Request(Options())


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--cpu 2", "cpu", 2.0),
        ("--cpu=0.5", "cpu", 0.5),
        ("--memory 2048", "memory", 2048),
        ("--gpu 1", "gpu", 1),
        ("--gpu A100:2", "gpu", "A100:2"),
        ("--shm-size 256", "shm_size", 256),
        ("--timeout 1.5", "timeout", 1.5),
        ("--startup-timeout 20", "startup_timeout", 20.0),
        ("--retries 3", "retries", Retries(3)),
        ("--min-containers 1", "min_containers", 1),
        ("--max-containers 4", "max_containers", 4),
        ("--buffer-containers 1", "buffer_containers", 1),
        ("--scaledown-window 60", "scaledown_window", 60.0),
        ("--block-network", "block_network", True),
        ("--exit-grace 5", "exit_grace", 5.0),
        ("--exit_grace 5", "exit_grace", 5.0),
        ("--engine process", "engine", "process"),
        ("--env A=1 B=x=y --env C=", "env", {"A": "1", "B": "x=y", "C": ""}),
    ],
)
def test_a_flag_sets_its_option(line: str, field: str, value: object):
    assert parse(line).options == dataclasses.replace(Options(), **{field: value})


def test_the_three_switches_of_a_run_are_no_options_of_the_class():
    request = parse("--lazy --fresh --rebuild")
    assert (request.lazy, request.fresh, request.rebuild) == (True, True, True)
    assert request.options == Options()


def test_image_steps_keep_the_order_in_which_they_are_written():
    found = parse("--pip numpy --apt git libgl1 --run 'git clone x' --pip pandas polars").options
    assert found.image == (
        Image.debian_slim()
        .pip_install("numpy")
        .apt_install("git", "libgl1")
        .run_commands("git clone x")
        .pip_install("pandas", "polars")
    )


def test_the_same_flag_twice_in_a_row_is_one_step():
    assert parse("--pip a --pip b").options == parse("--pip a b").options


def test_uv_and_another_base_image():
    found = parse("--image python:3.11-bookworm --uv-pip numpy").options
    assert found.image == Image.from_registry("python:3.11-bookworm").uv_pip_install("numpy")


def test_volumes_are_names_or_folders(tmp_path: Path):
    (tmp_path / "data").mkdir()
    volumes = parse("--volume weights:/weights ./data:/data", cwd=tmp_path).options.volumes
    assert {path: volume.kind for path, volume in volumes.items()} == {
        "/data": "path",
        "/weights": "named",
    }
    assert volumes["/data"].path == tmp_path / "data"


def test_secrets_are_taken_from_the_environment_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN_A", "hush")
    (secret,) = parse("--secret TOKEN_A").options.secrets
    assert secret.values() == {"TOKEN_A": "hush"}


def test_a_secret_in_the_line_is_refused_and_not_repeated():
    with pytest.raises(InvalidError, match="takes a name") as raised:
        parse("--secret TOKEN=hush")
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--memroy 3", "no option --memroy: did you mean --memory?"),
        ("--volumes w:/w", "did you mean --volume?"),
        ("--keep-warm 1", "write min_containers"),
        ("--region us-east", "--region does nothing here: containers run on your own machine"),
        ("--zzz", "%%lifecycle_cls? lists them"),
        ("--memory -1", "memory=-1 must be a whole number of MiB, 1 or more"),
        ("--cpu many", "cpu='many' must be a number of cores above 0"),
        ("--engine podman", "must be 'auto', 'docker', 'process', 'swarm', an address"),
        ("--cpu", "--cpu: expected one argument"),
        ("numpy", "'numpy' belongs to no option"),
        ("--run 'echo", "close the quotes"),
        ("--env A", "write --env A=value"),
        ("--image x --python 3.11", "--python applies to the default base"),
        ("--volume a:/w b:/w", "two volumes at /w"),
        ("--volume a", "--volume"),
        ("--pip 'two words'", "two words"),
    ],
)
def test_a_mistake_is_reported_with_the_fix(line: str, told: str):
    with pytest.raises(InvalidError) as raised:
        parse(line)
    assert told in str(raised.value)


def test_a_shortened_flag_is_not_guessed():
    with pytest.raises(InvalidError, match="no option --mem: did you mean"):
        parse("--mem 5")
