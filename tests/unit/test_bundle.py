"""The code that travels: the guest's folder, and a class with what it refers to."""

from __future__ import annotations

import subprocess
import sys
import types

import cloudpickle
import pytest

from lifecycle_magic.services import bundle


def test_the_guest_folder_is_made_once_and_runs_by_itself() -> None:
    folder = bundle.guest_folder()
    assert bundle.guest_folder() == folder
    told = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r});"
         "import lifecycle_magic.guest.supervisor, cloudpickle; print(cloudpickle.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert told.stdout.startswith(str(folder))


def test_a_module_that_is_imported_under_another_name_does_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = types.ModuleType("_odd")
    odd.__file__ = "/nowhere/_odd.so"
    monkeypatch.setitem(sys.modules, "package._odd", odd)
    assert not bundle.is_local(odd)
    assert cloudpickle.loads(bundle.pickle_class(type("Model", (), {}))).__name__ == "Model"
