"""Calls of ``async def`` methods and generators read by half, in the cells of a real kernel."""

from __future__ import annotations

import pytest
from kernel.harness import Diary, OwnKernel, preamble

pytestmark = [pytest.mark.kernel]

DECLARED = """\
@app.cls(max_containers=1, **options)
class Work(Base):
    @lm.method()
    def double(self, x):
        return 2 * x

    @lm.method()
    async def double_async(self, x):
        return 2 * x

    @lm.method()
    def count(self):
        number = 0
        while True:
            yield number
            number += 1

    @lm.exit()
    def close(self):
        note("exited")

work = Work()
"""

WHERE = "Work().double_async.remote(...)"
FIX = f"write `await {WHERE}` or `{WHERE}.get()`"

IN_THREAD = """\
import threading
thread = threading.Thread(target=lambda: print(work.double_async.remote(3)))
thread.start()
thread.join()
"""


def test_calls_in_cells(kernel: OwnKernel, engine: str, diary: Diary) -> None:
    kernel.run(preamble(engine, diary))
    kernel.run(DECLARED)
    assert kernel.run("print(await work.double_async.remote(2))").strip() == "4"
    assert kernel.run("print(work.double_async.remote(2).get())").strip() == "4"
    assert FIX in kernel.run("call = work.double_async.remote(2)\nprint(call, await call)")
    assert FIX in kernel.run(
        "try:\n    work.double_async.remote(2) + 1\nexcept TypeError as error:\n    print(error)"
    )
    assert "was never awaited" in kernel.run("work.double_async.remote(2)\nprint('next')")
    assert kernel.run(IN_THREAD).strip() == "6"
    left = "async for number in work.count.remote_gen.aio():\n    break\n"
    assert kernel.run(left + "print(work.double.remote(5))").strip() == "10"
    kernel.run("half_read = work.count.remote_gen(); next(half_read)")
    for call in (
        "work.double.remote(1)",
        "await work.double.remote.aio(1)",
        "list(work.double.map([1]))",
    ):
        refused = f"try:\n    {call}\nexcept lm.exception.InvalidError as error:\n    print(error)"
        assert "would wait forever" in kernel.run(refused)
    kernel.run("app.stop()")
    assert diary.events().count("exited") == diary.events().count("entered") == 1
    refused = (
        "try:\n    list(half_read)\nexcept lm.exception.InputCancelled as error:\n    print(error)"
    )
    assert "was interrupted" in kernel.run(refused)
