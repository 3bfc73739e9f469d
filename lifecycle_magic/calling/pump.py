"""The pump of a map: it keeps every slot that it can get busy with the map's inputs.

A slot that the pump holds is a `lifecycle_magic.calling.lanes.Lane`, which knows what it was sent
and what came of that. The pump decides who gets what: it asks the pool for lanes, gives each what
it has room for, and when one has nothing to do while others have inputs that have not begun, it
gets some of theirs. What failed and may be tried again comes to it once more.

All of it happens on one thread.
"""

from __future__ import annotations

import functools
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.lanes import AHEAD, Item, Lane, Outcome
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.pools.inputs import Unstarted, interrupt

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool


class Pump:
    """Runs items until it is told that there are no more, or is closed.

    On the thread that puts an input, ``count`` gets its index and its size before anything can come
    of it. On the pump's own, ``settle`` gets what came of some: of each its index, whether it went
    well, its value or exception, and the size of that; ``fail`` hears that no container comes up.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        context: Context,
        count: Callable[[int, int], None],
        settle: Callable[[list[tuple[int, bool, Any, int]]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.pool = pool
        self.method = method
        self.context = context
        self._count = count
        self._settle = settle
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

    def put(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """One more input. Raises `SerializationError`, uncounted, if it can't be pickled."""
        item = Item(self.pool, self.method, args, kwargs, index)
        self._count(index, item.size)
        self.tell(functools.partial(self._pending.append, item))

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
            for lane in [lane for lane in self._lanes if lane.over]:
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
        """Put up to ``most`` items into the lane."""
        refused = lane.load(self._pending, most)
        if refused:
            for item, _, _ in refused:
                self._give_up(item)
            self._deliver(refused)
        self._push(lane)

    def _push(self, lane: Lane) -> None:
        """Send what the lane's socket takes now, and the rest when it takes more."""
        more = lane.push()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
        sock = lane.held.channel
        if self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events, lane)

    # --- receiving -------------------------------------------------------------------------

    def _read(self, lane: Lane) -> None:
        if lane not in self._lanes:
            return
        outcomes, connected = lane.read()
        done = [one for one in outcomes if one[1] or not self._comes_again(one[0], one[2])]
        if not connected:
            self._lost(lane)
        if done:
            self._deliver(done)

    def _comes_again(self, item: Item, error: BaseException) -> bool:
        """Whether an item that failed is to be tried once more; then it will be."""
        if isinstance(error, Unstarted):
            self._pending.appendleft(item)
            return True
        delay = None if self._closed else item.delay(error)
        if delay is None:
            self._give_up(item)
            return False
        self._held += 1
        self.pool.monitor.later(delay, lambda: self.tell(lambda: self._again(item)))
        return True

    def _deliver(self, outcomes: list[Outcome]) -> None:
        self._settle([(item.index, well, value, item.size) for item, well, value in outcomes])

    def _again(self, item: Item) -> None:
        self._held -= 1
        self._pending.appendleft(item)

    def _give_up(self, item: Item) -> None:
        self.pool.stats.failures += 1
        item.size = 0

    # --- lanes -----------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask for a slot for each item that waits, as far as the pool has or may have them."""
        waiting = len(self._pending) + sum(max(len(lane.sent) - 1, 0) for lane in self._lanes)
        wanted = min(waiting, self.pool.capacity - len(self._lanes))
        while len(self._asking) < wanted:
            lane = Lane(
                self.pool, self.method, self.context, self.tell, self._open_lane, self._no_lane
            )
            self._asking.add(lane)
            self.pool.submit(lane)

    def _open_lane(self, lane: Lane) -> None:
        """The pool granted one of the slots that were asked for."""
        self._asking.discard(lane)
        self._selector.register(lane.held.channel, selectors.EVENT_READ, lane)
        self._lanes.append(lane)

    def _no_lane(self, lane: Lane, error: BaseException) -> None:
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
        """The connection ended. How it went may take a moment to be told, and no other lane waits
        for that.
        """
        slot = lane.held
        slot.container.hung_up()
        self._lanes.remove(lane)
        self._selector.unregister(slot.channel)
        running, back = lane.lose()
        self._pending.extendleft(reversed(back))
        self._held += 1

        def bury() -> None:
            error = running.lost(slot) if running is not None else None
            self.tell(lambda: self._buried(slot, running, error))

        threading.Thread(target=bury, name=f"{self.pool.name}-bury", daemon=True).start()

    def _buried(self, slot: Slot, running: Item | None, error: BaseException | None) -> None:
        self._held -= 1
        self.pool.release(slot)
        if running is not None and error is not None and not self._comes_again(running, error):
            self._deliver([(running, False, error)])
