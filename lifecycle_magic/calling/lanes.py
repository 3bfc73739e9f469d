"""The lanes of a map: the slots that its pump holds, each with the items that were sent to it.

Inputs are sent ahead of the result of the one before, so that the worker finds the next one in its
socket when it is done: one ahead, or many if they are short. What has not begun can be taken back:
see `lifecycle_magic.wire.turns` for how. Where nothing can be taken back only short ones are sent
ahead, lest one waits behind a slow one while another container idles.

Sends do not block: worker and pump could otherwise wait for each other with both sockets full.
"""

from __future__ import annotations

import functools
import socket
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.calls import answer_of
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.pools.inputs import Input
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import output

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool

__all__ = ["AHEAD", "Item", "Lane", "Outcome"]

AHEAD = 64
"""Inputs at most that a worker has, the one that it works on included."""

AHEAD_BYTES = 1 << 15  # of those: well below what a socket's buffer takes
SHORT = 0.005
"""Seconds: of inputs that take longer only one is sent ahead."""


class Item(Input):
    """One input of a map. ``index`` is its place in the order, ``size`` what it takes in memory: in
    the end its answer, in bytes. ``sent`` are those of them that went over a socket.
    """

    __slots__ = ("began", "index", "lane", "offered", "sent", "size")

    copies = True

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], index: int
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.index = index
        self.size = len(self.payload) + sum(memoryview(b).nbytes for b in self.buffers)
        self.lane: Lane | None = None
        self.sent = 0
        self.offered = False  # sent ahead: it needs a turn to begin
        self.began = 0.0

    def runs_in(self) -> Slot | None:
        lane = self.lane
        return lane.slot if lane is not None and lane.head is self else None


Outcome = tuple[Item, bool, Any]
"""What came of an item: whether it went well, and its value or exception."""


