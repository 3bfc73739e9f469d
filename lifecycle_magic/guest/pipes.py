"""The pipes between the supervisor and its worker."""

from __future__ import annotations

import os

from lifecycle_magic.guest.descriptor_output import ReadCount
from lifecycle_magic.guest.handover import Handover
from lifecycle_magic.guest.print_journal import PrintJournal


class Pipes:
    """Pipes and pages of memory between supervisor and worker, created before the fork."""

    def __init__(self) -> None:
        self.notes, self.notes_w = os.pipe()
        self.out, self.out_w = os.pipe()
        self.err, self.err_w = os.pipe()
        self.cancels_r, self.cancels = os.pipe()
        self.settled_r, self.settled = os.pipe()
        self.reads = ReadCount()
        self.journal = PrintJournal()
        self.handover = Handover()

    def close_worker_ends(self) -> None:
        """Close the worker's ends."""
        for fd in (self.notes_w, self.out_w, self.err_w, self.cancels_r, self.settled_r):
            os.close(fd)
        self.handover.close_worker_end()

    def close_supervisor_ends(self) -> None:
        """Close the supervisor's ends, and make two of the others standard output and error."""
        for fd in (self.notes, self.out, self.err, self.cancels, self.settled):
            os.close(fd)
        self.handover.close_supervisor_end()
        os.dup2(self.out_w, 1)
        os.dup2(self.err_w, 2)
        os.close(self.out_w)
        os.close(self.err_w)
