"""Building recipes: on a real engine, and what its stream of messages is taken to mean."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import pytest
from engine import docker_images

from lifecycle_magic.engines.base import LABEL, StepOutput
from lifecycle_magic.engines.docker import build_context
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.docker.names import ROLE, tag
from lifecycle_magic.engines.docker.progress import BuildProgress, follow_pull
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images.image import Image

docker_test = pytest.mark.docker


class Workshop:
    """Builds images, runs commands in them, and removes them in the end."""

    def __init__(self, engine: DockerEngine, client: docker.DockerClient) -> None:
        self.engine = engine
        self.client = client
        self.steps: list[StepOutput] = []
        self.keys: list[str] = []
        self.marks: list[str] = []

    def unique(self) -> str:
        """A command that no engine has in its cache."""
        self.marks.append(secrets.token_hex(8))
        return f"true {self.marks[-1]}"

    def build(self, image: Image, key: str | None = None) -> str:
        self.steps = []
        self.keys.append(key or secrets.token_hex(32))
        return self.engine.build(image, self.keys[-1], self.steps.append)

    def run(self, image: str, command: str) -> str:
        """What a shell command prints in a container of ``image``."""
        # The engine sometimes loses a last line that has no end (1 in 25, Docker 20.10).
        shell = ["sh", "-c", f"{command}\necho ."]
        printed: bytes = self.client.containers.run(image, shell, remove=True)
        return printed.decode().removesuffix(".\n")

    def statuses(self) -> list[tuple[int, str]]:
        return [(told.step, told.status) for told in self.steps if told.status != "output"]

    def output(self) -> str:
        return "".join(told.text for told in self.steps if told.status == "output")

    def close(self) -> None:
        for key in reversed(self.keys):
            with contextlib.suppress(docker.errors.ImageNotFound):
                self.client.images.remove(tag(key), force=True)
        docker_images.remove_made_by(self.client, self.marks, label=f"{ROLE}=image")


@pytest.fixture
def shop(need_docker: docker.DockerClient) -> Iterator[Workshop]:
    with contextlib.closing(DockerEngine()) as engine:
        shop = Workshop(engine, need_docker)
        yield shop
        shop.close()


# --- on a real engine ----------------------------------------------------------------------------


@docker_test
def test_each_step_is_told_with_what_it_prints_and_its_time(shop: Workshop) -> None:
    image = (
        Image.debian_slim().run_commands(shop.unique(), "echo one; echo two >&2").env({"A": "1"})
    )
    built = shop.build(image)
    assert shop.statuses() == [(step, told) for step in (1, 2, 3) for told in ("running", "done")]
    assert {told.of for told in shop.steps} == {3}
    assert sorted(shop.output().splitlines()) == ["one", "two"]  # two pipes have no order
    assert shop.steps[-2].text == "env A=1"
    assert all((told.seconds is not None) == (told.status == "done") for told in shop.steps)
    assert shop.engine.find(shop.keys[0]) == built


@docker_test
def test_steps_that_the_engine_has_done_before_are_told_as_cached(shop: Workshop) -> None:
    first, second = shop.unique(), shop.unique()
    shop.build(Image.debian_slim().run_commands(first))
    shop.build(Image.debian_slim().run_commands(first, second))
    assert shop.statuses() == [(1, "running"), (1, "cached"), (2, "running"), (2, "done")]


@docker_test
def test_a_recipe_without_steps_is_an_image_too(shop: Workshop) -> None:
    built = shop.build(Image.debian_slim())
    assert shop.steps == []
    assert shop.run(built, "echo works") == "works\n"


@docker_test
def test_a_failing_step_raises_its_command_exit_code_and_last_twenty_lines(shop: Workshop) -> None:
    command = "for i in $(seq 30); do echo line-$i; done; exit 7"
    image = Image.debian_slim().run_commands(shop.unique(), command, "echo never")
    with pytest.raises(BuildError) as caught:
        shop.build(image)
    first, *rest = str(caught.value).splitlines()
    assert "step 2 of 3" in first
    assert command in first
    assert "exit code 7" in first
    assert [line.strip() for line in rest] == [f"line-{i}" for i in range(11, 31)]
    assert shop.statuses()[-1] == (2, "failed")
    assert shop.engine.find(shop.keys[0]) is None


@docker_test
def test_after_a_failing_step_the_next_correct_recipe_builds(shop: Workshop) -> None:
    with pytest.raises(BuildError):
        shop.build(Image.debian_slim().run_commands("exit 1"))
    assert shop.run(shop.build(Image.debian_slim().run_commands("echo 1 > /f")), "cat /f") == "1\n"


@docker_test
@pytest.mark.parametrize("reference", ["lifecycle-magic-missing/image:1", "sha256:" + "f" * 64])
def test_a_base_that_does_not_exist_is_named(shop: Workshop, reference: str) -> None:
    with pytest.raises(BuildError, match=f"{reference} is not on the engine and can't be pulled"):
        shop.build(Image.from_registry(reference).pip_install("six"))


@docker_test
def test_any_image_of_the_engine_is_a_base(shop: Workshop) -> None:
    built = shop.build(Image.debian_slim().run_commands("echo base > /base"))
    for reference in (built, tag(shop.keys[0])):
        image = Image.from_registry(reference).run_commands("cat /base > /copy")
        assert shop.run(shop.build(image), "cat /copy") == "base\n"


@docker_test
def test_values_reach_the_container_as_they_were_written(shop: Workshop, tmp_path: Path) -> None:
    value = """ $HOME ${PATH} `id` "double" 'single' back\\slash \\$ # ünïcode """
    folder = "/a $HOME 'folder' \"with\" # it"
    (tmp_path / "file").write_text("content")
    image = (
        Image.debian_slim()
        .env({"VALUE": value, "OTHER": "x=y"})
        .workdir(folder)
        .add_local_file(tmp_path / "file", f"{folder}/ $copy [1]*")
        .run_commands('printf %s "$VALUE" > value', "pwd > place", "cat <<'END' > text\n$HOME\nEND")
        .run_commands('printf %s "$ONLY" > only', env={"ONLY": value})
    )
    built = shop.build(image)
    assert shop.run(built, "cat value") == value
    assert shop.run(built, "cat only") == value
    assert shop.run(built, "cat place") == f"{folder}\n"
    assert shop.run(built, "cat text") == "$HOME\n"
    assert shop.run(built, "cat ' $copy [1]*'") == "content"
    assert shop.run(built, 'printf %s "$OTHER:$ONLY"') == "x=y:"


