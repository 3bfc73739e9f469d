"""One kernel's class, called by name from another kernel."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from kernel.harness import CellFailed, OwnKernel, own_kernel, wait_for

SERVING = """
import lifecycle_magic as lm
app = lm.App("NAME", engine=ENGINE)

@app.cls()
class Model:
    @lm.method()
    def times(self, x):
        print("computing", x)
        return VERSION * x

    @lm.method()
    async def later(self, x):
        return VERSION * x

    @lm.method()
    def spin(self):
        import time
        while True:
            time.sleep(0.01)
"""


def _declare(kernel: OwnKernel, name: str, engine: str, version: int) -> None:
    code = SERVING.replace("NAME", name).replace("VERSION", str(version))
    kernel.run(code.replace("ENGINE", repr("process" if engine == "plain" else engine)))


def test_one_class_serves_another_notebook(kernel: OwnKernel, engine: str, tmp_path: Path) -> None:
    name = f"shared-{uuid.uuid4().hex[:8]}"
    kernel.run("%load_ext lifecycle_magic")
    _declare(kernel, name, engine, 2)
    with own_kernel(tmp_path / "second") as second:
        second.run(f"import lifecycle_magic as lm; m = lm.Cls.from_name({name!r}, 'Model')()")
        printed = second.run("print('got', m.times.remote(3))")
        assert "computing 3\n" in printed
        assert "got 6\n" in printed
        assert "got 8\n" in second.run("print('got', await m.later.remote(4))")

        # The serving kernel may be busy with a cell.
        busy = kernel.begin("import time\nfor _ in range(100): time.sleep(0.02)")
        assert "got 6\n" in second.run("print('got', m.times.remote(3))")
        kernel.outcome(busy)

        cell = second.begin("m.spin.remote()")
        wait_for(lambda: _is_busy(kernel), "the call")
        second.interrupt()
        with pytest.raises(CellFailed, match="KeyboardInterrupt"):
            second.outcome(cell)
        wait_for(lambda: not _is_busy(kernel), "the end of the call")

        _declare(kernel, name, engine, 5)
        assert "got 15\n" in second.run("print('got', m.times.remote(3))")
        assert "got 15\n" in kernel.run(
            f"print('got', lm.Cls.from_name({name!r}, 'Model')().times.remote(3))"
        )


def test_the_end_of_the_serving_kernel_is_named(
    engine: str, tmp_path: Path, state_dir: Path
) -> None:
    name = f"shared-{uuid.uuid4().hex[:8]}"
    with own_kernel(tmp_path / "second") as second:
        with own_kernel(tmp_path / "first") as first:
            first.run("%load_ext lifecycle_magic")
            _declare(first, name, engine, 2)
            second.run(f"import lifecycle_magic as lm; m = lm.Cls.from_name({name!r}, 'Model')()")
            assert "got 6\n" in second.run("print('got', m.times.remote(3))")
            cell = second.begin("m.spin.remote()")
            wait_for(lambda: _is_busy(first), "the call")
            first.kill()
            with pytest.raises(CellFailed, match=r"InputCancelled.*a notebook.*has ended"):
                second.outcome(cell)
        with pytest.raises(CellFailed, match=r"NotFoundError.*has ended, and no other session"):
            second.run("m.times.remote(3)")


def test_the_class_of_a_cell_is_served_with_app(
    kernel: OwnKernel, engine: str, tmp_path: Path
) -> None:
    name = f"cell-{uuid.uuid4().hex[:8]}"
    kernel.run("%load_ext lifecycle_magic")
    chosen = "process" if engine == "plain" else engine
    cell = f"""%%lifecycle_cls APP --engine {chosen}
import lifecycle_magic as lm
class Cell:
    @lm.method()
    def times(self, x):
        return 3 * x
"""
    kernel.run(cell.replace("APP", f"--app {name}"))
    with own_kernel(tmp_path / "second") as second:
        second.run(f"import lifecycle_magic as lm; m = lm.Cls.from_name({name!r}, 'Cell')()")
        assert "got 9\n" in second.run("print('got', m.times.remote(3))")
        kernel.run(cell.replace("APP", ""))
        with pytest.raises(CellFailed, match="NotFoundError"):
            second.run("m.times.remote(3)")


def _is_busy(kernel: OwnKernel) -> bool:
    states = kernel.run(
        """
        from lifecycle_magic.session import session as _session
        print([one.state.value for one in _session.current().containers()])
        """
    )
    return "busy" in states
