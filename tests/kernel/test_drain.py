"""``lifecycle-magic drain``: every session of a state folder ends, and each ``exit`` has run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.harness import Diary, OwnKernel, own_kernel, preamble, running, subject

pytestmark = [pytest.mark.kernel]


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder of its own: what other tests run must not be drained."""
    with tempfile.TemporaryDirectory(prefix="lm-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def alone(state: Path, tmp_path: Path, event_loop: None) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "tmp", {"LIFECYCLE_MAGIC_STATE": str(state)}) as one:
        yield one


def drain(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", "drain", *arguments],
        env={**os.environ, "LIFECYCLE_MAGIC_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_living_kernel_ends_and_its_exit_has_run(
    alone: OwnKernel, engine: str, diary: Diary, state: Path
) -> None:
    alone.run(preamble(engine, diary))
    alone.run(subject("Drained", 0.5))
    assert alone.run("print(Drained().hello.remote(5))", timeout=120).strip() == "5"
    done = drain(state)
    assert done.returncode == 0, done.stderr
    assert diary.events() == ["entered", "exit begun", "exit done"]
    assert not running(alone.pid)
    asked, ended = done.stdout.splitlines()
    assert asked == f"asked process {alone.pid} to end"
    assert ended.startswith("Drained (")
    assert "the kernel is gone; its exit took 0.5 s" in ended


def test_where_nothing_runs_there_is_nothing_to_wait_for(state: Path) -> None:
    done = drain(state, "--timeout", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_does_not_end_in_time_is_reported(alone: OwnKernel, diary: Diary, state: Path) -> None:
    alone.run(preamble("process", diary))
    alone.run(subject("Stays", 2))
    assert alone.run("print(Stays().hello.remote(5))", timeout=120).strip() == "5"
    done = drain(state, "--timeout", "0.3")
    assert done.returncode == 1
    assert "after 0.3 s: Stays (" in done.stderr
    assert "still runs" in done.stderr
    assert drain(state).returncode == 0
    assert diary.events() == ["entered", "exit begun", "exit done"]
