"""Image recipes: their instructions, their keys, and errors raised where a recipe is written."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images import local_files
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.local_files import name_of
from lifecycle_magic.images.recipe import dockerfile
from lifecycle_magic.secret import Secret
from lifecycle_magic.volume import Volume

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = "sha256:" + "0" * 64


def instructions(image: Image) -> list[str]:
    first, *rest = dockerfile(image, BASE).rstrip("\n").split("\n")
    assert first == f"FROM {BASE}"
    return rest


def only_instruction(image: Image) -> str:
    (line,) = instructions(image)
    return line


def words(instruction: str) -> list[str]:
    """The words of an instruction in the exec form."""
    found: list[str] = json.loads(instruction.partition(" ")[2])
    return found


# --- the base ------------------------------------------------------------------------------------


def test_the_default_base_has_the_kernels_python() -> None:
    assert Image.debian_slim().reference == f"python:{MINOR}-slim"
    assert Image.debian_slim(MINOR) == Image.debian_slim()


def test_a_patch_release_of_the_kernels_minor_may_be_asked_for() -> None:
    image = Image.debian_slim(f"{MINOR}.1")
    assert (image.reference, image.python) == (f"python:{MINOR}.1-slim", MINOR)


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.14", "3.13.1"])
def test_another_python_minor_may_be_asked_for(version: str) -> None:
    image = Image.debian_slim(version)
    minor = ".".join(version.split(".")[:2])
    assert (image.reference, image.python) == (f"python:{version}-slim", minor)
    assert image.other_python == ("" if minor == MINOR else minor)
    assert Image.from_registry("python").other_python is None


@pytest.mark.parametrize("version", ["3.9", "3.999", "2.7"])
def test_a_python_that_no_class_runs_on_is_refused_by_name(version: str) -> None:
    with pytest.raises(InvalidError, match=rf"{version}.*(Python 3\.10 to 3\.14|no version)"):
        Image.debian_slim(version)


@pytest.mark.parametrize("version", ["", "3", "three", "3.11-slim", "3.11\n", 3.11])
def test_what_is_no_python_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidError, match="no version of Python"):
        Image.debian_slim(version)


@pytest.mark.parametrize(
    "tag",
    [
        "python",
        "python:3.11-slim",
        "localhost:5000/team/image:1.0",
        "registry.example/a/b@sha256:" + "a" * 64,
        "sha256:" + "b" * 64,
    ],
)
def test_every_kind_of_image_reference_is_a_base(tag: str) -> None:
    assert Image.from_registry(tag).reference == tag


@pytest.mark.parametrize(
    "tag", ["", "Python:3.11", "https://registry.example/a", "a b", "a\nRUN b", "-v", "$BASE", None]
)
def test_what_is_no_image_reference_is_refused(tag: str) -> None:
    with pytest.raises(InvalidError, match="not a valid name of an image"):
        Image.from_registry(tag)


def test_a_python_may_be_added_to_another_image() -> None:
    image = Image.from_registry("debian:12", add_python="3.12")
    assert repr(image) == "Image.from_registry('debian:12', add_python='3.12')"
    assert (image.added_python, image.other_python) == ("3.12", "" if MINOR == "3.12" else "3.12")
    with pytest.raises(InvalidError, match=r"add_python='3\.8'.*Python 3\.10 to 3\.14"):
        Image.from_registry("debian:12", add_python="3.8")


# --- steps ---------------------------------------------------------------------------------------


def test_every_step_is_one_instruction_in_the_order_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    image = (
        Image.debian_slim()
        .apt_install("git")
        .pip_install("six")
        .uv_pip_install("attrs")
        .run_commands("true", "false")
        .env({"A": "1"})
        .workdir("/w")
        .add_local_file(tmp_path / "file", "/f")
        .add_local_dir(tmp_path, "/d")
    )
    kinds = [line.split()[0] for line in instructions(image)]
    assert kinds == ["RUN"] * 5 + ["ENV", "WORKDIR", "COPY", "COPY"]


def test_steps_leave_the_image_they_were_added_to_alone() -> None:
    plain = Image.debian_slim()
    assert plain.pip_install("six") != plain
    assert plain.steps == ()


def test_pip_gets_packages_and_options() -> None:
    image = Image.debian_slim().pip_install(
        "six",
        ["attrs>=23", "idna[all]"],
        index_url="https://index.example/simple",
        extra_index_url="https://extra.example/simple",
        find_links="https://links.example",
        pre=True,
        extra_options="--no-deps --no-binary ':all:'",
    )
    line = words(only_instruction(image))
    assert line[line.index("install") :][-10:] == [
        "--find-links=https://links.example",
        "--index-url=https://index.example/simple",
        "--extra-index-url=https://extra.example/simple",
        "--pre",
        "--no-deps",
        "--no-binary",
        ":all:",
        "six",
        "attrs>=23",
        "idna[all]",
    ]


@pytest.mark.parametrize("method", ["pip_install", "uv_pip_install", "apt_install", "run_commands"])
def test_a_step_without_words_changes_nothing(method: str) -> None:
    plain = Image.debian_slim()
    assert getattr(plain, method)() == getattr(plain, method)([]) == plain


@pytest.mark.parametrize("method", ["pip_install", "uv_pip_install"])
@pytest.mark.parametrize(
    ("package", "why"),
    [
        ("--pre", "is an option"),
        ("-rrequirements.txt", "is an option"),
        ("numpy pandas", "write 'numpy', 'pandas'"),
        ("six\nattrs", "line break"),
        ("six\0", "control character"),
        ("", "not empty"),
        ("   ", "not empty"),
    ],
)
def test_what_is_no_python_package_is_refused(method: str, package: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        getattr(Image.debian_slim(), method)(package)


@pytest.mark.parametrize("given_packages", [[1], [None], [["six", 2]], [{"six"}]])
def test_packages_that_are_no_texts_are_refused(given_packages: list[object]) -> None:
    with pytest.raises(InvalidError, match="takes strings or lists of strings"):
        Image.debian_slim().pip_install(*given_packages)  # type: ignore[arg-type]


def test_options_that_can_not_be_split_are_refused() -> None:
    with pytest.raises(InvalidError, match="close the quotes"):
        Image.debian_slim().pip_install("six", extra_options="--no-binary ':all:")


@pytest.mark.parametrize(
    "package",
    ["-y", "git;reboot", "git\nvim", "$(reboot)", "git vim", "git&&vim", "../x.deb", "Git", ""],
)
def test_what_is_no_debian_package_is_refused(package: str) -> None:
    with pytest.raises(InvalidError, match="not a valid name of a Debian package"):
        Image.debian_slim().apt_install(package)


@pytest.mark.parametrize("package", ["g++", "libgl1:amd64", "git=1:2.39.5-0+deb12u2", "vim/stable"])
def test_debian_packages_are_taken_as_apt_takes_them(package: str) -> None:
    assert words(only_instruction(Image.debian_slim().apt_install(package)))[-1] == package


@pytest.mark.parametrize("path", ["", "data", "./data", "/a/../b", "/a\nb", "~"])
def test_a_path_that_is_not_absolute_and_plain_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    image = Image.debian_slim()
    with pytest.raises(InvalidError, match=r"Image\.workdir"):
        image.workdir(path)
    with pytest.raises(InvalidError, match=r"Image\.add_local_file"):
        image.add_local_file(tmp_path / "file", path)
    with pytest.raises(InvalidError, match=r"Image\.add_local_dir"):
        image.add_local_dir(tmp_path, path)


@pytest.mark.parametrize("command", ["", " \n", "a\0b"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidError, match="no command"):
        Image.debian_slim().run_commands(command)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "sets nothing"),
        ({"A B": "1"}, "not a valid name of an environment variable"),
        ({"1A": "1"}, "not a valid name of an environment variable"),
        ({"": "1"}, "not a valid name of an environment variable"),
        ({"A": 1}, "must be a string, not int"),
        ({"A": None}, "must be a string, not NoneType"),
        ({"A": "1\n2"}, "line break"),
        ({"A": "\0"}, "NUL"),
        (["A"], "takes a dict"),
    ],
)
def test_what_is_no_environment_is_refused(variables: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        Image.debian_slim().env(variables)


# --- nothing of a step becomes something else ----------------------------------------------------


@given(st.text().filter(lambda text: text.strip() and "\0" not in text and "://" not in text))
def test_a_command_reaches_the_shell_as_it_was_written(command: str) -> None:
    image = Image.debian_slim().run_commands(command)
    assert words(only_instruction(image)) == ["/bin/sh", "-c", command]


def test_packages_are_arguments_of_the_script_and_no_part_of_it() -> None:
    for image in (
        Image.debian_slim().uv_pip_install("six; touch /tmp/no", "$(reboot)"),
        Image.debian_slim().apt_install("git"),
    ):
        shell, dash_c, script, name, *packages = words(only_instruction(image))
        assert (shell, dash_c, name) == ("/bin/sh", "-c", "sh")
        assert '"$@"' in script
        assert not any(package in script for package in packages if package != "git")


def test_the_scripts_are_good_shell() -> None:
    for image in (
        Image.debian_slim().uv_pip_install("six"),
        Image.debian_slim().apt_install("git"),
    ):
        script = words(only_instruction(image))[2]
        subprocess.run(["/bin/sh", "-n", "-c", script], check=True)


@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])))
def test_the_values_of_env_can_be_read_back(value: str) -> None:
    if "://" in value:
        return
    line = only_instruction(Image.debian_slim().env({"A": value}))
    name, _, quoted = line.removeprefix("ENV ").partition("=")
    # Docker's lexer reads a double-quoted word as a shell does.
    assert name == "A"
    assert shlex.split(quoted.replace("\\$", "$")) == [value]


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@index.example/simple",
        f"https://{SECRET}@index.example/simple",
        f"http://:{SECRET}@index.example/simple",
        f"git+https://{SECRET}@git.example/a/b.git",
        f"package @ git+https://x-token:{SECRET}@git.example/a/b.git",
        f"git+ssh://git:{SECRET}@git.example/a/b.git",
    ],
)
def test_a_url_with_credentials_is_refused_everywhere_and_not_shown(url: str) -> None:
    image = Image.debian_slim()
    writes: tuple[Callable[[], Image], ...] = (
        lambda: image.pip_install(url),
        lambda: image.uv_pip_install(url),
        lambda: image.pip_install("six", index_url=url),
        lambda: image.pip_install("six", extra_index_url=url),
        lambda: image.pip_install("six", find_links=url),
        lambda: image.pip_install("six", extra_options=f"--index-url '{url}'"),
        lambda: image.run_commands(f"curl {url}"),
        lambda: image.run_commands("true", env={"A": url}),
        lambda: image.env({"A": url}),
    )
    for write in writes:
        with pytest.raises(InvalidError, match=r"secrets=\[Secret") as caught:
            write()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "package",
    [
        "git+ssh://git@git.example/a/b.git",
        "git+https://git.example/a/b.git@v1.0",
        "six @ https://files.example/six-1.0-py3-none-any.whl",
    ],
)
def test_a_url_without_credentials_is_a_package(package: str) -> None:
    assert words(only_instruction(Image.debian_slim().pip_install(package)))[-1] == package


# --- local files ---------------------------------------------------------------------------------


def test_a_local_file_that_is_not_there_is_refused_where_it_is_written(tmp_path: Path) -> None:
    image = Image.debian_slim()
    with pytest.raises(InvalidError, match="there is no file"):
        image.add_local_file(tmp_path / "missing", "/f")
    with pytest.raises(InvalidError, match="there is no folder"):
        image.add_local_dir(tmp_path / "missing", "/d")


def test_a_folder_given_as_a_file_and_the_other_way_round_name_each_other(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidError, match=r"\.add_local_dir"):
        Image.debian_slim().add_local_file(tmp_path, "/f")
    with pytest.raises(InvalidError, match=r"\.add_local_file"):
        Image.debian_slim().add_local_dir(tmp_path / "file", "/d")


def test_a_file_goes_into_a_remote_path_that_ends_in_a_slash(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("")
    image = Image.debian_slim().add_local_file(tmp_path / "file.txt", "/data/")
    assert words(only_instruction(image))[-1] == '"/data/file.txt"'


def listing(image: Image) -> dict[str, str]:
    return {file.name: file.kind for step in image.steps for file in step.files()}


def test_a_folders_files_are_read_with_links_kept_as_links(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_text("a")
    (tmp_path / "to-passwd").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    image = Image.debian_slim().add_local_dir(tmp_path, "/d")
    assert listing(image) == {"below": "folder", "below/a": "file", "to-passwd": "link"}


def test_ignored_files_are_left_out(tmp_path: Path) -> None:
    for name in ("a.py", "b.tmp", "deep/c.tmp", "deep/d.py", "cache/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    by_pattern = Image.debian_slim().add_local_dir(tmp_path, "/d", ignore=["**/*.tmp", "cache"])
    by_function = Image.debian_slim().add_local_dir(
        tmp_path, "/d", ignore=lambda path: path.suffix == ".tmp" or "cache" in path.parts
    )
    expected = {"a.py": "file", "deep": "folder", "deep/d.py": "file"}
    assert listing(by_pattern) == expected
    assert listing(by_function) == expected


def test_a_file_deleted_meanwhile_is_no_part_of_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)

    def remove_b(path: Path) -> bool:  # when the folder is listed already
        if path.name == "c":
            (tmp_path / "b").unlink()
        return False

    [digests] = Image.debian_slim().add_local_dir(tmp_path, "/d", ignore=remove_b).files()
    assert [name_of(digest) for digest in digests] == ["a", "c"]
    (tmp_path / "b").write_text("b")
    [step] = Image.debian_slim().add_local_dir(tmp_path, "/d").steps
    files = list(step.files())
    (tmp_path / "b").unlink()
    assert [name_of(digest) for digest in local_files.digests(files)] == ["a", "c"]


# --- keys ----------------------------------------------------------------------------------------


def test_equal_recipes_have_equal_keys() -> None:
    one = Image.debian_slim().pip_install("six", ["attrs"]).env({"A": "1", "B": "2"})
    two = Image.debian_slim().pip_install(["six", "attrs"]).env({"B": "2", "A": "1"})
    assert one == two
    assert one.key(BASE) == two.key(BASE)


def test_every_part_of_a_recipe_is_in_its_key() -> None:
    slim = Image.debian_slim()
    recipes = [
        slim,
        slim.pip_install("six"),
        slim.pip_install("six", pre=True),
        slim.uv_pip_install("six"),
        slim.pip_install("six", "attrs"),
        slim.pip_install("six").pip_install("attrs"),
        slim.pip_install("attrs").pip_install("six"),
        slim.apt_install("git"),
        slim.run_commands("true"),
        slim.run_commands("true", env={"A": "1"}),
        slim.env({"A": "1"}),
        slim.workdir("/w"),
    ]
    keys = [recipe.key(BASE) for recipe in recipes]
    keys.append(slim.key("sha256:" + "1" * 64))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


def test_the_content_of_added_files_is_in_the_key_and_their_time_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    image = Image.debian_slim().add_local_dir(tmp_path, "/d")
    before = image.key(BASE)
    os.utime(file, (0, 0))
    assert image.key(BASE) == before
    file.write_text("two")
    changed = image.key(BASE)
    file.chmod(0o755)
    executable = image.key(BASE)
    file.rename(tmp_path / "renamed")
    assert len({before, changed, executable, image.key(BASE)}) == 4


def test_where_a_folder_lies_is_not_in_the_key(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    one, two = (Image.debian_slim().add_local_dir(tmp_path / name, "/d") for name in ("one", "two"))
    assert one.key(BASE) == two.key(BASE)


def test_a_recipe_prints_as_it_is_written() -> None:
    image = Image.debian_slim().pip_install("six", pre=True).env({"A": "1"}).workdir("/w")
    told = repr(image)
    assert told.splitlines() == [
        f"Image.debian_slim('{MINOR}')",
        "    .pip_install('six', pre=True)",
        "    .env({'A': '1'})",
        "    .workdir('/w')",
    ]
    assert eval(f"({told})") == image


def fetch() -> None:
    """A function of an image."""


def test_what_a_function_may_depend_on_is_in_its_key() -> None:
    given: list[dict[str, Any]] = [
        {}, {"env": {"A": "1"}}, {"env": {"A": "2"}}, {"gpu": 1}, {"gpu": "all"},
        {"volumes": {"/a": Volume.ephemeral()}}, {"volumes": {"/b": Volume.ephemeral()}},
        {"secrets": [Secret.from_dict({"A": "1"})]}, {"secrets": [Secret.from_dict({"B": "1"})]},
    ]  # fmt: skip
    keys = [Image.debian_slim().run_function(fetch, **one).key("") for one in given]
    assert len(set(keys)) == len(given)


def test_names_of_a_steps_secrets_and_paths_of_its_volumes_are_in_its_key() -> None:
    def key(**options: Any) -> str:
        return Image.debian_slim().run_commands("a", **options).key("")

    secret = key(secrets=[Secret.from_dict({"A": "1"})])
    assert secret == key(secrets=[Secret.from_dict({"A": "2"})])
    assert key(secrets=[], volumes={}) == key()
    others = [key(secrets=[Secret.from_dict({"B": "1"})])]
    others += [key(volumes={path: Volume.ephemeral()}) for path in ("/a", "/b")]
    assert len({key(), secret, *others}) == 5


def test_a_steps_secret_is_written_by_its_name() -> None:
    image = Image.debian_slim().run_commands("a", secrets=[Secret.from_dict({"A": "hidden"})])
    assert "secrets=[Secret(A)]" in repr(image)
    assert "hidden" not in repr(image)


# --- what Modal has, and what is forced ----------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda i: i.run_commands("a", secrets=[1]), r"run_commands: secrets must be a list"),
        (lambda i: i.run_commands("a", volumes={"/a": 1}), r"run_commands: volumes must be a dict"),
        (lambda i: i.run_commands("a", volumes={"a": Volume.ephemeral()}), r"an absolute path"),
        (lambda i: i.apt_install("git", force=True), r"apt_install has no option force: did you"),
        (lambda i: Image.from_registry("a", secret=1), r"from_registry has no secret= .*login"),
        (lambda i: i.apt_install("git", env=1), r"apt_install\(env=\.\.\.\) takes a dict"),
        (lambda i: i.entrypoint(["a"]), r"Image\.entrypoint: .*@enter hook"),
        (lambda i: i.cmd(["a"]), r"Image\.cmd: .*@enter hook"),
        (lambda i: i.shell("/bin/bash -c"), r"Image\.shell takes the words"),
        (lambda i: i.pip_install_private_repos("a", git_user="b"), r"takes .*secrets="),
        (lambda i: i.pip_install_private_repos("x.org/a", git_user="b", secrets=[1]), "no repo"),
        (lambda i: i.copy_mount(1), r"takes a Mount"),
        (lambda i: Image.from_registry("a", setup_dockerfile_commands=["COPY a b"]), "'COPY a b'"),
        (lambda i: Image.from_aws_ecr("a"), r"Image\.from_aws_ecr, .*docker login"),
        (lambda i: Image.from_id("im-1"), r"Image\.from_id, .*sha256"),
        (lambda i: Image.from_scratch(), r"Image\.from_scratch, .*debian_slim"),
    ],
)  # fmt: skip
def test_what_has_no_place_here_is_refused_by_name_with_the_fix(
    write: Callable[[Image], Image], told: str
) -> None:
    with pytest.raises(InvalidError, match=told):
        write(Image.debian_slim())


def test_options_that_ask_for_nothing_are_taken() -> None:
    image = Image.debian_slim().pip_install("six", gpu=None, secrets=[], env=None)
    assert image == Image.debian_slim().pip_install("six")


def test_force_build_is_shown_and_changes_no_key() -> None:
    plain = Image.debian_slim().pip_install("six").apt_install("git").run_commands("a")
    forced = (
        Image.debian_slim(force_build=True)
        .pip_install("six", force_build=True)
        .apt_install("git", force_build=True)
        .run_commands("a", force_build=True)
    )
    assert forced.key(BASE) == plain.key(BASE)
    assert (forced.forced, plain.forced) == (True, False)
    assert repr(forced).count("force_build=True") == 4
    assert eval(f"({forced!r})", {"Image": Image}) == forced


def test_a_requirements_file_is_read_as_packages(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# all of it\nsix>=1  # a comment\n\nattrs == 23.1 ; \\\n  python_version > '3'\n"
        "-r more.txt\nkit @ https://kit.example/kit.zip#sha=1\n"
    )
    (tmp_path / "more.txt").write_text("idna\n-r requirements.txt\n")
    image = Image.debian_slim().pip_install_from_requirements(file, pre=True)
    assert image == Image.debian_slim().pip_install(
        "six>=1",
        "attrs == 23.1 ; python_version > '3'",
        "idna",
        "kit @ https://kit.example/kit.zip#sha=1",
        pre=True,
    )


@pytest.mark.parametrize(
    "line", ["--index-url https://a.example", "-e .", "six==1 --hash=sha256:1"]
)
def test_what_is_no_package_in_a_requirements_file_is_refused_with_the_fix(
    line: str, tmp_path: Path
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"six\n{line}\n")
    with pytest.raises(InvalidError, match=r"index_url=.*add_local_file\('requirements.txt'"):
        Image.debian_slim().pip_install_from_requirements(file)
    with pytest.raises(InvalidError, match=r"can't be read"):
        Image.debian_slim().pip_install_from_requirements(tmp_path / "absent.txt")
