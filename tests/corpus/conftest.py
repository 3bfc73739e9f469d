"""Fixtures of the corpus: a host that forks a process for each run, and a state folder for all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus.runner import Runner


@pytest.fixture(scope="session")
def corpus_state() -> Iterator[Path]:
    """One state folder for all pytest workers, so that an image is built once.

    Each worker holds a shared lock; the last one removes the folder.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:8]
    path = Path(tempfile.gettempdir()) / f"lm-corpus-{run}"
    path.mkdir(mode=0o700, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield path
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            os.unlink(lock.name)


@pytest.fixture(scope="session")
def runner(corpus_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with contextlib.closing(Runner(tmp_path_factory.mktemp("corpus"), corpus_state)) as one:
        yield one