@docker_test
def test_local_files_are_copied_with_modes_and_links_as_roots(
    shop: Workshop, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "deep" / "empty").mkdir(parents=True)
    (source / "deep" / "tool").write_text("#!/bin/sh\necho tool\n")
    (source / "deep" / "tool").chmod(0o755)
    (source / "twice").hardlink_to(source / "deep" / "tool")
    (source / "link").symlink_to("deep/tool")
    os.chown(source / "deep" / "tool", os.getuid(), os.getgid())
    (tmp_path / "name").symlink_to(source / "deep" / "tool")
    image = (
        Image.debian_slim()
        .add_local_dir(source, "/copy")
        .add_local_file(tmp_path / "name", "/bin/")
        .add_local_dir(source / "deep" / "empty", "/nothing")
    )
    built = shop.build(image)
    assert shop.run(built, "cd /copy && ./deep/tool && ./link && /bin/name") == "tool\n" * 3
    assert shop.run(built, "readlink /copy/link; test -L /bin/name || echo file") == (
        "deep/tool\nfile\n"
    )
    assert shop.run(built, "stat -c '%u:%g %a' /copy/deep/tool /copy/twice") == "0:0 755\n" * 2
    assert shop.run(built, "ls /copy/deep /nothing").split() == (
        ["/copy/deep:", "empty", "tool", "/nothing:"]
    )