class Lane(Input):
    """A slot that is held for a map, and the items that were sent to it and not yet answered.

    All of it happens on the pump's thread, but for what says otherwise. ``tell`` has that thread do
    something: ``opened`` when the pool grants a slot, ``refused`` when it can't.
    """

    __slots__ = (
        "_opened",
        "_outbox",
        "_refused",
        "_tell",
        "_timed",
        "bytes",
        "closing",
        "seconds",
        "sent",
        "void",
    )

    counts = False  # its items do
    shares = False

    def __init__(
        self,
        pool: Pool,
        method: str,
        context: Context,
        tell: Callable[[Callable[[], None]], None],
        opened: Callable[[Lane], None],
        refused: Callable[[Lane, BaseException], None],
    ) -> None:
        # Not as other inputs: it has no arguments, so there is nothing to pickle.
        self.id = 0
        self.pool = pool
        self.method = method
        self.slot = None
        self.error = None
        self.gate = None
        self.interrupts = 0
        self.timed_out = self.unsent = False
        self.attempts = self.unstarted = 0
        self.context = context
        self.sent: deque[Item] = deque()  # in order; the worker is at the first one
        self.void = 0  # taken back, behind those; the worker has still to skip them
        self.bytes = 0  # of what was sent
        self.seconds: float | None = None  # what an item takes, of late
        self.closing = False
        self._outbox: deque[memoryview] = deque()
        self._timed = False  # its time is being watched
        self._tell = tell
        self._opened = opened
        self._refused = refused

    def grant(self, slot: Slot) -> None:
        self.slot = slot
        self._tell(lambda: self._opened(self))

    def refuse(self, error: BaseException) -> None:
        self._tell(lambda: self._refused(self, error))

    @property
    def held(self) -> Slot:
        assert self.slot is not None
        return self.slot

    @property
    def head(self) -> Item | None:
        """What the worker works on. From any thread."""
        try:
            return self.sent[0]
        except IndexError:
            return None

    @property
    def free(self) -> bool:
        """It has nothing to do, and could."""
        return not (self.sent or self.void or self.closing)

    @property
    def over(self) -> bool:
        """The worker is through with all that it was sent."""
        return not (self.sent or self.void)

    # --- sending ---------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many items it may have now, those that it has included."""
        if self.closing or self.void or self._outbox or self.bytes > AHEAD_BYTES:
            return 0
        if self.seconds is not None and self.seconds <= SHORT:
            return AHEAD
        return 2 if self.held.turns is not None else 1

    def load(self, pending: deque[Item], most: int) -> list[Outcome]:
        """Take up to ``most`` items from the left of ``pending``, to be pushed next. Returns those
        that are too large to be sent.
        """
        slot = self.held
        parts: list[Any] = []
        refused: list[Outcome] = []
        offers = 0
        while most and pending:
            item = pending[0]
            if self.sent and not self._takes(item):
                break
            pending.popleft()
            # Without turns nothing can be taken back, so nothing has to be asked for.
            item.offered = bool(self.sent) and slot.turns is not None
            kind = Kind.OFFER if item.offered else Kind.CALL
            try:
                frame = slot.channel.encode(kind, item.payload, item.buffers)
            except WireError as error:
                refused.append((item, False, error))
                continue
            parts += frame
            item.sent = sum(map(len, frame))
            item.slot, item.lane = slot, self
            self.sent.append(item)
            self.bytes += item.sent
            offers += item.offered
            if len(self.sent) == 1:
                self._begin()
            most -= 1
        if offers:
            assert slot.turns is not None
            slot.turns.give(offers)
        if all(len(part) < 4096 for part in parts):
            parts = [b"".join(parts)]  # several small ones leave in one piece
        self._outbox.extend(memoryview(part).cast("B") for part in parts if len(part))
        return refused

    def _takes(self, item: Item) -> bool:
        """Whether it, which has something to do, may have this item too."""
        if self.held.channel.by_segment(item.size, len(item.payload)):
            return len(self.sent) < 2  # little on the wire, but each takes memory of its own
        return item.size <= AHEAD_BYTES and self.bytes <= AHEAD_BYTES

    def push(self) -> bool:
        """Send what the socket takes now; whether there is more."""
        outbox, sock = self._outbox, self.held.channel.sock
        try:
            while outbox:
                batch = [outbox[i] for i in range(min(len(outbox), 512))]
                sent = sock.sendmsg(batch, [], socket.MSG_DONTWAIT)
                while sent and sent >= outbox[0].nbytes:
                    sent -= outbox.popleft().nbytes
                if sent:
                    outbox[0] = outbox[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            outbox.clear()  # it is gone; reading says so
        return bool(outbox)

    def take_back(self, most: int) -> list[Item]:
        """Up to ``most`` items that were not begun, and now will not be: the last ones, in
        order.
        """
        turns = self.held.turns
        offered = sum(1 for item in self.sent if item.offered)
        count = turns.take(min(most, offered)) if turns is not None else 0
        items = [self.sent.pop() for _ in range(count)]
        self.void += count
        for item in items:
            self.bytes -= item.sent
            item.lane = item.slot = None
        return items[::-1]

    # --- receiving -------------------------------------------------------------------------

    def read(self) -> tuple[list[Outcome], bool]:
        """Take every frame that is there: what came of items, and whether more can come."""
        channel = self.held.channel
        outcomes: list[Outcome] = []
        while True:
            try:
                frame = channel.receive()
                if frame is not None and frame.kind == Kind.OUTPUT:
                    self.show_from_elsewhere(*output(frame.payload))
            except OSError as error:
                if isinstance(error, WireError):
                    self.held.container.broke(str(error))
                return outcomes, False
            if frame is None:
                return outcomes, False
            if frame.kind == Kind.OUTPUT:
                pass
            elif self.sent:
                outcomes.append(self._answered(frame))
            elif frame.kind == Kind.SKIPPED:
                self.void -= 1
            else:
                self.held.container.broke(f"a frame of kind {frame.kind} that answers nothing")
                return outcomes, False
            if not channel.buffered:
                return outcomes, True

    def _answered(self, frame: Frame) -> Outcome:
        """The worker is through with the first item, and begins with the next one."""
        item = self.sent.popleft()
        item.lane = None
        self.bytes -= item.sent
        took = time.monotonic() - item.began
        self.seconds = took if self.seconds is None else (3 * self.seconds + took) / 4
        self.pool.stats.add(took)
        if self.sent:
            self._begin()
        try:
            value = answer_of(self.held, item, frame)
        except BaseException as error:
            return item, False, error
        item.size = len(frame.payload) + sum(map(len, frame.buffers))
        return item, True, value

    def lose(self) -> tuple[Item | None, list[Item]]:
        """The connection ended: the item that was running, and those that had not begun."""
        self._outbox.clear()
        back = self.take_back(AHEAD)
        running = self.sent.popleft() if self.sent else None
        if running is not None:
            running.lane = None
        back = [*self.sent, *back]  # where there are no turns, nothing could be taken back
        self.sent.clear()
        return running, back

    # --- time ------------------------------------------------------------------------------

    def _begin(self) -> None:
        head = self.sent[0]
        head.began = time.monotonic()
        head.timed_out = False
        self.held.container.calls += 1
        if self.pool.timeout is not None and not self._timed:
            self._watch_time(self.pool.timeout)

    def _watch_time(self, seconds: float) -> None:
        # One timer for the lane, that looks at what runs when it is due: not one for each item.
        self._timed = True
        look = functools.partial(self._tell, self._look_at_time)
        self.pool.monitor.later(seconds, look)

    def _look_at_time(self) -> None:
        self._timed = False
        head, timeout = self.head, self.pool.timeout
        if head is None or timeout is None:
            return
        left = head.began + timeout - time.monotonic()
        if left > 0:
            self._watch_time(left)
        else:
            self.pool.monitor.soon(head.expire)
