"""Steps of Modal's images that are made of other steps, and those that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.local_files import name_of, names_below
from lifecycle_magic.images.mount import Mount
from lifecycle_magic.images.recipe import dockerfile
from lifecycle_magic.modal_api import table
from lifecycle_magic.secret import Secret

PLAIN = Image.debian_slim()


@pytest.fixture(autouse=True)
def notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test get the notices that a process gets once."""
    monkeypatch.setattr(table, "_noticed", set())


def test_an_empty_entry_point_or_command_changes_nothing() -> None:
    assert PLAIN.entrypoint([]).cmd([]) == PLAIN


def test_pipe_calls_a_function_with_the_image() -> None:
    def add(image: Image, name: str, *, extra: str) -> Image:
        return image.pip_install(name, extra)

    assert PLAIN.pipe(add, "six", extra="attrs") == PLAIN.pip_install("six", "attrs")


def test_a_gpu_of_a_step_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"run_commands\(gpu=...\) does nothing here.*@build"):
        assert PLAIN.run_commands("a", gpu="A100") == PLAIN.run_commands("a")


def test_variables_of_a_pip_step_are_set_for_it_alone() -> None:
    image = PLAIN.pip_install("six", env={"A": "1"}).uv_pip_install("attrs", env={"B": "2"})
    _, pip, uv, *rest = dockerfile(image, "base").splitlines()
    assert '"env", "A=1"' in pip
    assert '"env", "B=2"' in uv
    assert not rest


PYPROJECT = """
[project]
name = "sample"
version = "1"
requires-python = ">=3.10"
dependencies = ["six>=1.16"]
[project.optional-dependencies]
more = ["attrs"]
[dependency-groups]
test = ["idna", {include-group = "base"}]
base = ["certifi"]
round = [{include-group = "round"}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def test_dependencies_of_a_pyproject_are_installed(project: Path) -> None:
    file = project / "pyproject.toml"
    assert PLAIN.pip_install_from_pyproject(file) == PLAIN.pip_install("six>=1.16")
    more = PLAIN.pip_install_from_pyproject(str(file), ["more"], pre=True)
    assert more == PLAIN.pip_install("six>=1.16", "attrs", pre=True)
    with pytest.raises(InvalidError, match=r"no extra 'less'\. Fix: it has more"):
        PLAIN.pip_install_from_pyproject(file, ["less"])
    file.write_text("[project]\nname = 'a'\n")
    with pytest.raises(InvalidError, match=r"no list project\.dependencies"):
        PLAIN.pip_install_from_pyproject(file)
    file.write_text("[project\n")
    with pytest.raises(InvalidError, match="can't be read"):
        PLAIN.pip_install_from_pyproject(file)


def test_a_uv_project_without_a_lock_gives_what_it_names(project: Path) -> None:
    image = PLAIN.uv_sync(str(project), groups=["test"], extras=["more"])
    assert image == PLAIN.uv_pip_install("six>=1.16", "attrs", "idna", "certifi")
    with pytest.raises(InvalidError, match="'round' includes itself"):
        PLAIN.uv_sync(project, groups=["round"])


LOCK = """
version = 1
requires-python = ">=3.10"

[[package]]
name = "sample"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.metadata]
requires-dist = [{ name = "six", specifier = ">=1.16" }]