@docker_test
def test_a_local_file_that_changed_is_another_image(shop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    image = Image.debian_slim().add_local_file(tmp_path / "file", "/file")
    base = shop.engine.base_id(image)
    before = shop.build(image, image.key(base))
    (tmp_path / "file").write_text("two")
    after = shop.build(image, image.key(base))
    assert (shop.run(before, "cat /file"), shop.run(after, "cat /file")) == ("one", "two")


@docker_test
def test_pip_installs_a_package(shop: Workshop) -> None:
    built = shop.build(Image.debian_slim().run_commands(shop.unique()).pip_install("six==1.16.0"))
    assert shop.run(built, "python3 -c 'import six; print(six.__version__)'") == "1.16.0\n"


@docker_test
def test_uv_installs_a_package(shop: Workshop) -> None:
    built = shop.build(
        Image.debian_slim().run_commands(shop.unique()).uv_pip_install("six==1.16.0")
    )
    assert shop.run(built, "python3 -c 'import six; print(six.__version__)'") == "1.16.0\n"


@docker_test
@pytest.mark.parametrize("method", ["pip_install", "uv_pip_install"])
def test_the_hosts_uv_installs_packages_and_is_not_in_the_image(
    shop: Workshop, method: str
) -> None:
    image = Image.debian_slim().run_commands(shop.unique()).env({"SEEN": "1"})
    image = getattr(image, method)("six==1.16.0").run_commands("python3 -m six; echo $SEEN > /seen")
    built = shop.build(image)
    printed = shop.output()
    assert "Installed 1 package" in printed  # as uv says it; pip says "Successfully installed"
    assert shop.statuses() == [(n, told) for n in (1, 2, 3, 4) for told in ("running", "done")]
    assert {told.of for told in shop.steps} == {4}
    assert shop.run(built, "cat /seen") == "1\n"
    look = "python3 -c 'import six, os; print(os.path.exists(six.__cached__))'"
    assert shop.run(built, look) == "True\n"
    assert shop.run(built, "command -v uv; find / -xdev -name 'uv*' -size +1M") == ""
    config = shop.client.images.get(built).attrs["Config"]
    assert not [name for name in config["Env"] if name.startswith("UV_")]
    assert "six" not in json.dumps(config)
    # Another recipe on top of the same steps finds them made.
    shop.build(image.run_commands(shop.unique()))
    assert (3, "cached") in shop.statuses()


@docker_test
def test_where_the_hosts_uv_can_t_do_it_the_images_own_pip_does(
    shop: Workshop, tmp_path: Path
) -> None:
    image = Image.debian_slim().run_commands(shop.unique())
    built = shop.build(image.pip_install("six==1.16.0", extra_options="--progress-bar=off"))
    assert "Successfully installed six-1.16.0" in shop.output()  # uv has no such option
    assert shop.statuses()[2:] == [(2, "running"), (2, "done")]
    assert shop.run(built, "python3 -m six && echo fine") == "fine\n"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {built}\nRUN useradd -m somebody\nUSER somebody\nENV HOME=/home/somebody\n"
    )
    shop.build(Image.from_dockerfile(tmp_path / "Dockerfile").pip_install("toolz==1.0.0"))
    assert "Successfully installed toolz-1.0.0" in shop.output()  # not root: uv is not even tried
    assert shop.statuses() == [(1, "running"), (1, "done")]


@docker_test
def test_an_interrupt_ends_the_hosts_uv_and_leaves_no_container(shop: Workshop) -> None:
    def interrupt(told: StepOutput) -> None:
        if (told.step, told.status) == (2, "output"):
            assert ours()
            raise KeyboardInterrupt

    def ours() -> set[str]:
        found = shop.client.api.containers(all=True)
        building = [one for one in found if one["Names"][0].startswith("/lm-build-")]
        return {
            one["Names"][0]
            for one in building
            if docker_images.is_made_by(shop.client, one["ImageID"], shop.marks)
        }

    image = Image.debian_slim().run_commands(shop.unique()).pip_install("six==1.16.0")
    with pytest.raises(KeyboardInterrupt):
        shop.engine.build(image, secrets.token_hex(32), interrupt)
    assert not ours()


