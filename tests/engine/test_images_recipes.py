"""What recipes and build hooks promise, through real builds: what is kept, and what is not."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from engine import docker_images
from engine.recipes import Site, open_site

import lifecycle_magic as lm
from lifecycle_magic.building import builder
from lifecycle_magic.engines.docker.address import OfEnvironment
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.docker.images import DockerImages
from lifecycle_magic.engines.docker.names import tag
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.exception import BuildError, EngineError, InvalidError, StartError
from lifecycle_magic.session import session
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.ui import commands
from lifecycle_magic.ui.deployment import DeploymentProgress


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    yield from open_site(request.node.name, "process")


@pytest.fixture
def docker_site(request: pytest.FixtureRequest, need_docker: docker.DockerClient) -> Iterator[Site]:
    for site in open_site(request.node.name, "docker"):
        yield site
        site.app.stop()
        for one in docker_images.ids(need_docker, label=site.mark):
            docker_images.remove(need_docker, one)


# --- the build hook ------------------------------------------------------------------------------

BAKE = """
from pathlib import Path
class Model:
    @lm.build(timeout=LIMIT)
    def bake(self):
        import time
        print("baking", MARK)
        Path("half").write_text("half")
        if LIMIT:
            time.sleep(600)
    @lm.method()
    def get(self):
        return sorted(path.name for path in Path().iterdir() if path.name in ("half", "whole"))
