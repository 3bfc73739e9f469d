"""The pump of a map: it keeps every slot that it can get busy with the map's inputs.

A slot that the pump holds is a `Lane`. Inputs are sent ahead of the result of the one before, so
that the worker finds the next one in its socket when it is done: one ahead, or many if they are
short. When a lane has nothing to do while others have inputs that have not begun, it gets some of
theirs: see `lifecycle_magic.wire.turns` for how an input is taken back. Where none can be taken
back only short ones are sent ahead, lest one waits behind a slow one while another container
idles.

All of it happens on one thread. Sends do not block: worker and pump could otherwise wait for each
other with both sockets full.
"""

from __future__ import annotations

import functools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls import answer_of
from lifecycle_magic.exception import WireError
from lifecycle_magic.inputs import Input, Unstarted, interrupt
from lifecycle_magic.slots import Slot
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import output

if TYPE_CHECKING:
    from lifecycle_magic.pool import Pool

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


class Lane(Input):
    """A slot that the pump holds, and the items that were sent to it and not yet answered."""

    __slots__ = ("_pump", "bytes", "closing", "outbox", "seconds", "sent", "timed", "void")

    counts = False  # its items do
    shares = False

    def __init__(self, pump: Pump) -> None:
        self.id = 0
        self.pool = pump.pool
        self.method = pump.method
        self.slot = None
        self.error = None
        self.gate = None
        self.interrupts = 0
        self.timed_out = self.unsent = False
        self.attempts = self.unstarted = 0
        self.context = pump.context
        self.sent: deque[Item] = deque()  # in order; the worker is at the first one
        self.void = 0  # taken back, behind those; the worker has still to skip them
        self.bytes = 0  # of what was sent
        self.outbox: deque[memoryview] = deque()
        self.seconds: float | None = None  # what an item takes, of late
        self.closing = False
        self.timed = False  # its time is being watched
        self._pump = pump

    def grant(self, slot: Slot) -> None:
        self.slot = slot
        self._pump.tell(lambda: self._pump.open_lane(self))

    def refuse(self, error: BaseException) -> None:
        self._pump.tell(lambda: self._pump.no_lane(self, error))

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
    def room(self) -> int:
        """How many items it may have now, those that it has included."""
        if self.closing or self.void or self.outbox or self.bytes > AHEAD_BYTES:
            return 0
        if self.seconds is not None and self.seconds <= SHORT:
            return AHEAD
        return 2 if self.held.turns is not None else 1

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


