"""Starting a keeper and talking with it until the guest runs (the talk is told in `keeper`)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.engines import keeper, processes
from lifecycle_magic.engines.environment import base_python
from lifecycle_magic.exception import EngineError
from lifecycle_magic.owner import Owner

START_LOG = "start.log"  # in the run folder: what the guest printed before it keeps its own log
EXIT_CODE = "exit_code"  # in the run folder: what the keeper leaves


@dataclass(frozen=True)
class Job:
    """What a keeper is given: the guest's command and environment, and what to remove after it.

    ``instance`` is the folder that goes with the guest. ``cwd`` empty and ``cpus`` empty change
    nothing. ``kill_strays``: end what the guest leaves behind, where no sandbox does.
    """

    name: str
    instance: Path
    run_dir: Path
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str = ""
    cpus: Sequence[int] = ()
    kill_strays: bool = False


class Hired:
    """A keeper that waits for the word; ``identity`` outlives this process."""

    def __init__(self, process: subprocess.Popen[bytes], job: Job) -> None:
        self._process = process
        self._job = job
        told = self._hear()
        identity = processes.identify(int(told)) if told.isdigit() else None
        if identity is None:
            raise self._failed("its keeper did not come up")
        self.identity: Owner = identity

    def start(self) -> None:
        """Have it start the guest; raises `EngineError` if that can't be executed."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"g")
            self._process.stdin.flush()
        told = self._hear()
        if not told.isdigit():
            raise self._failed(told.removeprefix("error ") or "its keeper died")

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode(errors="replace").strip()

    def _failed(self, why: str) -> EngineError:
        log = self._job.run_dir / START_LOG
        said = log.read_text(errors="replace").strip()[-2000:] if log.exists() else ""
        return EngineError(f"{self._job.name} could not be started: {why}\n{said}".strip())


@contextlib.contextmanager
def hire(job: Job) -> Iterator[Hired]:
    """A keeper for ``job``, out of this process's tree. A block that ends without `Hired.start`
    lets it go, and it removes ``job.instance``.

    Raises `EngineError` with what it printed.
    """
    command = [
        *(base_python(), "-I", "-S", keeper.__file__),
        *(str(job.instance), str(job.run_dir / EXIT_CODE), job.cwd, ",".join(map(str, job.cpus))),
        *("kill" if job.kill_strays else "wait", *job.command),
    ]
    try:
        with open(job.run_dir / START_LOG, "ab", opener=_private) as log:
            process = subprocess.Popen(
                command,
                env=dict(job.env),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise EngineError(f"{job.name} could not be started: {error}") from error
    with process:  # closes the pipes, and reaps the half that forked and left
        yield Hired(process, job)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