"""


@pytest.mark.process
def test_a_build_hook_past_its_time_fails_the_build_and_keeps_nothing(site: Site) -> None:
    with pytest.raises(BuildError, match=r"@build hook bake\(\) failed: MethodTimeout"):
        site.cls(BAKE, LIMIT=0.5)().get.remote()
    assert ("failed", "bake()") in site.steps()
    kept = BAKE.replace('Path("half").write_text("half")', 'Path("whole").write_text("")')
    assert site.cls(kept, LIMIT=None)().get.remote() == ["whole"]


@pytest.mark.process
def test_what_a_build_hook_prints_is_told_while_it_runs(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.cls(BAKE, LIMIT=None)().get.remote()
    assert f"baking {site.mark}" in capsys.readouterr().out


def test_a_build_hook_that_fails_shows_its_last_lines_in_error_card_and_log(
    engine_name: str,
) -> None:
    for site in open_site("failing-hook", engine_name):
        model = site.cls(
            """
            import os, sys
            class Model:
                @lm.build()
                def bake(self):
                    print("downloading")
                    os.system("echo from a subprocess")
                    print("no such file", MARK, file=sys.stderr)
                    raise RuntimeError("no weights")
                @lm.method()
                def get(self): ...
            """
        )
        with pytest.raises(BuildError) as caught:
            model().get.remote()
        told = str(caught.value)
        lines = ["downloading", "from a subprocess", f"no such file {site.mark}"]
        assert "bake() failed: RuntimeError: no weights\n" in told
        assert all(f"\n  {line}\n" in told for line in lines)
        progress = DeploymentProgress("Model", 0.0, service=f"{site.app.name}/Model")
        for event in site.events:
            progress.take(event)
        progress.end(1.0, caught.value)
        assert set(lines) <= set(progress.view().tail)
        log = commands.run("logs Model --build", session.current())
        assert isinstance(log, str)
        assert all(f"{line}\n" in log for line in lines)
        assert (
            commands.run("logs Model --build -n 1", session.current())
            == log.splitlines()[-1] + "\n"
        )


@pytest.mark.usefixtures("need_mounts")
def test_a_build_hook_has_what_the_class_has(engine_name: str, tmp_path: Path) -> None:
    volume = lm.Volume.from_path(tmp_path)
    for site in open_site("hook", engine_name):
        model = site.cls(
            """
            import os, socket
            class Model:
                @lm.build()
                def bake(self):
                    lines = [MARK, os.environ["TOKEN"], os.environ["MODE"]]
                    try:
                        socket.create_connection(("192.0.2.1", 9), timeout=0.2)
                    except OSError as error:
                        lines.append(str(error.errno))
                    with open(FOLDER + "/seen", "w") as file:
                        file.write("\\n".join(lines))
                @lm.method()
                def get(self):
                    return open(FOLDER + "/seen").read().splitlines()
            """,
            FOLDER=str(tmp_path),
            volumes={str(tmp_path): volume},
            secrets=[lm.Secret.from_dict({"TOKEN": "t0ken"})],
            env={"MODE": "m"},
            block_network=True,
        )
        assert model().get.remote() == [site.mark, "t0ken", "m", "101"]  # no route at all


@pytest.mark.docker
def test_what_a_hook_writes_below_a_volume_of_the_base_image_is_kept(
    docker_site: Site, tmp_path: Path
) -> None:
    base = lm.Image.debian_slim().reference
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\nLABEL {docker_site.mark}=1\n"
        "RUN mkdir -p /in/data && echo base > /in/data/base\n"
        'VOLUME ["/in/data", "/in/empty", "/in/mounted $x"]\n'
    )
    model = docker_site.cls(
        """
        import os
        from pathlib import Path
        class Model:
            @lm.build()
            def one(self):
                Path("/in/data/one").write_text(MARK)
                os.chown("/in/data/one", 7, 7)
                Path("/in/mounted $x/one").write_text("not kept: it is in the volume")
            @lm.build()
            def two(self):
                Path("/in/data/two").write_text(Path("/in/data/one").read_text() + "!")
                os.symlink("two", "/in/data/link")
            @lm.method()
            def get(self):
                found = {p.name: p.read_text() for p in Path("/in").rglob("*") if p.is_file()}
                return found, os.stat("/in/data/one").st_uid, os.readlink("/in/data/link")
        """,
        image=lm.Image.from_dockerfile(tmp_path / "Dockerfile"),
        volumes={"/in/mounted $x": lm.Volume.ephemeral()},
    )
    mark = docker_site.mark
    found = {"base": "base\n", "one": mark, "two": f"{mark}!", "link": f"{mark}!"}
    assert model().get.remote() == (found, 7, "two")


# --- secrets -------------------------------------------------------------------------------------


def fetch_with_a_key() -> None:
    Path("/fetched").write_text(str(len(os.environ["KEY"])))


@pytest.mark.docker
def test_no_secret_is_anywhere_in_the_saved_image(
    docker_site: Site, need_docker: docker.DockerClient
) -> None:
    secret, other = secrets.token_hex(16), secrets.token_hex(8)
    model = docker_site.cls(
        """
        import os
        class Model:
            @lm.build()
            def bake(self):
                with open("/baked", "w") as file:
                    file.write(MARK + str(len(os.environ["TOKEN"])))
            @lm.method()
            def get(self): return open("/baked").read() + open("/fetched").read()
        """,
        image=lm.Image.debian_slim().run_function(
            fetch_with_a_key, secrets=[lm.Secret.from_dict({"KEY": other})]
        ),
        secrets=[lm.Secret.from_dict({"TOKEN": secret})],
    )
    assert model().get.remote() == f"{docker_site.mark}3216"
    (container,) = session.current().services[f"{docker_site.app.name}/Model"].containers()
    image = need_docker.images.get(container.plan.launch.image)
    saved = b"".join(image.save())
    assert docker_site.mark in _contents(saved), "the image's files were not read"
    for one, name in ((secret, "TOKEN="), (other, "KEY=")):
        assert one not in _contents(saved)
        assert name not in str(image.attrs) + str(image.history())
    docker_site.app.stop()
    with contextlib.suppress(docker.errors.NotFound):
        need_docker.api.wait(container.id, condition="removed")
    need_docker.images.remove(str(image.id), force=True)


def _contents(saved: bytes) -> str:
    """All that is in an image: its configuration and each file of each layer."""
    found: list[bytes] = []
    with tarfile.open(fileobj=io.BytesIO(saved)) as outer:
        for member in outer:
            file = outer.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            content = file.read()
            found.append(content)  # layers are tars without compression
    return b"\0".join(found).decode("latin-1")


# --- recipes -------------------------------------------------------------------------------------


ABSENT = """
with image.imports():
    import lifecycle_absent.deep as gone
    from lifecycle_absent import some
    import json.decoder as here
