"""Volumes: their folders, allowed mount paths, and the syntax of the magic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle_magic.checks import check_mount_path
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.image import Image
from lifecycle_magic.secret import Secret
from lifecycle_magic.volume import Volume, parse_mount


def test_equal_volumes_are_equal(tmp_path: Path) -> None:
    assert Volume.from_name("weights") == Volume.from_name("weights")
    assert Volume.from_path(tmp_path) == Volume.from_path(str(tmp_path))
    assert Volume.from_name("a") != Volume.from_name("b")
    assert len({Volume.ephemeral(), Volume.from_name("a"), Volume.from_name("a")}) == 2


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a:b", "a" * 65, "ä", None])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="not a valid name of a volume"):
        Volume.from_name(name)


def test_a_path_given_as_a_name_is_refused_with_what_was_meant() -> None:
    with pytest.raises(InvalidError, match=r"write Volume\.from_path\('\./data'\)"):
        Volume.from_name("./data")


def test_a_relative_path_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Volume.from_path("./data").path == (tmp_path / "data").resolve()


def test_a_folder_that_is_not_there_or_is_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"does not exist\. Fix: create the folder first"):
        Volume.from_path(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidError, match="is a file"):
        Volume.from_path(tmp_path / "file")
    with pytest.raises(InvalidError, match=r"Volume\.from_path takes a path"):
        Volume.from_path("")


def test_commit_and_reload_are_there_for_code_written_for_modal() -> None:
    volume = Volume.from_name("weights")
    volume.commit()
    volume.reload()
    assert volume == Volume.from_name("weights")


@pytest.mark.parametrize(
    ("path", "plain"), [("/data", "/data"), ("/data/", "/data"), ("//a/./b//", "/a/b")]
)
def test_a_mount_path_is_made_plain(path: str, plain: str) -> None:
    assert check_mount_path(path) == plain


@pytest.mark.parametrize("path", ["data", "./data", "", "~/data", "/a/../b", "/a:b", "/a\n"])
def test_a_mount_path_that_is_not_absolute_and_plain_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="mounted at"):
        check_mount_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/usr",
        "/usr/",
        "/etc",
        "/proc",
        "/proc/1",
        "/dev/shm",
        "/sys",
        "/run",
        "/lib",
        "/opt",
        "/run/lifecycle",
        "/run/lifecycle/x",
        "/opt/lifecycle_magic",
    ],
)
def test_what_the_container_needs_is_no_place_for_a_volume(path: str) -> None:
    with pytest.raises(InvalidError, match="the container itself needs"):
        check_mount_path(path)


@pytest.mark.parametrize("path", ["/opt/models", "/usr/local/data", "/var/lib/data", "/run/user"])
def test_folders_below_the_systems_may_be_volumes(path: str) -> None:
    assert check_mount_path(path) == path


def test_the_magic_mounts_by_name(tmp_path: Path) -> None:
    assert parse_mount("weights:/weights", tmp_path) == ("/weights", Volume.from_name("weights"))


def test_the_magic_mounts_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    data = Volume.from_path(tmp_path / "data")
    deep = Volume.from_path(tmp_path / "data" / "deep")
    assert parse_mount("./data:/data", tmp_path) == ("/data", data)
    assert parse_mount("data/deep:/data", tmp_path) == ("/data", deep)
    assert parse_mount("~/data:/data", Path("/")) == ("/data", data)
    assert parse_mount(f"{tmp_path}/data:/data", Path("/")) == ("/data", data)
    assert parse_mount(".:/data", tmp_path / "data") == ("/data", data)


def test_a_colon_in_a_folders_name_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert parse_mount("./a:b:/data", tmp_path)[1].path == (tmp_path / "a:b").resolve()


@pytest.mark.parametrize("text", ["", "weights", "weights:", ":/weights", ":"])
def test_a_mount_without_both_sides_is_refused_with_the_form(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="write NAME:/path"):
        parse_mount(text, tmp_path)


def test_a_mounted_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="does not exist"):
        parse_mount("./missing:/data", tmp_path)


@pytest.mark.parametrize(
    "use",
    [
        Volume.from_path,
        lambda path: parse_mount(f"./{path}:/data", Path.cwd()),
        lambda path: Image.debian_slim().add_local_file(path, "/tmp/x"),
        lambda path: Image.debian_slim().add_local_dir(path, "/tmp/x"),
        lambda path: Image.debian_slim().pip_install_from_requirements(path),
        Image.from_dockerfile,
        Secret.from_dotenv,
    ],
)
def test_a_path_that_no_system_can_have_is_refused_by_name(use: Callable[[str], object]) -> None:
    # Since Python 3.14 such a path is one that does not exist.
    with pytest.raises(InvalidError, match=r"File name too long|there is no|no .env in|does not"):
        use("x" * 300)
