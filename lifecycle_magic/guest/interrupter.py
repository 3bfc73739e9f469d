"""The supervisor's half of interrupts: it notifies the worker and signals the call's processes.

The worker must be signalled again if the first signal has no effect: a fork blocks it for a moment,
and the user's code may ignore it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time

from lifecycle_magic.guest import interrupts
from lifecycle_magic.guest.processes import Processes, ignores

SIGNAL_RETRY_SECONDS = 0.05
"""Seconds after which a worker that ignored the signal gets it again."""


class Interrupter:
    """Interrupts calls of the worker with this pid. ``cancels`` is the pipe that the worker
    reads.
    """

    def __init__(self, worker: int, cancels: int) -> None:
        self.due = math.inf  # when `check_due` signals again, in time.monotonic
        self.processes = Processes(worker)
        self._worker = worker
        self._cancels = cancels

    def interrupt(self, call: int, since: float = 0.0) -> None:
        """Interrupt a call and the processes that it started. ``since`` is when the call began."""
        try:
            interrupts.request_interrupt(self._cancels, call)
        except BrokenPipeError:
            return  # the worker has just died
        # The worker first: a method whose child has exited would continue before its interrupt.
        self.signal_worker()
        if call != interrupts.ANY_CALL or self.due < math.inf:
            self.signal_processes(call, since)

    def signal_worker(self) -> None:
        """Signal the worker to read the pipe."""
        if ignores(self._worker, interrupts.SIGNAL):
            self.due = time.monotonic() + SIGNAL_RETRY_SECONDS
        else:
            self.due = math.inf
            with contextlib.suppress(ProcessLookupError):  # it has exited and is reaped
                os.kill(self._worker, interrupts.SIGNAL)

    def signal_processes(self, call: int, since: float = 0.0) -> None:
        """Interrupt the processes that a call started.

        The call began at ``since``, in `clock` time.
        """
        for pid in self.processes.reached_by(call, since):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGINT)

    def check_due(self) -> None:
        """Signal a worker again that ignored the signal, if the time has come."""
        if time.monotonic() >= self.due:
            self.signal_worker()