class Model:
    @lm.method()
    def get(self):
        return gone.__name__, some.WORD, here.__name__
"""


@pytest.mark.process
def test_what_only_the_image_has_can_be_imported_for_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lifecycle_absent"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("")
    (package / "some.py").write_text("WORD = 'there'")
    volumes = {str(tmp_path): lm.Volume.from_path(tmp_path)}
    image = lm.Image.debian_slim().env({"PYTHONPATH": str(tmp_path)})
    model = site.cls(ABSENT, image=image, volumes=volumes)
    assert model().get.remote() == ("lifecycle_absent.deep", "there", "json.decoder")
    assert "lifecycle_absent" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match=r'\.pip_install\("lifecycle_absent"\)'):
        site.cls(ABSENT, image=lm.Image.debian_slim())().get.remote()


def test_what_only_the_image_has_can_not_be_used_here() -> None:
    with lm.Image.debian_slim().imports():
        from lifecycle_absent import nn
    with pytest.raises(ModuleNotFoundError, match=r"lifecycle_absent\.nn\.Linear is only in the"):
        nn.Linear(3)


@pytest.mark.process
def test_a_named_python_source_is_there_and_its_edits_arrive(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "named_source.py").write_text("N = 1\n")
    cell = """
        import importlib
        class Model:
            @lm.method()
            def get(self): return importlib.import_module("named_source").N
        """
    image = lm.Image.debian_slim().add_local_python_source("named_source")
    assert "add_local_python_source('named_source')" in repr(image)
    assert site.cls(cell, image=image)().get.remote() == 1
    (tmp_path / "named_source.py").write_text("N = 22\n")
    assert site.cls(cell, image=image)().get.remote() == 22
    with pytest.raises(InvalidError, match="no Python source of 'not_there_at_all'"):
        image.add_local_python_source("not_there_at_all")


GET = """
class Model:
    @lm.method()
    def get(self):
        import os
        return sorted(os.listdir("/data")), os.environ["WORD"]