@docker_test
def test_apt_installs_a_package(shop: Workshop) -> None:
    built = shop.build(Image.debian_slim().apt_install("tini"))
    assert shop.run(built, "command -v tini; ls /var/lib/apt/lists | wc -l").endswith("tini\n0\n")


@docker_test
@pytest.mark.parametrize("method", ["pip_install", "uv_pip_install"])
def test_a_package_that_does_not_exist_is_named_with_what_to_check(
    shop: Workshop, method: str
) -> None:
    name = "lifecycle-magic-no-such-package"
    with pytest.raises(BuildError, match=f"(?s)step 1 of 1.*{name}.*Fix: check the package's na"):
        shop.build(getattr(Image.debian_slim(), method)(name))


@docker_test
def test_a_debian_package_that_does_not_exist_is_named_with_what_to_check(shop: Workshop) -> None:
    with pytest.raises(BuildError, match=r"(?s)Unable to locate package.*Fix: check the Debian"):
        shop.build(Image.debian_slim().apt_install("lifecycle-magic-no-such-package"))


@docker_test
def test_an_interrupt_ends_the_build_and_leaves_no_container(shop: Workshop) -> None:
    shop.unique()
    (mark,) = shop.marks
    found: list[str] = []

    def interrupt(told: StepOutput) -> None:
        if told.status == "output":
            found.extend(
                str(one.id)
                for one in shop.client.containers.list(all=True, ignore_removed=True)
                if mark in json.dumps(one.attrs["Config"]["Cmd"])
            )
            raise KeyboardInterrupt

    image = Image.debian_slim().run_commands(f"echo {mark}; sleep 1000")
    with pytest.raises(KeyboardInterrupt):
        shop.engine.build(image, secrets.token_hex(32), interrupt)
    assert len(found) == 1
    with contextlib.suppress(docker.errors.NotFound):
        shop.client.api.wait(found[0], timeout=30, condition="removed")
    with pytest.raises(docker.errors.NotFound):
        shop.client.containers.get(found[0])


