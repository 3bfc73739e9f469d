"""Shortages of this machine are reported at load and by doctor, with the fix."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lifecycle_magic.session import shortages
from lifecycle_magic.ui import machine_checks


def filesystem(path: Path, **changes: int) -> os.statvfs_result:
    """Return the result of ``os.statvfs`` for ``path``, with changes."""
    found = os.statvfs(path)
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")
    names += ("f_files", "f_ffree", "f_favail", "f_flag", "f_namemax")
    return os.statvfs_result([changes.get(name, getattr(found, name)) for name in names])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"f_bavail": 100}, "is full"),
        ({"f_flag": os.ST_RDONLY}, "can't be written"),
        ({"f_files": 10**6, "f_favail": 12}, "12 inodes left"),
    ],
)
def test_a_state_folder_that_takes_no_files_is_named(
    changes: dict[str, int], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path))
    tmp_path.chmod(0o700)
    assert shortages.state_folder(tmp_path) == ""
    changed = filesystem(tmp_path, **changes)
    monkeypatch.setattr(os, "statvfs", lambda path: changed)
    [warning, *_] = shortages.warnings()
    assert told in warning
    assert str(tmp_path) in warning
    assert "Fix: " in warning
    found = machine_checks.state_folder(tmp_path)
    assert (found.verdict, told in found.details) == ("fail", True)
    assert found.fix


def test_little_shared_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is missing" in shortages.shared_memory(tmp_path / "none")
    changed = filesystem(tmp_path, f_bavail=5, f_frsize=1 << 20)
    monkeypatch.setattr(os, "statvfs", lambda path: changed)
    assert "5 MiB free" in shortages.shared_memory()
    assert machine_checks.shared_memory().verdict == "warn"


LOADING = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "lifecycle_magic")
    shell.run_line_magic("reload_ext", "lifecycle_magic")
    from lifecycle_magic.ui import machine_checks
    print(machine_checks.open_files())
"""


@pytest.mark.parametrize(("limit", "warns"), [(64, True), (4096, False)])
def test_a_kernel_with_few_descriptors_is_warned_at_load(limit: int, warns: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOADING.format(limit=limit))],
        capture_output=True,
        text=True,
        check=True,
    )
    told = f"this process may have {limit} files open"
    assert (told in done.stderr) == warns, done.stderr
    assert ("ulimit -n 4096" in done.stderr) == warns
    assert f"verdict='{'warn' if warns else 'ok'}'" in done.stdout
