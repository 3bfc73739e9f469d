"""Leases: how long objects on this side view a segment.

A lease begins with the frame that names the segment and ends when the last view of the segment
dies. Python reports that end: every view keeps the lease's ctypes array alive, and a weak reference
to that array runs a callback when it dies. So an argument that a method keeps, or a result that a
user keeps, never changes under its owner. It only costs the sender a new segment.

A fork pins what is leased, because the child's views can't be followed. The pin lasts until the
child, and every process that it forked, has exited or has become another program. At that moment
the pipe ends that they inherited. (Child and parent see the same memory, as with
`multiprocessing.shared_memory`. A private copy for each child would take as much memory again,
although most children only read.)

For garbage in a cycle, Python runs the callback early: a finalizer in that cycle which reads a view
may read data that arrived later. Arrays are safe, because Python collects no cycle through them. A
bare `memoryview` may not be.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle_magic.wire.segment import FREE, Segment, address_of


class Lease:
    """The views that one frame brought.

    The segment is free when the views, and everything made from them, are dead, unless it moved on
    before: see `move`.
    """

    __slots__ = ("_address", "_dead", "_holds", "_pid", "_token", "_watch", "pins", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.pins = 0  # processes that may have views of their own
        self._token = [None]  # taken by the thread that frees or moves the segment: pop is atomic
        self._dead = False
        self._holds = 0
        self._pid = os.getpid()
        self._address = 0
        self._watch: weakref.ref[Any] | None = None

    def begin(self, over: Callable[[Lease], object]) -> memoryview:
        """Return a view of the whole segment, from which the other views are made.

        ``over`` is called with the lease when the last view dies.
        """
        import ctypes

        def on_last_view(_: object) -> None:
            over(self)
            self._dead = True
            self._free_if_over()

        array = (ctypes.c_char * self.segment.size).from_buffer(self.segment.memory)
        self._address = ctypes.addressof(array)
        self._watch = weakref.ref(array, on_last_view)
        return memoryview(array).cast("B")

    @property
    def is_owned(self) -> bool:
        """True if this process ends the lease, and not a process that forked this one."""
        return os.getpid() == self._pid

    @property
    def is_over(self) -> bool:
        """True if no process, this one or a fork of it, can see the memory any more."""
        return self._dead and not self.pins and self.is_owned

    def unpin(self) -> None:
        """Count one process with views of its own less."""
        self.pins -= 1
        self._free_if_over()

    def _free_if_over(self) -> None:
        if self.is_over and not self._holds and self._take():
            self.segment.state = FREE

    def _take(self) -> bool:
        try:
            self._token.pop()
        except IndexError:
            return False  # another thread took it
        return True

    # --- moving it on ----------------------------------------------------------------------

    def places(self, buffers: Sequence[Any]) -> list[tuple[int, int]] | None:
        """Return the start and size in the segment of each of these `pickle.PickleBuffer` or views.

        None if a buffer is elsewhere, if two overlap (they must become separate objects), or if the
        buffers are such a small part of the segment that copying them costs less than keeping its
        memory.
        """
        found = []
        for buffer in buffers:
            try:
                view = buffer.raw() if hasattr(buffer, "raw") else memoryview(buffer).cast("B")
                start = address_of(view) - self._address
            except (AttributeError, TypeError, ValueError, BufferError):
                return None  # no buffer, or none in one piece
            if not 0 <= start <= self.segment.size - view.nbytes:
                return None
            found.append((start, view.nbytes))
        in_order = sorted(found)
        if any(at + size > after for (at, size), (after, _) in itertools.pairwise(in_order)):
            return None
        return found if 4 * sum(size for _, size in found) >= self.segment.size else None

    def __enter__(self) -> None:
        """Postpone the end of the lease. For the one thread that answers with its segment."""
        self._holds += 1

    def __exit__(self, *exc: object) -> None:
        self._holds -= 1
        self._free_if_over()

    def move(self) -> bool:
        """Take the segment for sending it back, if nothing views it any more.

        Call inside ``with lease``.
        """
        return self.is_over and self._take()

    def give_away(self) -> bool:
        """Leave it to another process to free the segment. Return False if it is free already.

        No code here reads the views from now on, although they may live on.
        """
        return self.is_owned and not self.pins and self._take()


if TYPE_CHECKING:
    _Pin = tuple[int, list[Lease]]  # the pipe of a fork, and the leases that it sees


class Leases:
    """All leases of one channel on this side.

    ``newest`` is the lease of the last frame while anything views it.
    """

    def __init__(self) -> None:
        self.newest: Lease | None = None
        self._open: set[Lease] = set()  # keeps their weak references alive
        self._pins: list[_Pin] = []
        with _all_lock:
            _all.add(self)

    def begin(self, segment: Segment) -> memoryview:
        """Begin a lease of a whole segment and return a view of the segment."""
        lease = self.newest = Lease(segment)
        self._open.add(lease)
        return lease.begin(self._over)

    def _over(self, lease: Lease) -> None:
        self._open.discard(lease)
        if self.newest is lease:
            self.newest = None  # keep no reference to its memory

    def pin(self) -> int | None:
        """Pin what is leased for a process that is about to be forked.

        The pin lasts while that process, or a process that it forks, lives. Return the end of a
        pipe that the child has to inherit and that this process closes after the fork; None if
        nothing is leased.
        """
        pinned = [lease for lease in list(self._open) if lease.is_owned]
        if not pinned:
            return None
        try:
            ours, theirs = os.pipe()
        except OSError:
            theirs = None  # out of descriptors: the pin lasts for ever
        else:
            self._pins.append((ours, pinned))
        for lease in pinned:
            lease.pins += 1
        return theirs

    def unpin(self) -> None:
        """Release the pins of forks that have exited."""
        for pin in self._pins.copy():
            pipe, pinned = pin
            ended = select.poll()
            ended.register(pipe, select.POLLHUP)
            if ended.poll(0) and self._drop(pin):
                for lease in pinned:
                    lease.unpin()

    def _drop(self, pin: _Pin) -> bool:
        """Remove a pin and close its pipe. Return whether this thread did it."""
        try:
            self._pins.remove(pin)
        except ValueError:
            return False
        os.close(pin[0])
        return True

    def close(self) -> None:
        """Drop all leases, because the channel is closed or another process has it.

        Views stay valid.
        """
        for pin in self._pins.copy():
            self._drop(pin)
        self._open.clear()
        self.newest = None


_all: weakref.WeakSet[Leases] = weakref.WeakSet()
_all_lock = threading.Lock()

_forking = threading.local()  # ``ends`` of pipes while this thread forks; other threads may, too


def _before_fork() -> None:
    with _all_lock:
        everything = list(_all)
    pipes = [leases.pin() for leases in everything]
    _forking.ends = [pipe for pipe in pipes if pipe is not None]


def _after_fork_in_parent() -> None:
    for pipe in _forking.ends:
        os.close(pipe)
    _forking.ends = []


def _after_fork_in_child() -> None:
    """Reset the state in a forked child, but keep the pipes open.

    They stay open until this process ends or becomes another program.
    """
    global _all_lock
    _all_lock = threading.Lock()  # a thread that does not exist here may have held it
    _forking.ends = []
    for leases in list(_all):
        leases.close()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