@docker_test
def test_the_build_can_be_taken_up_after_an_interrupt(shop: Workshop) -> None:
    image = Image.debian_slim().run_commands(shop.unique(), "echo x > /x")

    def interrupt(told: StepOutput) -> None:
        if (told.step, told.status) == (2, "running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.engine.build(image, secrets.token_hex(32), interrupt)
    assert shop.run(shop.build(image), "cat /x") == "x\n"
    assert shop.statuses()[:2] == [(1, "running"), (1, "cached")]


@docker_test
def test_a_commit_keeps_the_files_and_nothing_else_of_the_container(
    shop: Workshop, tmp_path: Path
) -> None:
    parent = shop.build(Image.debian_slim().env({"KEPT": "1"}).workdir("/w"))
    (tmp_path / "private").write_text("private")
    container = shop.client.containers.run(
        parent,
        entrypoint=["sleep"],
        command=["1000"],
        detach=True,
        environment={"TOKEN": "hunter2"},
        labels={f"{LABEL}.session": "hunter2"},
        mounts=[docker.types.Mount("/run/lifecycle", str(tmp_path), type="bind")],
        user="0:0",
    )
    try:
        assert container.exec_run(["sh", "-c", "echo baked > /baked"]).exit_code == 0
        shop.keys.append(secrets.token_hex(32))
        kept = shop.engine.commit(str(container.id), shop.keys[-1])
    finally:
        container.remove(force=True)
    assert shop.engine.find(shop.keys[-1]) == kept
    assert shop.run(kept, "cat /baked; pwd; ls /run/lifecycle") == "baked\n/w\n"
    was, now = (shop.client.images.get(image).attrs["Config"] for image in (parent, kept))
    assert sorted(now["Env"]) == sorted([*was["Env"], "TOKEN="])
    assert now["Cmd"] == was["Cmd"]
    assert not now["Entrypoint"]
    assert now["WorkingDir"] == "/w"
    assert now["Labels"] == {**was["Labels"], f"{LABEL}.session": ""}
    assert "hunter2" not in json.dumps([now, shop.client.images.get(kept).history()])


@pytest.mark.xdist_group("docker-images")
@docker_test
def test_prune_removes_images_of_ours_and_keeps_what_it_is_told_to(shop: Workshop) -> None:
    parent = shop.build(Image.debian_slim().run_commands(shop.unique()))
    shop.build(Image.from_registry(parent).run_commands(shop.unique()))
    kept = shop.build(Image.debian_slim().run_commands(shop.unique()))
    ours, _, _ = shop.keys
    shop.engine.young = -1.0
    with docker_images.removing_only(lambda what: what in set(map(tag, shop.keys))):
        removed = shop.engine.prune(keep=frozenset({shop.keys[2]}))
    images = {one for one in removed if one.startswith("image ")}
    assert {f"image {tag(key)}" for key in shop.keys[:2]} == images
    assert shop.engine.find(ours) is None
    assert shop.engine.find(shop.keys[2]) == kept


@pytest.mark.xdist_group("docker-images")
@docker_test
def test_prune_keeps_what_a_container_runs_on(shop: Workshop) -> None:
    built = shop.build(Image.debian_slim().run_commands(shop.unique()))
    container = shop.client.containers.run(built, ["sleep", "1000"], detach=True)
    shop.engine.young = -1.0
    try:
        with docker_images.removing_only(lambda what: what in set(map(tag, shop.keys))):
            assert shop.engine.prune(keep=frozenset()) == []
    finally:
        container.remove(force=True)
    assert shop.engine.find(shop.keys[0]) == built


@pytest.mark.xdist_group("docker-images")
@docker_test
def test_what_a_failed_build_of_a_dockerfile_leaves_is_listed_and_pruned(
    shop: Workshop, tmp_path: Path
) -> None:
    mark, base = secrets.token_hex(8), Image.debian_slim().reference
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base} \\\n  AS first\nLABEL {mark}=1\nRUN echo 1 > /1\n"
        f"FROM {base}\nLABEL {mark}=2\nCOPY --from=first /1 /1\nRUN exit 3\n"
    )

    def ids(label: str) -> set[str]:
        return docker_images.ids(shop.client, label=label)

    with pytest.raises(BuildError, match=r"RUN exit 3 \(exit code 3\)"):
        shop.engine.base_id(Image.from_dockerfile(tmp_path / "Dockerfile"))
    ours, left = ids(f"{ROLE}=image"), ids(mark)
    assert left
    assert left <= ours  # nothing that we could not find again
    assert {one.name for one in shop.engine.kept()} >= {name[:19] for name in left}
    shop.engine.young = -1.0
    with docker_images.removing_only(left.__contains__):
        shop.engine.prune(keep=frozenset())
    assert not ids(mark)


@pytest.mark.parametrize(
    "marked",
    [
        "from a as b\n+\nRUN c\n",
        "ARG A\n\nFROM $A\n+\nRUN x \\\n# FROM c\n  FROM d\nFROM e\n+\n",
        "# escape=`\nFROM a `\n  AS b\n+\nRUN c\\\nFROM d\n+\n",
    ],
)
def test_the_label_comes_after_each_from_and_nowhere_else(marked: str) -> None:
    expected = marked.replace("+\n", f'LABEL {ROLE}="image"\n')
    assert build_context.labelled(marked.replace("+\n", "")) == expected


# --- the engine's stream -------------------------------------------------------------------------


def follow(titles: list[str], messages: list[dict[str, Any]]) -> list[StepOutput]:
    told: list[StepOutput] = []
    progress = BuildProgress(titles, told.append, clock=itertools.count().__next__)
    for message in messages:
        progress.feed(message)
    progress.image()
    return told


def stream(*texts: str) -> list[dict[str, Any]]:
    return [{"stream": text} for text in texts]


START = stream("Step 1/3 : FROM x", "\n", " ---> 8bb9bb23b4fc\n", "Step 2/3 : LABEL a", "\n")
STEP = stream("Step 3/3 : RUN x", "\n", " ---> Running in 0123456789ab\n")
END: list[dict[str, Any]] = [
    *stream("Removing intermediate container 0123456789ab\n", " ---> ba9876543210\n"),
    {"aux": {"ID": "sha256:1"}},
    *stream("Successfully built ba9876543210\n", "Successfully tagged a:b\n"),
]


