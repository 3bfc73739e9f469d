"""Cells with classes that have ``keep``, for several kernels of one notebook."""

from __future__ import annotations

from typing import Any

from kernel.harness import Diary, Kernel, preamble

NOTEBOOK = """
import os
os.environ["JPY_SESSION_NAME"] = "/notebooks/{name}.ipynb"
"""

MODEL = """
@app.cls(**options, **{more})
class {name}(Base):
    @lm.method()
    def count(self, by=1):
        self.n = getattr(self, "n", {start}) + by
        return self.n

    @lm.method()
    def slow(self):
        note("slow")
        while not os.path.exists(OUT + "/go"):
            time.sleep(0.01)
        self.n = 100
        note("slow done")
        return self.n

    @lm.exit()
    def close(self):
        note("exit")
"""


def model(name: str, *, start: int = 0, **more: Any) -> str:
    """The cell of a class that counts its calls. Another ``start`` is another ``count``."""
    return MODEL.format(name=name, start=start, more={"keep": 120, **more})


def declare(kernel: Kernel, engine: str, diary: Diary, notebook: str, cell: str) -> None:
    kernel.run(NOTEBOOK.format(name=notebook))
    kernel.run(preamble(engine, diary))
    kernel.run(cell)


def count(kernel: Kernel, name: str) -> int:
    return int(kernel.run(f"print({name}().count.remote())", timeout=120))


def listed(kernel: Kernel) -> str:
    """What ``%lifecycle ps`` shows."""
    return kernel.run(
        """
        from lifecycle_magic.session import session as _session
        from lifecycle_magic.ui import commands as _commands
        print(_commands.run("ps", _session.current()).text())
        """
    )
