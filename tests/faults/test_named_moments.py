"""Calls by name, while sessions are killed and callers interrupted at moments nobody chose.

``LIFECYCLE_MAGIC_NAMED_KILLS`` and ``LIFECYCLE_MAGIC_INTERRUPTS`` say how many of each, and
``LIFECYCLE_MAGIC_SEED`` repeats a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("LIFECYCLE_MAGIC_NAMED_KILLS", 1))
INTERRUPTS = int(os.environ.get("LIFECYCLE_MAGIC_INTERRUPTS", 8))
SEED = int(os.environ.get("LIFECYCLE_MAGIC_SEED", time.time_ns() % 1_000_000))

pytestmark = [pytest.mark.process, pytest.mark.timeout(120 + 5 * KILLS + INTERRUPTS)]


def test_sessions_that_call_each_other_lose_no_exit_and_answer_nothing_wrong(
    tmp_path: Path,
) -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("named_soak.py")]
        + [str(one) for one in (SEED, KILLS, INTERRUPTS, tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": str(tests),
            "LIFECYCLE_MAGIC_ENGINE": "process",
            "LIFECYCLE_MAGIC_STATE": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stderr}"
    wrong, missing, counts = json.loads(done.stdout.splitlines()[-1])
    assert not wrong, f"seed {SEED}: {counts}\n{wrong[0]}"
    assert not missing, f"seed {SEED}: {counts}"
    assert counts["kill"] == KILLS