"""


@pytest.mark.docker
def test_a_dockerfile_is_built_with_its_context_and_again_when_that_changes(
    docker_site: Site, tmp_path: Path
) -> None:
    base = lm.Image.debian_slim().reference
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\nARG WORD\nENV WORD=$WORD\nLABEL {docker_site.mark}=1\nCOPY . /data\n"
    )
    (tmp_path / ".dockerignore").write_text("# not these\n*.tmp\nDockerfile\n.dockerignore\n")
    (tmp_path / "one").write_text("1")
    (tmp_path / "skipped.tmp").write_text("1")
    image = lm.Image.from_dockerfile(tmp_path / "Dockerfile", build_args={"WORD": "w"})
    assert docker_site.cls(GET, image=image)().get.remote() == (["one"], "w")
    docker_site.events.clear()
    (tmp_path / "skipped.tmp").write_text("2")
    assert docker_site.cls(GET, image=image, cpu=1)().get.remote() == (["one"], "w")
    assert docker_site.steps() == []
    (tmp_path / "two").write_text("2")
    assert docker_site.cls(GET, image=image, cpu=1)().get.remote() == (["one", "two"], "w")
    assert [step for step in docker_site.steps() if step[0] == "done"] == [
        ("done", "build Dockerfile")
    ]
    image = lm.Image.from_dockerfile(
        tmp_path / "Dockerfile", build_args={"WORD": "w"}, ignore=["two", ".*", "D*"]
    )
    expected = (["one", "skipped.tmp"], "w")
    assert docker_site.cls(GET, image=image, cpu=1)().get.remote() == expected


@pytest.mark.docker
def test_setup_commands_run_before_the_steps_and_these_in_the_shell_that_is_set(
    docker_site: Site,
) -> None:
    base = lm.Image.debian_slim().reference
    image = (
        lm.Image.from_registry(
            base, setup_dockerfile_commands=["RUN mkdir /data", "ENV WORD=setup"]
        )
        .shell(["/bin/bash", "-c"])
        .run_commands("[[ $WORD == s* ]] && touch /data/ran")
    )
    assert docker_site.cls(GET, image=image)().get.remote() == (["ran"], "setup")


@pytest.mark.docker
def test_a_dockerfile_is_built_again_when_the_name_it_starts_from_means_another_image(
    docker_site: Site, need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    name = f"lifecycle-magic-test/{docker_site.mark}"
    (tmp_path / "Dockerfile").write_text(
        f"ARG BASE={name}\nFROM $BASE AS base\nFROM base\nRUN mkdir /data\n"
    )
    image = lm.Image.from_dockerfile(tmp_path / "Dockerfile")
    labels = {docker_site.mark: "1"}

    def a_base(word: str) -> None:
        text = f"FROM {lm.Image.debian_slim().reference}\nENV WORD={word}\n"
        need_docker.images.build(
            fileobj=io.BytesIO(text.encode()), tag=name, labels=labels, rm=True
        )

    for word in ("one", "two", "one"):
        a_base(word)
        assert docker_site.cls(GET, image=image)().get.remote() == ([], word)
    docker_site.events.clear()
    assert docker_site.cls(GET, image=image)().get.remote() == ([], "one")
    assert docker_site.steps() == []


@pytest.mark.docker
def test_a_dockerfile_that_fails_shows_the_instruction_its_code_and_last_lines(
    docker_site: Site, tmp_path: Path
) -> None:
    base = lm.Image.debian_slim().reference
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nRUN echo words; exit 7\n")
    image = lm.Image.from_dockerfile(tmp_path / "Dockerfile")
    with pytest.raises(BuildError, match=r"RUN echo words; exit 7 \(exit code 7\)\n  words"):
        docker_site.cls(GET, image=image)().get.remote()


@pytest.mark.process
def test_a_dockerfile_is_refused_by_name_where_no_engine_builds_it(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    image = lm.Image.from_dockerfile(tmp_path / "Dockerfile")
    with pytest.raises(InvalidError, match=r"Image\.from_dockerfile\(.*needs a Docker engine"):
        site.cls(GET, image=image)().get.remote()


def test_a_file_that_changes_while_the_image_is_made_is_not_kept_under_the_former_key(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # "data" and what links to it; looking for the image comes after reading the files for its key.
    (tmp_path / "data").write_text("1")
    (tmp_path / "link").symlink_to("data")

    class Model:
        @lm.method()
        def get(self) -> None: ...

    kinds: dict[str, type[DockerEngine] | type[ProcessEngine]]
    kinds = {"docker": DockerEngine, "process": ProcessEngine}

    class Late(kinds[engine_name]):  # type: ignore[misc]
        edit = True

        def find(self, key: str) -> Any:
            if self.edit:
                (tmp_path / "data").write_text("2")
            return super().find(key)

    image = lm.Image.debian_slim().workdir("/w").add_local_dir(tmp_path, "/w/copied")
    image = image.env({"MARK": secrets.token_hex(8)})
    engine = Late()
    key = image.key(engine.base_id(image))
    spec = read_class(Model, Options(image=image))

    def build() -> builder.BuiltImage:
        return builder.ensure(spec, engine, lambda *_: contextlib.nullcontext(""), lambda _: None)

    with pytest.raises(BuildError, match=r"add .* as /w/copied: its files \(data\) changed during"):
        build()
    engine.edit = False
    assert engine.find(key) is None
    assert engine.find(build().key) is not None
    if engine_name == "docker":
        request.getfixturevalue("need_docker").images.remove(tag(build().key), force=True)
        engine.close()


@pytest.mark.docker
def test_a_dockerfiles_context_that_changes_while_it_is_read_is_refused(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    class Late(DockerImages):
        def find(self, key: str) -> Any:
            (tmp_path / "data").write_text("2")
            return super().find(key)

    (tmp_path / "data").write_text("1")
    (tmp_path / "Dockerfile").write_text(f"FROM {lm.Image.debian_slim().reference}\nCOPY . /\n")
    with (
        contextlib.closing(Clients(OfEnvironment())) as clients,
        pytest.raises(BuildError, match=r"build Dockerfile: files of .* changed while they were"),
    ):
        Late(clients).base_id(lm.Image.from_dockerfile(tmp_path / "Dockerfile"))


FUNCTION = """
import os
from pathlib import Path
WORD = "one"
def fetch(name, *, times):
    Path(name).write_text(WORD * times + os.environ["TOKEN"])
