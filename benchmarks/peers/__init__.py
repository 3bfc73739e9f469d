"""Peers: other ways to keep a Python process warm and call into it from a notebook.

They live in an environment of their own, made by uv in the user's cache when they are first
measured. Each runs as one child of the benchmark that keeps its worker warm and, when told on its
standard input, calls it so many times and answers with the seconds that each call took. So all
contenders are measured within one run, in turns, and a peer pays nothing for the way it is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import uv

PEERS = ("loky", "ipyparallel", "dask", "ray")
_PACKAGES = ("dask", "distributed", "ipyparallel", "loky", "numpy", "ray")


class Peer:
    """One peer's program while it runs. Use it in a ``with``."""

    def __init__(self, name: str, python: Path) -> None:
        self._name = name
        self._command = [str(python), str(Path(__file__).with_name(f"with_{name}.py"))]

    def __enter__(self) -> Peer:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # it stops its workers and goes
        self._process.wait(60)
        self._process.stdout.close()

    def run(self, times: int, *, size: int) -> list[float]:
        """Have it call its warm worker ``times`` times; the seconds that each call took.

        ``size`` is how many bytes of array the call sends and gets back; 0 is a small integer.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"times": times, "size": size}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._name} ended with exit code {self._process.wait(60)}; run it by hand: "
                f'echo \'{{"times": 1, "size": 0}}\' | {" ".join(self._command)}'
            )
        seconds: list[float] = json.loads(line)
        return seconds


def available(name: str) -> Peer | str:
    """The peer, not started yet; or why it can't be measured here."""
    try:
        return Peer(name, environment() / "bin" / "python")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"its environment can't be made: {getattr(error, 'stderr', '') or error}"


def environment() -> Path:
    """The peers' virtual environment, made if it is missing, for this Python and these packages."""
    told = json.dumps([sys.version_info[:2], sys.base_prefix, _PACKAGES])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    key = hashlib.sha256(told.encode()).hexdigest()[:12]
    place = cache / "lifecycle_magic" / f"peers-{key}"
    stamp = place / "installed"
    if not stamp.exists():
        print(f"making the peers' environment: {', '.join(_PACKAGES)}", file=sys.stderr)
        tool = uv.find_uv_bin()
        _quietly([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)])
        install = [tool, "pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
        _quietly([*install, *_PACKAGES])
        stamp.touch()
    return place


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
