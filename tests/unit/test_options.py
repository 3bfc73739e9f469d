"""The options of classes and apps: defaults, checks, changes and their part in a class's key."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.mount import Mount
from lifecycle_magic.secret import Secret
from lifecycle_magic.spec import options
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.retries import Retries
from lifecycle_magic.ui.notebook import options_line
from lifecycle_magic.volume import Volume

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_without_options_the_defaults_hold() -> None:
    options = Options.make("Model")
    assert options == Options()
    assert options.timeout is None
    assert options.startup_timeout == 300
    assert options.exit_grace == 30
    assert (options.min_containers, options.max_containers) == (0, None)
    assert options.scaledown_window is None


def test_values_come_out_in_their_final_form() -> None:
    options = Options.make(
        "Model",
        cpu=2,
        memory=2048.0,
        gpu=" any ",
        retries=2,
        timeout=60,
        env={"B": "2", "A": "1"},
        secrets=[Secret.from_dict({"TOKEN": "t"})],
        volumes={"/b/": Volume.from_name("b"), "/a": Volume.ephemeral()},
        image=Image.debian_slim(),
    )
    assert (options.cpu, options.memory, options.gpu, options.timeout) == (2.0, 2048, "any", 60.0)
    assert isinstance(options.memory, int)
    assert options.retries == Retries(max_retries=2)
    assert list(options.env) == ["A", "B"]
    assert list(options.volumes) == ["/a", "/b"]
    assert isinstance(options.secrets, tuple)


def test_of_a_request_and_a_limit_the_limit_is_taken() -> None:
    options = Options.make("Model", cpu=(0.5, 2), memory=(512, 1024))
    assert (options.cpu, options.memory) == (2, 1024)


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "negative memory": ({"memory": -1}, ("memory=-1", "MiB", "1 or more")),
    "memory as text": ({"memory": "2g"}, ("memory='2g'", "MiB")),
    "half a MiB": ({"memory": 0.5}, ("memory=0.5", "whole")),
    "a bool for a number": ({"memory": True}, ("memory=True",)),
    "cpu as text": ({"cpu": "many"}, ("cpu='many'", "cores")),
    "no cpu": ({"cpu": 0}, ("cpu=0", "above 0")),
    "endless cpu": ({"cpu": float("inf")}, ("cpu=inf",)),
    "request above limit": ({"cpu": (4, 2)}, ("cpu=(4, 2)", "(request, limit)")),
    "a pair of three": ({"memory": (1, 2, 3)}, ("memory=(1, 2, 3)", "pair")),
    "a misspelling": ({"memroy": 1}, ("memroy", "did you mean memory?")),
    "an unknown option": ({"zzz": 1}, ("zzz", "cpu", "memory")),
    "a schedule": ({"schedule": "daily"}, ("schedule", "your scheduler", "remove")),
    "both names": ({"keep_warm": 1, "min_containers": 2}, ("old name", "min_containers")),
    "max_inputs": ({"max_inputs": 4}, ("max_inputs=4", "single_use_containers=True")),
    "mounts": ({"mounts": ["/data"]}, ("list of Mount", "/data")),
    "file systems": ({"network_file_systems": ["x"]}, ("mapping of paths",)),
    "concurrent": ({"allow_concurrent_inputs": 4}, ("@concurrent(max_inputs=...)",)),
    "concurrent inputs": ({"allow_concurrent_inputs": 5}, ("@concurrent(max_inputs=",)),
    "more kept than allowed": (
        {"min_containers": 3, "max_containers": 2},
        ("max_containers=2", "min_containers=3"),
    ),
    "no containers at all": ({"max_containers": 0}, ("max_containers=0", "1 or more")),
    "a negative retry": ({"retries": -1}, ("retries=-1", "Retries")),
    "an image by name": (
        {"image": "python:3.11"},
        ("image='python:3.11'", "Image.from_registry('python:3.11')"),
    ),
    "a secret without a list": (
        {"secrets": Secret.from_dict({"A": "hunter2"})},
        ("secrets=[secret]",),
    ),
    "secrets as dicts": ({"secrets": [{"A": "hunter2"}]}, ("Secret.from_dict",)),
    "env as a list": ({"env": ["A=hunter2"]}, ("env", "mapping")),
    "env with a number": ({"env": {"A": 1}}, ("env['A']", "str()")),
    "env with a bad name": ({"env": {"A-B": "hunter2"}}, ("env", "'A-B'")),
    "env with a NUL": ({"env": {"A": "hunter2\0"}}, ("env['A']", "NUL")),
    "volumes as a list": ({"volumes": ["/data"]}, ("volumes", "Volume.from_name")),
    "a relative path": ({"volumes": {"data": Volume.ephemeral()}}, ("'data'", "absolute")),
    "the root": ({"volumes": {"/": Volume.ephemeral()}}, ("'/'",)),
    "two at one path": (
        {"volumes": {"/a": Volume.ephemeral(), "/a/": Volume.ephemeral()}},
        ("/a", "another path"),
    ),
    "a path as volume": ({"volumes": {"/a": "./a"}}, ("volumes['/a']", "Volume.from_path")),
    "an engine nobody has": ({"engine": "podman"}, ("engine='podman'", "'docker'")),
    "block_network as text": ({"block_network": "yes"}, ("block_network='yes'", "True")),
    "a gpu of zero": ({"gpu": 0}, ("gpu=0",)),
    "a negative grace": ({"exit_grace": -1}, ("exit_grace=-1", "seconds")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_class_option_value_and_fix(mistake: str) -> None:
    given, expected = MISTAKES[mistake]
    with pytest.raises(InvalidError) as caught:
        Options.make("Model", **given)
    message = str(caught.value)
    assert message.startswith("Model: ")
    assert [text for text in expected if text not in message] == []
    assert "hunter2" not in message  # what may be a secret is never repeated


NAMES = st.sampled_from([item.name for item in dataclasses.fields(Options)])
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is slow
@given(st.dictionaries(NAMES, ANYTHING | st.lists(ANYTHING) | st.tuples(ANYTHING, ANYTHING)))
def test_whatever_is_given_either_holds_or_is_an_invalid_error(given: dict[str, Any]) -> None:
    try:
        options = Options.make("Model", **given)
    except InvalidError:
        return
    assert options == Options().replace("Model", **given)
    assert len(options.key()) == 64


@pytest.mark.parametrize(
    "given",
    [{"max_retries": -1}, {"max_retries": 1, "backoff_coefficient": 0.5},
     {"max_retries": 1, "initial_delay": 5, "max_delay": 1}],
)  # fmt: skip
def test_retries_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        Retries(**given)


def test_retries_wait_longer_each_time_up_to_the_most() -> None:
    retries = Retries(max_retries=9, initial_delay=2, backoff_coefficient=3, max_delay=20)
    assert [retries.delay(attempt) for attempt in (1, 2, 3, 4)] == [2, 6, 18, 20]


def test_replace_changes_what_is_named_and_none_means_the_default() -> None:
    options = Options.make("Model", cpu=2, env={"A": "1"}, exit_grace=5)
    changed = options.replace("Model", cpu=3, exit_grace=None, env=None)
    assert (changed.cpu, changed.exit_grace, changed.env) == (3, 30, {})
    assert options.cpu == 2


CONTAINER: list[dict[str, Any]] = [
    {"cpu": 2}, {"memory": 512}, {"env": {"A": "1"}}, {"block_network": True}, {"shm_size": 64},
    {"gpu": 1}, {"engine": "process"}, {"exit_grace": 1},
    {"image": Image.debian_slim().pip_install("numpy")},
    {"image": Image.debian_slim(f"{MINOR}.1")}, {"image": Image.debian_slim(f"{MINOR}.2")},
    {"image": Image.debian_slim(force_build=True)},
    {"image": Image.from_registry("one")}, {"image": Image.from_registry("two")},
    {"volumes": {"/a": Volume.ephemeral()}}, {"volumes": {"/b": Volume.ephemeral()}},
    {"volumes": {"/a": Volume.from_name("a")}}, {"secrets": [Secret.from_dict({"A": "1"})]},
    {"secrets": [Secret.from_dict({"A": "2"})]},
]  # fmt: skip


def test_what_decides_about_the_container_is_in_the_key() -> None:
    keys = [Options.make("Model", **given).key() for given in CONTAINER]
    assert len({*keys, Options().key()}) == len(keys) + 1
    assert keys == [Options.make("Other", **given).key() for given in CONTAINER]


@pytest.mark.parametrize(
    "given",
    [{"max_containers": 3}, {"scaledown_window": 60}, {"timeout": 5}, {"retries": 3},
     {"buffer_containers": 1}, {"startup_timeout": 9}, {"image": Image.debian_slim()}],
)  # fmt: skip
def test_what_does_not_touch_a_container_keeps_the_key(given: dict[str, Any]) -> None:
    assert Options.make("Model", **given).key() == Options().key()


def test_the_key_is_the_same_in_another_process_and_holds_no_secret_to_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "from lifecycle_magic.spec.options import Options\n"
        "from lifecycle_magic.secret import Secret\n"
        "print(Options.make('M', cpu=2, env={'B': '1', 'A': '2'}).key())\n"
        "print(Options.make('M', secrets=[Secret.from_dict({'PIN': '1234'})]).key())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    plain, secret = done.stdout.split()
    assert plain == Options.make("M", cpu=2, env={"A": "2", "B": "1"}).key()
    secrets = [Secret.from_dict({"PIN": "1234"})]
    assert secret == Options.make("M", secrets=secrets).key()
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))
    other = Options.make("M", secrets=secrets).key()
    assert secret != other, "a digest under no salt can be found by trying all PINs"
    assert other == Options.make("M", secrets=secrets).key()
    (tmp_path / "state" / "secrets" / ".salt").write_bytes(b"damaged")
    assert Options.make("M", secrets=secrets).key() not in (secret, other)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(900, 900.0), ("15m", 900.0), ("90", 90.0), ("2h", 7200.0), ("1d", 86_400.0), ("1.5 m", 90.0)],
)
def test_keep_is_seconds_or_a_string_with_a_unit(given: Any, seconds: float) -> None:
    assert Options.make("M", keep=given).keep == seconds
    assert Options.make("M", keep=given).key() == Options().key()


@pytest.mark.parametrize("given", [0, -1, "", "15 minutes", "25h", 86_401, True, "nan", "m"])
def test_other_values_of_keep_are_refused(given: Any) -> None:
    with pytest.raises(InvalidError, match=r"M: keep=.* at most a day"):
        Options.make("M", keep=given)


def test_keep_is_refused_for_functions() -> None:
    app = lm.App(keep="15m")
    with pytest.raises(InvalidError, match=r"double: keep=60 is for classes"):

        @app.function(keep=60)
        def double(x: int) -> int:
            return 2 * x

    @app.function
    def triple(x: int) -> int:  # the app's keep is for its classes
        return 3 * x

    with pytest.raises(InvalidError, match=r"triple: keep=60 is for classes"):
        _ = triple.with_options(keep=60).remote


def test_an_option_is_declared_once() -> None:
    names = [field.name for field in dataclasses.fields(Options)]
    assert list(options.declared()) == names
    for name, one in options.declared().items():
        assert one.help, name
        assert not one.help.endswith("."), name
    shown = options_line.describe()
    assert all(f"--{name.replace('_', '-')}" in shown for name in names if name not in LISTS)


LISTS = ("image", "env", "secrets", "volumes")  # the magic has flags of their own for these


def test_old_options_of_modal_are_the_current_ones(tmp_path: Path) -> None:
    one, other = Secret.from_dict({"A": "1"}), Secret.from_dict({"B": "2"})
    data, cache = Volume.from_name("data"), Volume.from_name("cache")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.bin").write_text("b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mount = Mount.from_local_dir(
            tmp_path, remote_path="/m", condition=lambda path: path.endswith(".txt")
        )
        old = Options.make(
            "Model",
            keep_warm=True,
            concurrency_limit=3,
            container_idle_timeout=60,
            max_inputs=1,
            secret=one,
            secrets=[other],
            volumes={"/data": data},
            network_file_systems={"/cache": cache},
            mounts=[mount],
        )
    image = old.image
    assert image is not None
    assert [file.name for step in image.plain_steps() for file in step.files()] == ["a.txt"]
    assert old == Options.make(
        "Model",
        min_containers=1,
        max_containers=3,
        scaledown_window=60,
        single_use_containers=True,
        secrets=[other, one],
        volumes={"/data": data, "/cache": cache},
        image=image,
    )
    assert Options.make("Model", keep_warm=None, mounts=None) == Options()
