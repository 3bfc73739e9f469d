"""Attempts that follow each other: what was meant for one must not hit the next."""

from __future__ import annotations

from pathlib import Path

import pytest

import lifecycle_magic as lm
from lifecycle_magic.calls import input

# Longer than it takes until an interrupt is repeated, so that the second attempt would get it.
SECONDS = input.SECOND_INTERRUPT_SECONDS + 1


class Hangs:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @lm.method()
    def hang(self, _: int = 0) -> None:
        import threading

        with open(f"{self.folder}/attempts", "a") as file:
            file.write("attempt\n")
        threading.Event().wait()


@pytest.mark.parametrize("way", ["remote", "map"])
def test_an_attempt_is_not_hit_by_the_interrupt_of_the_one_before(
    engine_name: str, tmp_path: Path, way: str
) -> None:
    app = lm.App(f"retries-{engine_name}-{way}")
    handle = app.cls(
        Hangs,
        timeout=SECONDS,
        retries=lm.Retries(max_retries=1, initial_delay=0),
        volumes={str(tmp_path): lm.Volume.from_path(tmp_path)},
    )
    with app.run():
        hang = handle(str(tmp_path)).hang
        run = {"remote": hang.remote, "map": lambda: list(hang.map([0]))}[way]
        with pytest.raises(lm.exception.MethodTimeout, match=f"timeout={SECONDS:g} s"):
            run()
    assert (tmp_path / "attempts").read_text().splitlines() == ["attempt", "attempt"]
