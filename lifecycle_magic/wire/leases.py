"""Leases: how long objects on this side view a segment.

A lease begins with the frame that names the segment and is over when the last view of it has
died, which Python tells: every view keeps the lease's ctypes array alive, and a weak reference
tells of that one's end. So an argument that a method keeps, or a result that a user keeps, never
changes under its owner; it only costs the sender a new segment.

A fork pins what is leased, for the child's views can't be followed: until the child and all that
it forked are gone, or have become other programs. That is when the pipe that they inherited ends.
(Child and parent see the same memory, as with `multiprocessing.shared_memory`: a private copy for
each child would cost as much memory again, where most children only read.)

Python tells early of what is garbage in a cycle: a finalizer that reads a view there may read what
came later. Arrays are safe, for they are in no cycle that it collects; a bare `memoryview` may be.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle_magic.wire.segment import FREE, Segment


class Lease:
    """The views that one frame brought. When they, and whatever was made of them, are gone the
    segment is free; unless it was moved on before, see `move`.
    """

    __slots__ = ("_address", "_dead", "_due", "_holders", "_pid", "_watch", "pins", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.pins = 0  # processes that may have views of their own
        self._due = [None]  # taken by whoever frees or moves the segment: list.pop is atomic
        self._dead = False
        self._holders = 0
        self._pid = os.getpid()
        self._address = 0
        self._watch: weakref.ref[Any] | None = None

    def begin(self, over: Callable[[Lease], object]) -> memoryview:
        """All of the segment, as what the views are to be made of. ``over`` hears of its death."""
        import ctypes

        def died(_: object) -> None:
            over(self)
            self._dead = True
            self._settle()

        array = (ctypes.c_char * self.segment.size).from_buffer(self.segment.memory)
        self._address = ctypes.addressof(array)
        self._watch = weakref.ref(array, died)
        return memoryview(array).cast("B")

    @property
    def here(self) -> bool:
        """Whether it is this process that ends it, and none that it was forked off."""
        return os.getpid() == self._pid

    @property
    def over(self) -> bool:
        """Nobody can see the memory any more, in this process or in one forked off."""
        return self._dead and not self.pins and self.here

    def unpin(self) -> None:
        """One process fewer has views."""
        self.pins -= 1
        self._settle()

    def _settle(self) -> None:
        if self.over and not self._holders and self._take():
            self.segment.state = FREE

    def _take(self) -> bool:
        try:
            self._due.pop()
        except IndexError:
            return False  # somebody else did
        return True

    # --- moving it on ----------------------------------------------------------------------

    def places(self, buffers: Sequence[Any]) -> list[tuple[int, int]] | None:
        """Where in the segment each of these `pickle.PickleBuffer` starts, and its size.

        None if one of them lies elsewhere, if two overlap, which are to be objects of their own, or
        if they are so little of it that copying them costs less than the memory that they would
        keep.
        """
        import ctypes

        found = []
        for buffer in buffers:
            try:
                view = buffer.raw()
                start = ctypes.addressof(ctypes.c_char.from_buffer(view)) - self._address
            except (AttributeError, TypeError, ValueError, BufferError):
                return None  # no memory that can be written to, so none of a segment
            if not 0 <= start <= self.segment.size - view.nbytes:
                return None
            found.append((start, view.nbytes))
        in_order = sorted(found)
        if any(at + size > after for (at, size), (after, _) in itertools.pairwise(in_order)):
            return None
        return found if 4 * sum(size for _, size in found) >= self.segment.size else None

    def __enter__(self) -> None:
        """Put its end off. For the one thread that answers with it."""
        self._holders += 1

    def __exit__(self, *exc: object) -> None:
        self._holders -= 1
        self._settle()

    def move(self) -> bool:
        """While it is held: have the segment as it is, if nobody sees it any more."""
        return self.over and self._take()


if TYPE_CHECKING:
    _Pin = tuple[int, list[Lease]]  # the pipe of a fork, and the leases that it sees


class Leases:
    """All that objects on this side have of one channel. ``newest`` is what the last frame
    brought, while anything views it.
    """

    def __init__(self) -> None:
        self.newest: Lease | None = None
        self._open: set[Lease] = set()  # keeps their weak references alive
        self._pins: list[_Pin] = []
        with _all_lock:
            _all.add(self)

    def begin(self, segment: Segment) -> memoryview:
        """A new lease of all of a segment, as a view of it."""
        lease = self.newest = Lease(segment)
        self._open.add(lease)
        return lease.begin(self._over)

    def _over(self, lease: Lease) -> None:
        self._open.discard(lease)
        if self.newest is lease:
            self.newest = None  # nor is its memory kept by this

    def pin(self) -> int | None:
        """A process is about to be forked off: what is leased now stays leased while it lives, or
        what it forked in its turn. Returns the end of a pipe that it has to inherit; this process
        closes its own when it has forked. None if nothing is leased.
        """
        pinned = [lease for lease in list(self._open) if lease.here]
        if not pinned:
            return None
        try:
            ours, theirs = os.pipe()
        except OSError:
            theirs = None  # out of descriptors: for ever, then
        else:
            self._pins.append((ours, pinned))
        for lease in pinned:
            lease.pins += 1
        return theirs

    def unpin(self) -> None:
        """Note which forks are gone."""
        for pin in self._pins.copy():
            pipe, pinned = pin
            ended = select.poll()
            ended.register(pipe, select.POLLHUP)
            if ended.poll(0) and self._drop(pin):
                for lease in pinned:
                    lease.unpin()

    def _drop(self, pin: _Pin) -> bool:
        """Whether it was this thread that did."""
        try:
            self._pins.remove(pin)
        except ValueError:
            return False
        os.close(pin[0])
        return True

    def close(self) -> None:
        """The channel is closed, or another process has it: what is viewed stays as it is."""
        for pin in self._pins.copy():
            self._drop(pin)
        self._open.clear()
        self.newest = None


_all: weakref.WeakSet[Leases] = weakref.WeakSet()
_all_lock = threading.Lock()

_forking = threading.local()  # ``ends`` of pipes, while this thread forks: others may, too


def _pin_all() -> None:
    with _all_lock:
        everybody = list(_all)
    pipes = [leases.pin() for leases in everybody]
    _forking.ends = [pipe for pipe in pipes if pipe is not None]


def _forked() -> None:
    for pipe in _forking.ends:
        os.close(pipe)
    _forking.ends = []


def _in_child() -> None:
    """The pipes stay open until this process ends or becomes another program."""
    global _all_lock
    _all_lock = threading.Lock()  # another thread may have held it, and is not here
    _forking.ends = []
    for leases in list(_all):
        leases.close()


os.register_at_fork(before=_pin_all, after_in_parent=_forked, after_in_child=_in_child)
