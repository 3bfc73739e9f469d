"""The pump of a map, which keeps every available slot busy with the map's inputs.

A slot that the pump holds is a `lifecycle_magic.calls.map.map_slots.MapSlot`, which knows the items
that were sent to it and their outcomes. The pump distributes the items. It requests slots from the
pool and gives each as many items as it has room for. When a slot is idle while others have items
that have not begun, the idle slot gets some of theirs. A failed item that may be retried is queued
again.

All of it runs on one thread.
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

from lifecycle_magic.calls.input import interrupt
from lifecycle_magic.calls.map.map_slots import MAX_ITEMS_AHEAD, Item, MapSlot, OnPrompt, Outcome
from lifecycle_magic.calls.reply import Raise, ReplyReader, Retry, Value, explain_loss, settle
from lifecycle_magic.container.endings import DISCONNECTED, Ending, EndKind
from lifecycle_magic.container.slots import Slot

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool


class Pump:
    """A pump that runs items until their end, or until it is closed.

    On the thread that puts an input, ``count`` gets its index and its size before it can have an
    outcome. On the pump's own thread, ``settle`` gets outcomes: of each item its index, whether it
    succeeded, its value or exception, and the size of that. ``fail`` gets the error if no container
    starts, ``on_prompt`` what a running item asks the user.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        context: Context,
        count: Callable[[int, int], None],
        settle: Callable[[list[tuple[int, bool, Any, int]]], None],
        fail: Callable[[BaseException], None],
        on_prompt: OnPrompt,
    ) -> None:
        self.pool = pool
        self.method = method
        self.context = context
        self._count = count
        self._settle = settle
        self._fail = fail
        self._on_prompt = on_prompt
        self._ended = False
        self._closed = False
        self._pending: deque[Item] = deque()
        self._slots: list[MapSlot] = []
        self._requested: set[MapSlot] = set()
        self._held = 0  # what will be queued again: retries, and items of a lost connection
        self._posted: deque[Callable[[], None]] = deque()
        # a byte is in the socket, so the loop is about to run the posted functions
        self._woken = False
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_w.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        threading.Thread(target=self._run, name=f"{pool.name}-map", daemon=True).start()

    # --- from any thread -------------------------------------------------------------------

    def put(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add one input. Raises `SerializationError`, without counting it, if it cannot be
        pickled.
        """
        item = Item(self.pool, self.method, args, kwargs, index)
        self._count(index, item.size)
        self.post(functools.partial(self._pending.append, item))

    def end(self) -> None:
        """Record that there are no more items."""
        self._ended = True
        self.post(lambda: None)

    def close(self) -> None:
        """Cancel the map: interrupt what runs and drop what waits."""
        self._closed = True
        self.post(lambda: None)

    def post(self, what: Callable[[], None]) -> None:
        """Run a function on the pump's thread."""
        self._posted.append(what)
        if self._woken:
            return  # the loop clears this before it runs the functions
        self._woken = True
        try:
            self._wake_w.send(b"\0")
        except OSError:
            pass  # it is awake already, or has ended

    # --- the loop --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            # Nothing reads from these slots any more: a map that ends is better than one that
            # hangs.
            for slot in self._slots:
                slot.held.container.end(Ending(EndKind.KILL, f"a map broke: {error!r}"))
            self._fail(error)
        finally:
            self._selector.close()
            self._wake_r.close()
            self._wake_w.close()

    def _loop(self) -> None:
        while not self._is_finished():
            for key, events in self._selector.select():
                if key.data is None:
                    self._wake_r.recv(4096)
                    self._woken = False
                    continue
                if events & selectors.EVENT_WRITE:
                    self._push(key.data)
                if events & selectors.EVENT_READ:
                    self._read(key.data)
            while self._posted:
                self._posted.popleft()()
            self._release_needed_slots()
            if self._closed:
                self._cancel_all()
            else:
                self._distribute()
            for slot in [slot for slot in self._slots if slot.is_done]:
                if slot.closing or not self._pending:
                    self._release_slot(slot)
            if not self._closed:
                self._request_slots()

    def _is_finished(self) -> bool:
        """Return whether nothing is left to do, now or later."""
        # checked first: what was put before the end is seen below
        if not (self._closed or self._ended):
            return False
        return not (self._slots or self._requested or self._held or self._pending or self._posted)

    def _release_needed_slots(self) -> None:
        """Stop using slots that other callers need, as soon as what runs there has ended."""
        for slot in self._slots:
            if not slot.closing and not self.pool.can_keep(slot.held):
                slot.closing = True
                self._pending.extendleft(reversed(slot.take_back(MAX_ITEMS_AHEAD)))

    def _cancel_all(self) -> None:
        """Drop what waits and interrupt what runs, after `close`."""
        self._pending.clear()
        self._requested = {slot for slot in self._requested if not self.pool.withdraw(slot)}
        for slot in self._slots:
            slot.closing = True
            slot.take_back(MAX_ITEMS_AHEAD)
            head = slot.head
            if head is not None and not head.interrupts:
                head.interrupts = 1
                self.pool.event_loop.call_soon(functools.partial(interrupt, head))

    # --- sending ---------------------------------------------------------------------------

    def _distribute(self) -> None:
        """Give every slot what it has room for: first one item to each idle slot, then more."""
        free = [slot for slot in self._slots if slot.is_idle]
        while len(self._pending) < len(free):
            richest = max(self._slots, key=lambda slot: len(slot.sent))
            back = richest.take_back(len(richest.sent) // 2)
            if not back:
                break
            self._pending.extendleft(reversed(back))
        if not self._pending:
            return
        lanes = sorted(self._slots, key=lambda slot: len(slot.sent))
        rest = len(self._pending) - len(free)
        for index, slot in enumerate(lanes):
            first = 1 if slot.is_idle else 0
            more = min(slot.room - len(slot.sent) - first, -(-rest // (len(lanes) - index)))
            more = max(more, 0)
            rest -= more
            if first + more:
                self._send(slot, first + more)

    def _send(self, slot: MapSlot, most: int) -> None:
        """Put up to ``most`` items into the slot."""
        refused = slot.load(self._pending, most)
        if refused:
            for item, _, _ in refused:
                self._give_up(item)
            self._deliver(refused)
        self._push(slot)

    def _push(self, slot: MapSlot) -> None:
        """Send what the slot's socket takes now, and the rest when it takes more."""
        more = slot.push()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
        sock = slot.held.channel
        if self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events, slot)

    # --- receiving -------------------------------------------------------------------------

    def _read(self, slot: MapSlot) -> None:
        if slot not in self._slots:
            return
        answers, connected = slot.read()
        done: list[Outcome] = []
        for item, reply in answers:
            if isinstance(reply, Value):
                done.append((item, True, reply.value))
            elif not self._retry(item, reply):
                assert isinstance(reply, Raise)
                done.append((item, False, reply.error))
        if not connected:
            self._on_connection_lost(slot)
        if done:
            self._deliver(done)

    def _retry(self, item: Item, reply: Raise | Retry) -> bool:
        """Queue an item that failed again, if it may be retried. Return whether it may."""
        if isinstance(reply, Retry):
            self._pending.appendleft(item)
            return True
        delay = None if self._closed else item.count_failure(reply.error)
        if delay is None:
            self._give_up(item)
            return False
        self._held += 1
        self.pool.event_loop.call_later(delay, lambda: self.post(lambda: self._again(item)))
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

    def _request_slots(self) -> None:
        """Request a slot for each waiting item, up to the pool's capacity."""
        waiting = len(self._pending) + sum(max(len(slot.sent) - 1, 0) for slot in self._slots)
        wanted = min(waiting, self.pool.limits.capacity - len(self._slots))
        while len(self._requested) < wanted:
            slot = MapSlot(
                self.pool,
                self.method,
                self.context,
                self.post,
                self._add_slot,
                self._on_refused,
                self._on_prompt,
            )
            self._requested.add(slot)
            self.pool.submit(slot)

    def _add_slot(self, slot: MapSlot) -> None:
        """Add a slot that the pool has granted."""
        self._requested.discard(slot)
        self._selector.register(slot.held.channel, selectors.EVENT_READ, slot)
        self._slots.append(slot)

    def _on_refused(self, slot: MapSlot, error: BaseException) -> None:
        """Handle a refused slot: no container starts. If the map holds no slot, the map fails."""
        self._requested.discard(slot)
        if not self._slots:
            self._pending.clear()
            self._fail(error)

    def _release_slot(self, slot: MapSlot) -> None:
        self._slots.remove(slot)
        self._selector.unregister(slot.held.channel)
        self.pool.release(slot.held)

    def _on_connection_lost(self, lost: MapSlot) -> None:
        """Handle a lost connection.

        Finding its cause may take a moment, during which the other slots continue.
        """
        slot = lost.held
        slot.container.end(DISCONNECTED)
        self._slots.remove(lost)
        self._selector.unregister(slot.channel)
        running, back = lost.detach_items()
        self._pending.extendleft(reversed(back))
        self._held += 1

        def find_cause() -> None:
            cause = None
            if running is not None:
                reader = ReplyReader(running, slot)
                cause = (running, explain_loss(reader))
                settle(reader, cause[1])
            self.post(lambda: self._on_cause_found(slot, cause))

        threading.Thread(target=find_cause, name=f"{self.pool.name}-lost", daemon=True).start()

    def _on_cause_found(self, slot: Slot, cause: tuple[Item, Raise | Retry] | None) -> None:
        self._held -= 1
        self.pool.release(slot)
        if cause is None:
            return
        item, reply = cause
        if not self._retry(item, reply):
            assert isinstance(reply, Raise)
            self._deliver([(item, False, reply.error)])