class Pump:
    """Runs items until it is told that there are no more, or is closed.

    ``deliver`` gets what came of some items: each with whether it went well, and its value or
    exception. ``fail`` hears that no container comes up. Both are called on the pump's thread.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        context: Context,
        deliver: Callable[[list[tuple[Item, bool, Any]]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.pool = pool
        self.method = method
        self.context = context
        self._deliver = deliver
        self._fail = fail
        self._ended = False
        self._closed = False
        self._pending: deque[Item] = deque()
        self._lanes: list[Lane] = []
        self._asking: set[Lane] = set()
        self._held = 0  # what is not there and will come back: retries, last words
        self._told: deque[Callable[[], None]] = deque()
        self._woken = False  # a byte lies in the socket, so the loop will look at what it was told
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_w.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        threading.Thread(target=self._run, name=f"{pool.name}-map", daemon=True).start()

    # --- from any thread -------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """One more item."""
        self.tell(lambda: self._pending.append(item))

    def end(self) -> None:
        """There are no more items."""
        self._ended = True
        self.tell(lambda: None)

    def close(self) -> None:
        """Nothing more is wanted: what runs is interrupted, what waits is dropped."""
        self._closed = True
        self.tell(lambda: None)

    def tell(self, what: Callable[[], None]) -> None:
        """Have the pump's thread do something."""
        self._told.append(what)
        if self._woken:
            return  # it will look there: it clears this before
        self._woken = True
        try:
            self._wake_w.send(b"\0")
        except OSError:
            pass  # awake already, or through

    # --- the loop --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            # Nobody is left to read from those: better a map that ends than one that hangs.
            for lane in self._lanes:
                lane.held.container.abandon(f"a map broke: {error!r}")
            self._fail(error)
        finally:
            self._selector.close()
            self._wake_r.close()
            self._wake_w.close()

    def _loop(self) -> None:
        while not self._through():
            for key, events in self._selector.select():
                if key.data is None:
                    self._wake_r.recv(4096)
                    self._woken = False
                    continue
                if events & selectors.EVENT_WRITE:
                    self._push(key.data)
                if events & selectors.EVENT_READ:
                    self._read(key.data)
            while self._told:
                self._told.popleft()()
            self._look_at_lanes()
            if self._closed:
                self._wind_up()
            else:
                self._spread()
            for lane in [lane for lane in self._lanes if not (lane.sent or lane.void)]:
                if lane.closing or not self._pending:
                    self._close_lane(lane)
            if not self._closed:
                self._ask()

    def _through(self) -> bool:
        """Whether nothing is left to do, now or later."""
        if not (self._closed or self._ended):  # first: what was put before the end is seen below
            return False
        return not (self._lanes or self._asking or self._held or self._pending or self._told)

    def _look_at_lanes(self) -> None:
        """Give up those that somebody else needs, as soon as what runs there has ended."""
        for lane in self._lanes:
            if not lane.closing and not self.pool.keeps(lane.held):
                lane.closing = True
                self._pending.extendleft(reversed(lane.take_back(AHEAD)))

    def _wind_up(self) -> None:
        """Closed: drop what waits, interrupt what runs."""
        self._pending.clear()
        self._asking = {lane for lane in self._asking if not self.pool.forget(lane)}
        for lane in self._lanes:
            lane.closing = True
            lane.take_back(AHEAD)
            head = lane.head
            if head is not None and not head.interrupts:
                head.interrupts = 1
                self.pool.monitor.soon(functools.partial(interrupt, head))

    def _ask(self) -> None:
        """Ask for a slot for each item that waits, as far as the pool has or may have them."""
        waiting = len(self._pending) + sum(max(len(lane.sent) - 1, 0) for lane in self._lanes)
        wanted = min(waiting, self.pool.capacity - len(self._lanes))
        while len(self._asking) < wanted:
            lane = Lane(self)
            self._asking.add(lane)
            self.pool.submit(lane)

    # --- sending ---------------------------------------------------------------------------

    def _spread(self) -> None:
        """Give every lane what it has room for: first one to each that has none, then more."""
        free = [lane for lane in self._lanes if lane.free]
        while len(self._pending) < len(free):
            richest = max(self._lanes, key=lambda lane: len(lane.sent))
            back = richest.take_back(len(richest.sent) // 2)
            if not back:
                break
            self._pending.extendleft(reversed(back))
        if not self._pending:
            return
        lanes = sorted(self._lanes, key=lambda lane: len(lane.sent))
        rest = len(self._pending) - len(free)
        for index, lane in enumerate(lanes):
            first = 1 if lane.free else 0
            more = min(lane.room - len(lane.sent) - first, -(-rest // (len(lanes) - index)))
            more = max(more, 0)
            rest -= more
            if first + more:
                self._send(lane, first + more)

    def _send(self, lane: Lane, most: int) -> None:
        """Put up to ``most`` items into the lane. Several small ones leave in one system call."""
        slot = lane.held
        parts: list[Any] = []
        offers = 0
        while most and self._pending:
            item = self._pending[0]
            if lane.sent and not self._has_room(lane, item):
                break
            self._pending.popleft()
            # Without turns nothing can be taken back, so nothing has to be asked for.
            item.offered = bool(lane.sent) and slot.turns is not None
            kind = Kind.OFFER if item.offered else Kind.CALL
            try:
                frame = slot.channel.encode(kind, item.payload, item.buffers)
            except WireError as error:  # it is too large
                self._fail_alone(item, error)
                continue
            parts += frame
            item.sent = sum(map(len, frame))
            item.slot, item.lane = slot, lane
            lane.sent.append(item)
            lane.bytes += item.sent
            offers += item.offered
            if len(lane.sent) == 1:
                self._begins(lane)
            most -= 1
        if offers:
            assert slot.turns is not None
            slot.turns.give(offers)
        if all(len(part) < 4096 for part in parts):
            parts = [b"".join(parts)]
        lane.outbox.extend(memoryview(part).cast("B") for part in parts if len(part))
        self._push(lane)

    def _has_room(self, lane: Lane, item: Item) -> bool:
        """Whether the lane, which has something to do, may have this item too."""
        if lane.held.channel.by_segment(item.size, len(item.payload)):
            return len(lane.sent) < 2  # little on the wire, but each takes memory of its own
        return item.size <= AHEAD_BYTES and lane.bytes <= AHEAD_BYTES

    def _fail_alone(self, item: Item, error: BaseException) -> None:
        self.pool.stats.failures += 1
        item.size = 0
        self._deliver([(item, False, error)])

    def _begins(self, lane: Lane) -> None:
        head = lane.sent[0]
        head.began = time.monotonic()
        head.timed_out = False
        lane.held.container.calls += 1
        if self.pool.timeout is not None and not lane.timed:
            self._watch_time(lane, self.pool.timeout)

    def _watch_time(self, lane: Lane, seconds: float) -> None:
        # One timer for the lane, that looks at what runs when it is due: not one for each item.
        lane.timed = True
        self.pool.monitor.later(seconds, lambda: self.tell(lambda: self._look_at_time(lane)))

    def _look_at_time(self, lane: Lane) -> None:
        lane.timed = False
        head, timeout = lane.head, self.pool.timeout
        if head is None or timeout is None or lane not in self._lanes:
            return
        left = head.began + timeout - time.monotonic()
        if left > 0:
            self._watch_time(lane, left)
        else:
            self.pool.monitor.soon(head.expire)

    def _push(self, lane: Lane) -> None:
        """Send of the outbox what the socket takes now."""
        sock = lane.held.channel.sock
        try:
            while lane.outbox:
                batch = [lane.outbox[i] for i in range(min(len(lane.outbox), 512))]
                sent = sock.sendmsg(batch, [], socket.MSG_DONTWAIT)
                while sent and sent >= lane.outbox[0].nbytes:
                    sent -= lane.outbox.popleft().nbytes
                if sent:
                    lane.outbox[0] = lane.outbox[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            lane.outbox.clear()  # it is gone; reading says so
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if lane.outbox else 0)
        if self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events, lane)

    # --- receiving -------------------------------------------------------------------------

    def _read(self, lane: Lane) -> None:
        """Take every frame that is there."""
        if lane not in self._lanes:
            return
        channel = lane.held.channel
        done: list[tuple[Item, bool, Any]] = []
        while True:
            try:
                frame = channel.receive()
                if frame is not None and frame.kind == Kind.OUTPUT:
                    lane.show_from_elsewhere(*output(frame.payload))
            except OSError as error:
                if isinstance(error, WireError):
                    lane.held.container.broke(str(error))
                frame = None
            if frame is None:
                self._lost(lane)
                break
            if frame.kind == Kind.OUTPUT:
                pass
            elif frame.kind == Kind.SKIPPED and not lane.sent:
                lane.void -= 1
            elif not lane.sent:
                lane.held.container.broke(f"a frame of kind {frame.kind} that answers nothing")
                self._lost(lane)
                break
            else:
                self._answered(lane, frame, done)
            if not channel.buffered:
                break
        if done:
            self._deliver(done)

    def _answered(self, lane: Lane, frame: Frame, done: list[tuple[Item, bool, Any]]) -> None:
        item = self._next(lane)
        now = time.monotonic()
        took = now - item.began
        lane.seconds = took if lane.seconds is None else (3 * lane.seconds + took) / 4
        self.pool.stats.add(took)
        if lane.sent:
            self._begins(lane)
        try:
            value = answer_of(lane.held, item, frame)
        except BaseException as error:
            self._failed(item, error, done)
        else:
            item.size = len(frame.payload) + sum(map(len, frame.buffers))
            done.append((item, True, value))

    def _next(self, lane: Lane) -> Item:
        """The worker is through with the first item."""
        item = lane.sent.popleft()
        item.lane = None
        lane.bytes -= item.sent
        return item

    def _failed(self, item: Item, error: BaseException, done: list[tuple[Item, bool, Any]]) -> None:
        if isinstance(error, Unstarted):
            self._pending.appendleft(item)
            return
        delay = None if self._closed else item.delay(error)
        if delay is None:
            self.pool.stats.failures += 1
            item.size = 0
            done.append((item, False, error))
        else:
            self._held += 1
            self.pool.monitor.later(delay, lambda: self.tell(lambda: self._again(item)))

    def _again(self, item: Item) -> None:
        self._held -= 1
        self._pending.appendleft(item)

    # --- lanes -----------------------------------------------------------------------------

    def open_lane(self, lane: Lane) -> None:
        """On the pump's thread: the pool granted one of the slots that were asked for."""
        self._asking.discard(lane)
        self._selector.register(lane.held.channel, selectors.EVENT_READ, lane)
        self._lanes.append(lane)

    def no_lane(self, lane: Lane, error: BaseException) -> None:
        """No container comes up. If there is none at all, that is the end of the map."""
        self._asking.discard(lane)
        if not self._lanes:
            self._pending.clear()
            self._fail(error)

    def _close_lane(self, lane: Lane) -> None:
        self._lanes.remove(lane)
        self._selector.unregister(lane.held.channel)
        self.pool.release(lane.held)

    def _lost(self, lane: Lane) -> None:
        """The connection ended: the first item was running, those behind it had not begun."""
        slot = lane.held
        slot.container.hung_up()
        self._lanes.remove(lane)
        self._selector.unregister(slot.channel)
        lane.outbox.clear()
        self._held += 1
        back = lane.take_back(AHEAD)
        running = self._next(lane) if lane.sent else None
        back = [*lane.sent, *back]  # where there are no turns, nothing could be taken back
        lane.sent.clear()
        self._pending.extendleft(reversed(back))

        def bury() -> None:
            error = running.lost(slot) if running is not None else None
            self.tell(lambda: self._buried(slot, running, error))

        threading.Thread(target=bury, name=f"{self.pool.name}-bury", daemon=True).start()

    def _buried(self, slot: Slot, running: Item | None, error: BaseException | None) -> None:
        self._held -= 1
        self.pool.release(slot)
        done: list[tuple[Item, bool, Any]] = []
        if running is not None and error is not None:
            self._failed(running, error, done)
        if done:
            self._deliver(done)