[[package]]
name = "six"
version = "1.16.0"
source = { registry = "https://packages.example/simple" }
sdist = { url = "https://packages.example/six-1.16.0.tar.gz", \
hash = "sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926" }
"""


def test_a_uv_project_with_a_lock_gives_the_pinned_versions(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'sample'\nversion = '1'\nrequires-python = '>=3.10'\n"
        "dependencies = ['six>=1.16']\n"
    )
    (tmp_path / "uv.lock").write_text(LOCK)
    assert PLAIN.uv_sync(tmp_path) == PLAIN.uv_pip_install("six==1.16.0")
    (tmp_path / "uv.lock").write_text("version = 1\n")
    with pytest.raises(InvalidError, match=r"uv can't read .*uv\.lock"):
        PLAIN.uv_sync(tmp_path)


def test_poetry_installs_a_poetry_project(project: Path) -> None:
    file = project / "pyproject.toml"
    with pytest.raises(InvalidError, match=r"no '.*poetry\.lock'. Fix: run poetry lock"):
        PLAIN.poetry_install_from_file(file)
    image = PLAIN.poetry_install_from_file(file, ignore_lockfile=True, only=["a", "b"])
    titles = [step.title() for step in image.steps]
    assert titles[:2] == ["pip install poetry", "add pyproject.toml as /tmp/poetry/pyproject.toml"]
    assert titles[2].endswith("poetry install --no-root --no-cache --only=a,b")
    (project / "poetry.lock").write_text("")
    locked = PLAIN.poetry_install_from_file(file, poetry_version=None)
    assert locked.steps[0].title() == "add poetry.lock as /tmp/poetry/poetry.lock"


def test_requirements_files_of_uv(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("six\n")
    (tmp_path / "b.txt").write_text("attrs  # why\n")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    image = PLAIN.uv_pip_install("idna", requirements=files)
    assert image == PLAIN.uv_pip_install("idna", "six", "attrs")


def test_micromamba_installs_from_its_channels() -> None:
    image = Image.micromamba("3.12").micromamba_install("numpy=1.26", channels=["conda-forge"])
    assert [step.title() for step in image.steps][1:] == [
        "micromamba install -n base -y python=3.12 pip -c conda-forge",
        "micromamba install -n base -y numpy=1.26 -c conda-forge",
    ]
    assert image.micromamba_install() == image
    with pytest.raises(InvalidError, match="no name of a package"):
        image.micromamba_install("--help")


# --- Dockerfile instructions ---------------------------------------------------------------------


def test_plain_instructions_become_the_steps_that_have_methods(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    image = PLAIN.dockerfile_commands(
        "RUN apt-get update && \\",
        "    apt-get upgrade",
        ["# a comment", 'ENV A=1 B="two words"', "ENV C three words", "WORKDIR /work"],
        'RUN ["make", "a b"]\nCOPY file ./\nCOPY folder /folder',
        "COPY /named /there",
        "ENTRYPOINT []",
        context_dir=tmp_path,
        context_files={"/named": str(tmp_path / "file")},
    )
    assert image == (
        PLAIN.run_commands("apt-get update &&      apt-get upgrade")
        .env({"A": "1", "B": "two words"})
        .env({"C": "three words"})
        .workdir("/work")
        .run_commands("make 'a b'")
        .add_local_file(tmp_path / "file", "/work/")
        .add_local_dir(tmp_path / "folder", "/folder")
        .add_local_file(tmp_path / "file", "/there")
    )


def test_other_instructions_reach_the_engine_unchanged() -> None:
    lines = ["ARG VERSION=1", "RUN echo $VERSION", "ENV PATH=/x:$PATH", "LABEL a=b", "USER 1000"]
    image = PLAIN.dockerfile_commands(lines)
    assert dockerfile(image, "base").splitlines() == ["FROM base", *lines]
    refused = ProcessEngine().review(image).refused
    assert len(refused) == len(lines)
    assert all("needs a Docker engine" in text for text in refused)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("RUN --mount=type=secret,id=a cat /run/secrets/a", r"RUN --mount.*secrets="),
        ("FROM debian", r"'FROM debian' can't be a step.*from_dockerfile"),
        ("COPY --from=a /b /c", r"options and variables of COPY"),
        ("RUN <<EOF", "here-document"),
        ('CMD ["a"]', r"no other command would run.*@enter"),
        ("WORKDIR a", "relative path"),
        ("COPY missing /a", r"no file '.*missing'"),
    ],
)
def test_instructions_that_no_step_can_stand_for_are_refused(line: str, told: str) -> None:
    with pytest.raises(InvalidError, match=told):
        PLAIN.dockerfile_commands(line)


# --- files ---------------------------------------------------------------------------------------


def test_a_relative_target_starts_at_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    at = PLAIN.workdir("/work")
    assert at.add_local_file(tmp_path / "a", "b") == at.add_local_file(tmp_path / "a", "/work/b")
    assert at.add_local_file(tmp_path / "a", "./") == at.add_local_file(tmp_path / "a", "/work/a")
    assert at.add_local_dir(tmp_path, "c") == at.add_local_dir(tmp_path, "/work/c")
    with pytest.raises(InvalidError, match=r"'b' is no absolute path.*\.workdir\("):
        PLAIN.add_local_file(tmp_path / "a", "b")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.py", "deep/b.py", "deep/c.txt", ".venv/lib/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        (lm.FilePatternMatcher("**/*.py"), {"deep/c.txt"}),
        (~lm.FilePatternMatcher("**/*.py"), {"a.py", "deep/b.py", ".venv/lib/d.py"}),
        (lm.FilePatternMatcher("**/*.py", "!deep"), {"deep/b.py", "deep/c.txt"}),
        (lambda path: path.suffix != ".py", {"a.py", "deep/b.py", ".venv/lib/d.py"}),
        (lambda path: path.is_relative_to(".venv"), {"a.py", "deep/b.py", "deep/c.txt"}),
        ([".venv", "*.py"], {"deep/b.py", "deep/c.txt"}),
    ],
)
def test_a_function_or_matcher_decides_about_files(tree: Path, ignore: Any, kept: set[str]) -> None:
    assert {name for name in names_below(tree, ignore) if (tree / name).is_file()} == kept


def test_a_matcher_reads_its_patterns_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("# why\n*.txt\n\n!keep.txt\n")
    matcher = lm.FilePatternMatcher.from_file(tmp_path / "ignored")
    found = [name for name in ("a.txt", "keep.txt", "a.py") if matcher(Path(name))]
    assert found == ["a.txt"]
    with pytest.raises(
        InvalidError, match=r"FilePatternMatcher\.from_file: '.*gone' can't be read"
    ):
        lm.FilePatternMatcher.from_file(tmp_path / "gone")


def test_folders_of_kept_files_and_empty_folders_are_kept(tree: Path) -> None:
    [digests] = PLAIN.add_local_dir(tree, "/d", ignore=lambda p: p.suffix == ".py").files()
    assert {name_of(one) for one in digests} == {"deep", "deep/c.txt", "empty"}


def test_options_of_python_sources_are_taken() -> None:
    with pytest.warns(UserWarning, match="does nothing here") as told:
        assert PLAIN.add_local_python_source("json", copy=True, ignore=["*"]).python_sources == (
            "json",
        )
    assert ["copy=" in str(told[0].message), "ignore=" in str(told[1].message)] == [True, True]


def test_commands_after_shell_run_in_that_shell() -> None:
    image = Image.debian_slim().run_commands("a").shell(["/bin/bash", "-c"]).run_commands("b 'c'")
    first, second = (step.instruction("") for step in image.plain_steps())
    assert first == 'RUN ["/bin/sh", "-c", "a"]'
    assert second == """RUN ["/bin/sh", "-c", "exec /bin/bash -c 'b '\\"'\\"'c'\\"'\\"''"]"""
    assert image.steps[1].title() == "b 'c'"


def test_setup_commands_are_a_dockerfile_of_their_own_before_the_steps() -> None:
    commands = ["RUN install python", "ENV A=1"]
    image = Image.from_registry("debian", setup_dockerfile_commands=commands).run_commands("a")
    source = image.source
    assert source is not None
    assert source.text() == "FROM debian\nRUN install python\nENV A=1\n"
    assert (source.images(), source.files()) == (("debian",), [])
    other = Image.from_registry("debian", setup_dockerfile_commands=commands[:1])
    assert other.source is not None
    assert source.key() != other.source.key()
    assert repr(image).startswith(
        f"Image.from_registry('debian', setup_dockerfile_commands={commands!r})"
    )


def test_a_dockerfiles_context_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    for name in ("Dockerfile", ".dockerignore", "a.txt", "b.log"):
        (tmp_path / name).write_text("*.txt" if name == ".dockerignore" else "FROM scratch")

    def files(**options: Any) -> list[str]:
        source = Image.from_dockerfile(tmp_path / "Dockerfile", **options).source
        assert source is not None
        return [name for name in source.files() if name[0] != "."]

    assert files() == ["Dockerfile", "b.log"]
    assert files(ignore=["*.log"]) == ["Dockerfile", "a.txt"]
    assert files(ignore=lambda path: path.suffix == ".txt") == ["Dockerfile", "b.log"]


def test_private_repositories_are_installed_with_tokens_that_are_no_part_of_the_step() -> None:
    secret = Secret.from_dict({"GITHUB_TOKEN": "hunter2hunter2"})
    image = Image.debian_slim().pip_install_private_repos(
        "github.com/owner/name@main", git_user="me", secrets=[secret]
    )
    apt, install = image.plain_steps()
    assert apt.title() == "apt-get install git"
    assert '"git+https://me:$GITHUB_TOKEN@github.com/owner/name@main"' in install.title()
    assert install.access.values() == {"GITHUB_TOKEN": "hunter2hunter2"}


def test_old_steps_are_the_current_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    slim, at = Image.debian_slim(), tmp_path / "a.txt"
    with pytest.warns(UserWarning, match="is an old spelling: write ") as told:
        pairs = [
            (slim.copy_local_file(at, "/x/"), slim.add_local_file(at, "/x/")),
            (slim.copy_local_file(at), slim.add_local_file(at, "/root/")),
            (slim.copy_local_dir(tmp_path, "y"), slim.add_local_dir(tmp_path, "/root/y")),
            (slim.workdir("/w").copy_local_file(at), slim.workdir("/w").add_local_file(at, "/w/")),
            (slim.copy_mount(Mount().add_local_file(at)), slim.add_local_file(at, "/root/a.txt")),
            (Image.conda("3.12"), Image.micromamba("3.12")),
            (Image.conda().conda_install("six"), Image.micromamba().micromamba_install("six")),
            (Image.from_dockerhub("debian"), Image.from_registry("debian")),
        ]
    assert all(old == new for old, new in pairs)
    assert len(told) == 6
