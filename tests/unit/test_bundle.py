"""The code that travels: the guest's folder, and a class with everything that it refers to."""

from __future__ import annotations

import py_compile
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.fingerprint import origin
from lifecycle_magic.services import bundle
from lifecycle_magic.wire import name_table

pytestmark = pytest.mark.every_python


def test_the_guest_folder_is_made_once_and_runs_by_itself() -> None:
    folder = bundle.guest_folder()
    assert bundle.guest_folder() == folder
    told = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r});"
         "import lifecycle_magic.guest.start, cloudpickle; print(cloudpickle.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert told.stdout.startswith(str(folder))


def test_compiled_code_is_taken_where_it_is_that_of_the_source_and_made_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("kept", "edited", "never_compiled", "checked_by_hash")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"def where(): raise ValueError('{name}')\n")
    for name in ("kept", "edited"):
        py_compile.compile(str(tmp_path / f"{name}.py"))
    by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
    py_compile.compile(str(tmp_path / "checked_by_hash.py"), invalidation_mode=by_hash)
    (tmp_path / "edited.py").write_text("def where(): raise ValueError('edited since')\n")
    compiled: list[str] = []

    def noted(source: bytes, path: str, *args: Any, **options: Any) -> Any:
        compiled.append(Path(path).stem)
        return compile(source, path, *args, **options)

    monkeypatch.setattr(bundle, "compile", noted, raising=False)
    for name in names:
        bundle._copy_compiled(tmp_path / f"{name}.py", tmp_path / "copy" / f"{name}.py")
    assert compiled == ["edited", "never_compiled", "checked_by_hash"]
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'copy')!r})\n"
    for name in names:
        program += (
            f"import {name}\ntry: {name}.where()\n"
            "except ValueError as error:\n"
            "  print(error, error.__traceback__.tb_next.tb_frame.f_code.co_filename)\n"
        )
    words = [sys.executable, "-I", "-v", "-c", program]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    said = {"edited": "edited since"}
    assert told.stdout.splitlines() == [
        f"{said.get(name, name)} {tmp_path / 'copy' / name}.py" for name in names
    ]
    for name in names:  # the copy is not compiled again
        assert re.search(rf"# code object from '{tmp_path}/copy/__pycache__/{name}\.", told.stderr)


def test_a_module_in_folders_without_init_files_is_found_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "plain_folder" / "inner" / "most"
    inner.mkdir(parents=True)
    (inner / "module.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert origin.file_of("plain_folder.inner.most.module") == str(inner / "module.py")
    assert not [name for name in sys.modules if name.startswith("plain_folder")]


def test_a_module_that_is_imported_under_another_name_does_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = types.ModuleType("_odd")
    odd.__file__ = "/nowhere/_odd.so"
    monkeypatch.setitem(sys.modules, "package._odd", odd)
    assert not bundle.is_local(odd)
    data = bundle.pack_class(type("Model", (), {})).data
    assert name_table.read(data, {}).cls.__name__ == "Model"


def test_the_guests_folder_is_made_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle.guest_folder()
    monkeypatch.setattr(bundle, "_sources", lambda: pytest.fail("the files are read again"))
    assert bundle.guest_folder() == folder
