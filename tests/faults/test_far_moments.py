"""Kernels killed at moments that nobody chose, whose containers run on another machine.

``LIFECYCLE_MAGIC_FAR_KILLS`` says how many; ``LIFECYCLE_MAGIC_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import shutil
import textwrap
from pathlib import Path

import pytest
from far_machine import FarMachine
from faults.test_random_moments import DOOMED, MOST_SECONDS, SEED, Doom
from kernel.harness import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("far")]

KILLS = int(os.environ.get("LIFECYCLE_MAGIC_FAR_KILLS", 5))
VOLUME = "doomed-notes"


class FarDoom(Doom):
    """The same, with containers and their notes on another machine."""

    def __init__(self, machine: FarMachine, way: str) -> None:
        super().__init__(getattr(machine, way))
        self._env |= machine.env
        named = f'lm.Volume.from_name("{VOLUME}", create_if_missing=True)'
        text = DOOMED.replace("lm.Volume.from_path(OUT)", named)
        text = text.replace("OUT = sys.argv[1]", 'OUT = "/notes"')
        self.script.write_text(textwrap.dedent(text))
        shutil.rmtree(self.out)
        self.out = machine.folder / "data" / "volumes" / f"lifecycle-magic-{VOLUME}" / "_data"

    def notes(self, event: str) -> set[str]:
        return super().notes(event) if self.out.exists() else set()


@pytest.mark.timeout(240 + 10 * KILLS)
@pytest.mark.parametrize("way", ["tcp", "ssh"])
def test_kernels_killed_at_random_moments_lose_no_exit_there_and_leave_nothing(
    machine: FarMachine, way: str
) -> None:
    dice = random.Random(f"{SEED} {way}")
    doom = FarDoom(machine, way)
    tunnels = Path("/tmp")
    before = set(tunnels.glob("lm-ssh-*"))
    try:
        for _ in range(-(-KILLS // 2)):
            doom.kill_one(dice.randrange(6), dice.uniform(0, MOST_SECONDS))

        def settled() -> bool:
            doom.sweep()
            return (
                doom.notes("entered") == doom.notes("exited")
                and not machine.containers()
                and not doom.leftovers()
                and set(tunnels.glob("lm-ssh-*")) <= before
            )

        try:
            wait_for(settled, "the last exit", 120, 0.5)
        except AssertionError:
            lost = doom.notes("entered") - doom.notes("exited")
            raise AssertionError(
                f"seed {SEED}: without exit {lost}; left {machine.containers()}, "
                f"{doom.leftovers()}, {set(tunnels.glob('lm-ssh-*')) - before}"
            ) from None
    finally:
        shutil.rmtree(doom.root, ignore_errors=True)
