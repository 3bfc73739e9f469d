"""The note about a file that lies here and is not in the container."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from lifecycle_magic.errors.remote import rebuild
from lifecycle_magic.guest.failures import to_failure

pytestmark = pytest.mark.every_python


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's folder, with a file and a folder of data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("a,b\n")
    return tmp_path


def missing(*names: object) -> BaseException:
    """Return a FileNotFoundError about these paths as it arrives from a container."""
    given = [errno.ENOENT, os.strerror(errno.ENOENT), names[0], None, *names[1:]]
    failure = to_failure(FileNotFoundError(*given))
    return rebuild(pickle.loads(pickle.dumps(failure, 5)), "Model.go")


def notes(error: BaseException) -> str:
    return "".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("name", ["data/rows.csv", "./data/rows.csv", b"data/rows.csv"])
def test_a_file_next_to_the_notebook(name: str | bytes) -> None:
    error = missing(name)
    assert "exists next to the notebook" in notes(error)
    assert '/rows.csv", "/data/data/rows.csv")' in notes(error)
    assert "image.add_local_file(" in notes(error)
    assert "--volume .:/data" in notes(error)
    assert str(error) == f"[Errno 2] No such file or directory: {name!r}"


def test_a_folder_next_to_the_notebook() -> None:
    text = notes(missing("data"))
    assert 'image.add_local_dir("data", "/data/data")' in text
    assert "folders are not copied" in text


def test_an_absolute_path_of_this_machine(folder: Path) -> None:
    path = str(folder / "data" / "rows.csv")
    text = notes(missing(path))
    assert f'image.add_local_file("{path}", "{path}")' in text
    assert f"--volume {folder}/data:{folder}/data" in text


def test_a_file_of_the_folder_above(folder: Path) -> None:
    (folder / "near").mkdir()
    os.chdir(folder / "near")
    text = notes(missing("../data/rows.csv"))
    assert 'image.add_local_file("../data/rows.csv", "/data/rows.csv")' in text
    assert f"--volume {folder}/data:/data" in text


def test_each_of_two_paths() -> None:
    assert notes(missing("none.csv", "data/rows.csv")).count("Fix:") == 1


def test_an_exception_that_another_one_stems_from() -> None:
    outer = ValueError("no data")
    outer.__cause__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "data/rows.csv")
    back = rebuild(to_failure(outer), "Model.go")
    assert back.__cause__ is not None
    assert "add_local_file" in notes(back.__cause__)


@pytest.mark.parametrize(
    "name", ["none.csv", "/none/none.csv", "", ".", "/", "/usr/bin/env", "a\0"]
)
def test_no_note_for_what_is_not_data_of_this_machine(name: str) -> None:
    assert notes(missing(name)) == ""


def test_no_note_without_a_path() -> None:
    assert notes(rebuild(to_failure(FileNotFoundError("no data.csv")), "Model.go")) == ""