image = lm.Image.debian_slim().run_function(
    fetch, args=("fetched",), kwargs={"times": 2}, secrets=[lm.Secret.from_dict({"TOKEN": "!"})],
)
class Model:
    @lm.build()
    def bake(self): Path("baked").write_text(Path("fetched").read_text() + ".")
    @lm.method()
    def get(self): return Path("baked").read_text(), "TOKEN" in os.environ
"""


def function_site(site: Site, cell: str) -> Any:
    space: dict[str, Any] = {"__name__": "__main__", "lm": lm}
    exec(cell, space)
    site.events.clear()
    return site.app.cls(image=space["image"])(space["Model"])().get.remote()


@pytest.mark.process
def test_a_function_of_the_image_runs_once_below_the_hooks_and_again_when_it_changes(
    site: Site,
) -> None:
    assert function_site(site, FUNCTION) == ("oneone!.", False)
    assert function_site(site, FUNCTION + "# the end") == ("oneone!.", False)
    assert site.steps() == []
    for old, new, baked in [
        ('WORD = "one"', 'WORD = "two"', "twotwo!."),
        ('"times": 2', '"times": 3', "oneoneone!."),
        ("WORD * times", "times * (WORD + '-')", "one-one-!."),
    ]:
        assert function_site(site, FUNCTION.replace(old, new)) == (baked, False)
        done = [text for status, text in site.steps() if status == "done"]
        assert done == ["fetch()", "bake()"]
    function_site(site, FUNCTION)
    assert site.steps() == []


@pytest.mark.process
def test_a_function_of_the_image_runs_again_when_its_options_change(
    site: Site, tmp_path: Path
) -> None:
    cell = FUNCTION.replace("WORD * times", 'os.environ["MODE"]').replace(
        "secrets=", 'env={"MODE": "one"}, secrets='
    )
    assert function_site(site, cell) == ("one!.", False)
    assert function_site(site, cell.replace('"one"}', '"two"}')) == ("two!.", False)
    # A secret that is renewed builds nothing; one of another name does.
    assert function_site(site, cell.replace('"TOKEN": "!"', '"TOKEN": "?"')) == ("one!.", False)
    assert site.steps() == []
    more = cell.replace('"TOKEN": "!"', '"TOKEN": "?", "OTHER": ""')
    assert function_site(site, more) == ("one?.", False)


@pytest.mark.process
def test_a_function_that_raises_is_named_and_keeps_nothing(site: Site) -> None:
    with pytest.raises(BuildError, match=r"^Model: its image's function fetch\(\) failed: KeyErr"):
        function_site(site, FUNCTION.replace('os.environ["TOKEN"]', 'os.environ["OTHER"]'))


def test_a_function_is_refused_where_it_can_not_work() -> None:
    image = lm.Image.debian_slim()
    with pytest.raises(InvalidError, match="written with def"):
        image.run_function(print)
    with pytest.raises(InvalidError, match="has no option cpus"):
        image.run_function(function_site, cpus=2)
    with pytest.raises(InvalidError, match=r"function_site\): secrets must be a list"):
        image.run_function(function_site, secrets=lm.Secret.from_dict({"A": "1"}))
    with pytest.raises(InvalidError, match="env: the value of A must be a string"):
        image.run_function(function_site, env={"A": 1})


@pytest.mark.docker
def test_a_gpu_where_the_engine_has_none_is_refused_with_the_mend(
    docker_site: Site, need_docker: docker.DockerClient
) -> None:
    if "nvidia" in need_docker.info()["Runtimes"]:
        pytest.skip("this engine can hand out GPUs")
    with pytest.raises(EngineError, match=r"can't hand out GPUs: install .* or omit gpu="):
        docker_site.cls(GET, gpu="all")().get.remote()


def old_python(site: Site, folder: Path) -> lm.Image:
    """A python3 that passes itself off as an old one stands for an image that has an old one."""
    (folder / "Dockerfile").write_text(
        f"FROM {lm.Image.debian_slim().reference}\nLABEL {site.mark}=1\n"
        "RUN site=$(python3 -c 'import site; print(site.getsitepackages()[0])') && "
        "echo \"import sys; sys.version_info = (3, 8, 0, 'final', 0)\" > $site/other.pth\n"
    )
    return lm.Image.from_dockerfile(folder / "Dockerfile")


@pytest.mark.docker
def test_a_python_that_is_too_old_is_refused_by_name_before_any_step(
    docker_site: Site, tmp_path: Path
) -> None:
    image = old_python(docker_site, tmp_path).run_commands("true")
    told = r"^Model: Image\.from_dockerfile\(.* has Python 3\.8, and a class needs Python 3\.10 to"
    with pytest.raises(BuildError, match=told):
        docker_site.cls(GET, image=image)().get.remote()
    assert ("running", "true") not in docker_site.steps()


@pytest.mark.docker
def test_where_a_step_may_bring_another_python_the_container_tells(
    docker_site: Site, tmp_path: Path
) -> None:
    image = old_python(docker_site, tmp_path).run_commands("true python")
    with pytest.raises(StartError, match=r"Python 3\.8"):
        docker_site.cls(GET, image=image)().get.remote()


@pytest.mark.docker
def test_a_base_without_python_or_shell_is_refused_with_the_mend(
    docker_site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM scratch\nLABEL {docker_site.mark}=1\nCOPY Dockerfile /\n")
    image = lm.Image.from_dockerfile(file)
    with pytest.raises(BuildError, match=r"has no python3 that runs.*Image\.debian_slim\(\)"):
        docker_site.cls(GET, image=image)().get.remote()
    base = lm.Image.debian_slim().reference
    file.write_text(f"FROM {base}\nLABEL {docker_site.mark}=1\nRUN rm /bin/sh\n")
    with pytest.raises(BuildError, match=r"failed: true\n.*\nFix: steps run in a shell.*/bin/sh"):
        docker_site.cls(GET, image=image.run_commands("true"))().get.remote()


@pytest.mark.docker
def test_an_image_for_another_platform_is_refused_by_name(
    docker_site: Site, need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    here = need_docker.version()["Arch"]
    other = "arm64" if here == "amd64" else "amd64"
    name = f"lifecycle-magic-test/{docker_site.mark}"
    text = f"FROM scratch\nLABEL {docker_site.mark}=1\nCOPY Dockerfile /\n"
    (tmp_path / "Dockerfile").write_text(text)
    made, _ = need_docker.images.build(path=str(tmp_path), tag=name, rm=True)
    saved = b"".join(made.save(named=True))
    need_docker.images.load(saved.replace(f'"{here}"'.encode(), f'"{other}"'.encode()))
    image = lm.Image.from_registry(name).run_commands("true")
    with pytest.raises(BuildError, match=rf"linux/{other}, and this engine runs linux/{here}\. "):
        docker_site.cls(GET, image=image)().get.remote()
    assert docker_site.steps() == []
