"""The start of a keeper, and the exchange with it until the guest runs (described in `keeper`)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.engines.process import keeper, process_table
from lifecycle_magic.engines.process.environments import base_python
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import process_limit, run_files
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.wire import descriptors

START_LOG = "start.log"  # in the run folder: what the guest printed before it keeps its own log
EXIT_CODE = "exit_code"  # in the run folder: what the keeper leaves


@dataclass(frozen=True)
class Job:
    """The job of a keeper: the guest's command and environment, and what to remove after its end.

    ``instance`` is the folder that is removed with the guest. ``cwd`` empty and ``cpus`` empty
    change nothing. ``kill_strays``: kill the processes that the guest leaves, where no sandbox
    does.
    """

    name: str
    instance: Path
    run_dir: Path
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str = ""
    cpus: Sequence[int] = ()
    kill_strays: bool = False


class KeeperProcess:
    """A keeper that waits for the command to start; ``identity`` outlives this process."""

    def __init__(self, process: subprocess.Popen[bytes], job: Job) -> None:
        self._process = process
        self._job = job
        answer = self._read_answer()
        identity = process_table.identify(int(answer)) if answer.isdigit() else None
        if identity is None:
            raise self._failed(answer.removeprefix("error ") or "its keeper did not start")
        self.identity: Owner = identity

    def start(self) -> None:
        """Start the guest; raises `EngineError` if its command can't be executed."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"g")
            self._process.stdin.flush()
        answer = self._read_answer()
        if not answer.isdigit():
            raise self._failed(answer.removeprefix("error ") or "its keeper died")

    def _read_answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode(errors="replace").strip()

    def _failed(self, why: str) -> EngineError:
        log = ""
        with contextlib.suppress(OSError):
            log = run_files.read_text(self._job.run_dir / START_LOG, 8000).strip()[-2000:]
        return _not_started(self._job, why, log)


@contextlib.contextmanager
def start_keeper(job: Job) -> Iterator[KeeperProcess]:
    """Yield a keeper for ``job``, outside of this process's tree.

    If the block ends without `KeeperProcess.start`, the keeper exits and removes ``job.instance``.
    Raises `EngineError` with the keeper's output.
    """
    command = [
        *(base_python(), "-I", "-S", keeper.__file__),
        *(str(job.instance), str(job.run_dir / EXIT_CODE), job.cwd, ",".join(map(str, job.cpus))),
        *("kill" if job.kill_strays else "wait", str(descriptors.limit_before()), *job.command),
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
        raise _not_started(job, str(error)) from error
    with process:  # closes the pipes, and reaps the half that forked and left
        yield KeeperProcess(process, job)


def _not_started(job: Job, why: str, log: str = "") -> EngineError:
    """Return the error: a sentence of its own for a reached limit, otherwise with the output."""
    words = f"{why}\n{log}"
    explained = process_limit.explain(words) or descriptors.explain(words) or words.strip()
    return EngineError(f"{job.name} could not be started: {explained}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
