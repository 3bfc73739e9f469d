"""Another process that serves classes: a script that runs what the test sends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.work import Folder

import lifecycle_magic as lm

_LOOP = """
import json as _json, sys as _sys, traceback as _traceback
_out, _sys.stdout = _sys.stdout, _sys.stderr
for _line in _sys.stdin:
    _code = _json.loads(_line)
    try:
        exec(compile(_code, __file__, "exec"), globals())
        _told = {"value": globals().pop("result", None)}
    except BaseException:
        _told = {"error": _traceback.format_exc()}
    print(_json.dumps(_told, default=repr), file=_out, flush=True)
"""


class OtherProcess:
    """A Python process that runs ``code`` and then what `run` gets, until it is closed."""

    def __init__(self, folder: Path, code: str, python: str = sys.executable, **env: str) -> None:
        folder.mkdir(exist_ok=True)
        self.script = folder / "serving.py"
        self.script.write_text(textwrap.dedent(code) + _LOOP)
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [python, str(self.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def run(self, code: str) -> Any:
        """Run statements there. Return what they assign to ``result``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process has ended: {self.printed()}"
        told = json.loads(line)
        assert "error" not in told, told["error"]
        return told["value"]

    def printed(self) -> str:
        """Return what the process has printed."""
        return self.errors.read_text()

    def kill(self) -> None:
        """SIGKILL it and wait for its end."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it in order, with the exits of its containers."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OtherApp:
    """Another process with an app of a name of its own, and the folder of its notes.

    In ``code``, NAME stands for the app's name and PLACE for the folder.
    """

    def __init__(self, folder: Path, code: str) -> None:
        self.name = f"far-{uuid.uuid4().hex[:8]}"
        notes = folder / "notes"
        notes.mkdir(parents=True)
        self.notes = Folder(str(notes))
        code = code.replace("NAME)", f"{self.name!r})").replace("PLACE", repr(str(notes)))
        self.process = OtherProcess(folder, code, PYTHONPATH=str(Path(__file__).parents[1]))
        self.run = self.process.run
        self.session = str(self.run("result = session.current().id"))

    def cls(self, name: str) -> Any:
        """Return the handle of a class by its name."""
        return lm.Cls.from_name(self.name, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close()
