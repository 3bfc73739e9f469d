"""An interrupt in a container's first coroutine breaks no later one."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled


class Holding:
    """A finder that holds up the import of one module until the call's interrupt has arrived.

    While this package imports, the handler puts an interrupt off: it asks for the signal again.
    """

    def __init__(self, module: str, path: str) -> None:
        self.module = module
        self.path = path

    def find_spec(self, name: str, *_: object) -> None:
        if name != self.module:
            return
        from lifecycle_magic.guest.output import current_lane

        sys.meta_path.remove(self)  # type: ignore[arg-type]
        lane = current_lane.get()
        assert lane is not None
        handler, arrived = lane.target.interrupts, threading.Event()
        again = handler.signal_again
        handler.signal_again = lambda: (arrived.set(), again())
        Path(self.path).write_text("importing")  # a FIFO: its reader interrupts this call
        while not arrived.is_set():
            time.sleep(0.001)


class Coroutines:
    def __init__(self, module: str, path: str) -> None:
        self.module = module
        self.path = path

    @lm.enter()
    def load(self) -> None:
        assert self.module not in sys.modules
        sys.meta_path.insert(0, Holding(self.module, self.path))  # type: ignore[arg-type]

    @lm.method()
    async def late(self) -> None:
        import asyncio

        await asyncio.Event().wait()

    @lm.method()
    async def soon(self, x: int) -> int:
        return x


@pytest.mark.parametrize("module", ["asyncio.tasks", "asyncio.runners"])
def test_an_interrupt_in_the_first_import_for_coroutines_breaks_no_later_call(
    module: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    engine = ForkEngine(imports=("cloudpickle",))
    try:
        with Forked(engine, Coroutines, module, str(fifo), max_containers=1) as work:
            call = work.late.spawn()
            assert fifo.read_text() == "importing"
            call.cancel()
            with pytest.raises(InputCancelled):
                call.get()
            assert [work.soon.remote(n) for n in range(3)] == [0, 1, 2]
            assert len(work.made) == 1
    finally:
        engine.close()
