"""What a pool and its containers go through, with the real guest: see `fakes.forked`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Loud:
    """Leaves a file when it exits."""

    def __init__(self, left: str) -> None:
        self.left = left

    @lm.method()
    def shout(self, lines: int) -> None:
        """Long lines on two threads at once: longer than what a pipe takes in one piece."""
        import sys
        import threading
        from typing import Any

        def write(out: Any) -> None:
            for _ in range(lines):
                out.write("x" * 30_000 + "\n")

        thread = threading.Thread(target=write, args=(sys.stderr,))
        thread.start()
        write(sys.stdout)
        thread.join()

    @lm.method()
    def break_the_notes(self) -> None:
        """As a child would that writes wherever it can."""
        import sys

        notes = sys.stdout._notes  # type: ignore[attr-defined]
        notes.tell("print", stream="stdout")
        notes._lines.append(b"no note\n")
        notes.tell("nothing")

    @lm.exit()
    def leave(self) -> None:
        from pathlib import Path

        Path(self.left).touch()


@pytest.mark.parametrize("how", ["shout", "break_the_notes"])
def test_whatever_is_printed_exit_runs(
    engine: ForkEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    left = tmp_path / "left"
    with Forked(engine, Loud, str(left)) as work:
        if how == "shout":
            work.shout.remote(100)
            printed = capsys.readouterr()
            assert printed.out == printed.err == ("x" * 30_000 + "\n") * 100
        else:
            work.break_the_notes.remote()
    assert left.exists()
    assert [one.report.orderly for one in work.made if one.report] == [True]