def test_the_engines_own_chatter_is_no_output() -> None:
    told = follow(["x"], START + STEP + END)
    assert [one.status for one in told] == ["running", "done"]


def test_what_looks_like_a_step_but_is_not_due_is_output() -> None:
    lines = ("Step 1/3 : RUN y\n", "Step 4/3 : RUN y\n", "Step 9/9 : z\n", " ---> no id\n")
    told = follow(["x"], [*START, *STEP, *stream(*lines), *END])
    assert tuple(one.text for one in told if one.status == "output") == lines


def test_colours_are_taken_out() -> None:
    told = follow(["x"], [*START, *STEP, *stream("\x1b[91mwarning\n\x1b[0m"), *END])
    assert [one.text for one in told if one.status == "output"] == ["warning\n"]


@pytest.mark.parametrize(
    ("printed", "fix"),
    [
        ("ERROR: No matching distribution found for x", "check the package's name and version"),
        (
            "Temporary failure in name resolution\nERROR: No matching distribution found for x",
            "the build reached no network",
        ),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("write /x: no space left on device", "disk is full"),
        ("E: Unable to locate package x", "Debian package's name"),
        ("/usr/bin/python3: No module named pip", "python3 with pip"),
        ("error: command 'gcc' failed: No such file", "build-essential"),
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "company's own CA"),
    ],
)
def test_common_failures_come_with_the_mend(printed: str, fix: str) -> None:
    failure = {"error": "it failed", "errorDetail": {"code": 1, "message": "it failed"}}
    last = re.escape(printed.splitlines()[-1])
    with pytest.raises(BuildError, match=rf"{last}\nFix: .*{fix}"):
        follow(["x"], [*START, *STEP, *stream(printed), failure])


def test_a_stream_that_ends_without_an_image_is_an_error() -> None:
    with pytest.raises(BuildError, match="without an image"):
        follow(["x"], START)


@pytest.fixture
def tell() -> tuple[list[StepOutput], Callable[[StepOutput], None]]:
    told: list[StepOutput] = []
    return told, told.append


def test_a_pull_is_one_step_that_counts_its_layers(
    tell: tuple[list[StepOutput], Callable[[StepOutput], None]],
) -> None:
    told, on_step = tell
    messages: list[dict[str, Any]] = [
        {"status": "Pulling from library/python", "id": "3.11-slim"},
        {"status": "Already exists", "id": "a"},
        {"status": "Pulling fs layer", "id": "b"},
        {"status": "Pulling fs layer", "id": "c"},
        {"status": "Downloading", "id": "c", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Pull complete", "id": "b"},
        {"status": "Pull complete", "id": "c"},
        {"status": "Status: Downloaded newer image for python:3.11-slim"},
    ]
    follow_pull(messages, "python:3.11-slim", on_step)
    assert [(one.status, one.text) for one in told] == [
        ("running", "pull python:3.11-slim"),
        ("output", "1 of 2 layers\n"),
        ("output", "2 of 2 layers\n"),
        ("done", "pull python:3.11-slim"),
    ]


def test_a_pull_that_fills_the_disk_says_so_and_nothing_of_the_name() -> None:
    words = "failed to register layer: write /usr/lib/x: no space left on device"
    with pytest.raises(BuildError, match=r"x: no space left.*\nFix: .*disk is full") as caught:
        follow_pull([{"error": words}], "python:3.11-slim", None)
    assert "name" not in str(caught.value)


def test_a_pull_that_fails_names_the_image(
    tell: tuple[list[StepOutput], Callable[[StepOutput], None]],
) -> None:
    told, on_step = tell
    with pytest.raises(BuildError, match=r"python:3\.11-slim.*manifest unknown.*docker login"):
        follow_pull([{"error": "manifest unknown"}], "python:3.11-slim", on_step)
    assert [one.status for one in told] == ["running", "failed"]
