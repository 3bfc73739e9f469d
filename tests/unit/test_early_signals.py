"""A signal that comes before the worker is ready for it does not end the worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lifecycle_magic.guest.interrupts import SIGNAL

STARTING = """
    import os, signal, socket, sys
    from lifecycle_magic.guest import interrupts, signals, start
    from lifecycle_magic.guest.connecting import Connected
    from lifecycle_magic.guest.pipes import Pipes
    from lifecycle_magic.wire.frames import Channel

    number, run = int(sys.argv[1]), sys.argv[2]
    control, data, kernel = Channel(socket.socket()), *socket.socketpair()
    kernel.close()  # nothing to do: it reads the end at once
    pipes = Pipes()
    blocked = signals.block()
    pid = os.fork()
    if pid == 0:
        interrupts.request_interrupt(pipes.cancels, 7)
        os.kill(os.getpid(), number)  # before anything of the worker is imported
        os._exit(start.run_worker(Connected(control, [Channel(data)]), pipes, run, blocked))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, SIGNAL, signal.SIGTERM])
def test_a_signal_during_the_workers_imports_does_not_end_it(number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STARTING), str(int(number)), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
