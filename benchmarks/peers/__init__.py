"""Peers: other libraries that keep a Python process warm and call into it from a notebook.

They have an environment of their own, which uv makes in the user's cache at the first measurement.
Each peer runs as a child process of the benchmark and keeps its worker warm. The benchmark sends
it requests on standard input; it makes the requested calls and answers with the seconds of each. So
all contenders are measured in one run, in turns, and requests cost a peer nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import uv

from benchmarks.figures import Unable

PEERS = ("loky", "ipyparallel", "dask", "ray")
_PACKAGES = ("dask", "distributed", "ipyparallel", "loky", "numpy", "pandas", "ray")


class Peer:
    """The running program of one peer, with ``workers`` processes.

    Use it in a ``with`` block, which raises `figures.Unable` if the program fails to start.
    """

    def __init__(self, name: str, python: Path, workers: int = 1) -> None:
        self._name = name
        program = Path(__file__).with_name(f"with_{name}.py")
        self._command = [str(python), str(program), str(workers)]

    def __enter__(self) -> Peer:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self._answer()  # it is up
        except Unable:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has exited already
            self._process.stdin.close()  # it stops its workers and exits
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def run(self, times: int, *, work: str, size: int = 0) -> list[float]:
        """Do the work ``times`` times and return the seconds of each.

        ``work`` is a kind of payload that a call sends and gets back (`_work.payload`, with
        ``size`` bytes), ``"threads"`` for simultaneous calls from ``size`` threads, or ``"map"``
        over ``size`` inputs. Raises `figures.Unable` if the peer can't do that.
        """
        assert self._process.stdin is not None
        try:
            asked = {"work": work, "size": size, "times": times}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # reading raises the reason
        answer = self._answer()
        if not isinstance(answer, list):
            raise Unable(str(answer))
        return [float(seconds) for seconds in answer]

    def _answer(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unable(
                f"{self._name} ended with exit code {self._process.wait(60)}; run it by hand: "
                f'echo \'{{"work": "integer", "size": 0, "times": 1}}\' | {" ".join(self._command)}'
            )
        return json.loads(line)


def available(name: str, workers: int = 1) -> Peer | str:
    """Return the peer, not started yet, or the reason why it can't be measured here."""
    try:
        return Peer(name, environment() / "bin" / "python", workers)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"its environment can't be made: {getattr(error, 'stderr', '') or error}"


def versions() -> dict[str, str]:
    """Return the version of each of the peers' packages."""
    program = "import json, sys; from importlib.metadata import version as v; "
    program += "print(json.dumps({name: v(name) for name in sys.argv[1:]}))"
    python = str(environment() / "bin" / "python")
    command = [python, "-c", program, *_PACKAGES]
    answer: dict[str, str] = json.loads(subprocess.check_output(command, text=True))
    return answer


def environment() -> Path:
    """Make the peers' virtual environment for this Python and these packages; return its folder."""
    answer = json.dumps([sys.version_info[:2], sys.base_prefix, _PACKAGES])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    key = hashlib.sha256(answer.encode()).hexdigest()[:12]
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
