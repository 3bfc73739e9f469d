"""The supervisor's reading of the worker's pipes: its notes, and what descriptors 1 and 2 got.

Notes are read a moment later while the worker prints much, and output of processes a moment later
than lines that the worker printed before it.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import select
import time
from collections.abc import Callable
from typing import Any

from lifecycle_magic.guest import descriptor_output
from lifecycle_magic.guest.json_lines import JsonLineReader, join_prints
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.print_journal import BATCH_SECONDS

__all__ = ["WorkerPipes"]

NOTES_PAUSE_SECONDS = 0.01
"""Seconds for which notes stay unread after a line that the cell has shown already.

If each note was read as it arrives, a method that prints thousands of lines would share the
processor with its log.
"""

LATE_PRINTS_SECONDS = 2 * BATCH_SECONDS
"""Seconds that output of processes waits for printed lines that the worker has not sent yet."""

PIPE_BYTES = 1 << 16
"""Bytes that a pipe holds, so that one read takes all."""


class WorkerPipes:
    """The pipes from the worker, read when ``poll`` reports them.

    ``on_note(name, fields)`` gets each note, ``on_output(stream, text, shown=...)`` all output.
    """

    def __init__(
        self,
        pipes: Pipes,
        poll: select.poll,
        on_note: Callable[[str, dict[str, Any]], None],
        on_output: Callable[[str, str, bool], None],
    ) -> None:
        self._pipes = pipes
        self._poll = poll
        self._on_note = on_note
        self._on_output = on_output
        # The user's code may break what the worker writes.
        self._lines = JsonLineReader(self._on_bad_note)
        self._decoders = {
            pipes.out: ("stdout", codecs.getincrementaldecoder("utf-8")("replace")),
            pipes.err: ("stderr", codecs.getincrementaldecoder("utf-8")("replace")),
        }
        self._notes_due = math.inf  # when notes are read again
        self._output_due = math.inf  # when output is read that came after printed text

    @property
    def due(self) -> float:
        """When `on_deadline` is to be called, by time.monotonic."""
        return min(self._notes_due, self._output_due)

    def watch(self) -> None:
        """Have the poll report the pipes from now on."""
        for fd in (self._pipes.notes, self._pipes.out, self._pipes.err):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    def on_readable(self, fd: int) -> None:
        """Read a pipe that the poll has reported, or postpone that."""
        if fd == self._pipes.notes or not self._pipes.journal.has_text:
            self._read(fd)
        elif self._output_due == math.inf:
            self._postpone_output()

    def on_deadline(self) -> None:
        """Read what was postponed, if it is due."""
        if time.monotonic() >= self._notes_due:
            self._notes_due = math.inf
            self._poll.register(self._pipes.notes, select.POLLIN)
        if time.monotonic() >= self._output_due:
            self._output_due = math.inf
            for fd in (self._pipes.out, self._pipes.err):
                self._poll.register(fd, select.POLLIN)
                self._read(fd)

    def read_pending_notes(self) -> None:
        """Read the notes that the poll has not reported yet, or that stay unread for a moment."""
        with contextlib.suppress(BlockingIOError):
            self._take_notes(os.read(self._pipes.notes, PIPE_BYTES))

    def read_pending_output(self) -> None:
        """Read the output that is in the pipes now."""
        for fd in (self._pipes.out, self._pipes.err):
            if descriptor_output.holds_bytes(fd):
                self._pipes.reads.add()
                self._take_output(fd, _read_now(fd))

    def read_rest_of_notes(self) -> None:
        """Read the notes that are left after the worker has exited."""
        self._read_rest(self._pipes.notes)

    def read_rest_of_output(self) -> None:
        """Read the output that is left after the worker has exited."""
        for fd in (self._pipes.out, self._pipes.err):
            self._read_rest(fd)

    def _postpone_output(self) -> None:
        """Read output of processes a moment later: the worker has printed lines before it."""
        for fd in (self._pipes.out, self._pipes.err):
            with contextlib.suppress(KeyError):  # at its end
                self._poll.unregister(fd)
        self._output_due = time.monotonic() + LATE_PRINTS_SECONDS

    def _read(self, fd: int) -> None:
        if fd != self._pipes.notes:
            self._pipes.reads.add()
        try:
            data = os.read(fd, PIPE_BYTES)
        except BlockingIOError:
            return  # read already, with a message of the kernel or a note
        if not data:
            with contextlib.suppress(KeyError):  # notes stay unread for a moment
                self._poll.unregister(fd)
        self._take(fd, data)

    def _read_rest(self, fd: int) -> None:
        """Read what is left in a pipe.

        A child that outlived the worker may hold its other end open.
        """
        while data := _read_now(fd):
            self._take(fd, data)

    def _take(self, fd: int, data: bytes) -> None:
        if fd == self._pipes.notes:
            self._take_notes(data)
        else:
            self._take_output(fd, data)

    def _take_notes(self, data: bytes) -> None:
        one: dict[str, Any] = {}
        for one in join_prints(self._lines.feed(data)):
            try:
                self._on_note(one["note"], one)
            except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                self._on_bad_note(error)
        if one.get("note") == "print" and one.get("shown") and self._notes_due == math.inf:
            self._poll.unregister(self._pipes.notes)
            self._notes_due = time.monotonic() + NOTES_PAUSE_SECONDS

    def _on_bad_note(self, error: Exception) -> None:
        lost = f"lifecycle_magic: a note of the worker is lost: {error!r}\n"
        self._on_output("stderr", lost, True)

    def _take_output(self, fd: int, data: bytes) -> None:
        stream, decoder = self._decoders[fd]
        text = decoder.decode(data, final=not data)
        if text:
            self._on_output(stream, text, False)


def _read_now(fd: int) -> bytes:
    """Return what a pipe holds now, all of it; nothing at its end."""
    try:
        return os.read(fd, PIPE_BYTES)
    except BlockingIOError:
        return b""
