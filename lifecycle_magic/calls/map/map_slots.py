"""The slots that a map's pump holds, each with the items that were sent to it.

Items are sent ahead of the previous result, so that the worker finds the next one in its socket
when it is done: one ahead, or many if they are short. Items that have not begun can be taken back:
see `lifecycle_magic.wire.ticket_fifo`. Where they cannot, only short items are sent ahead: a long
one could wait behind a slow one while another container is idle.

Sends do not block: otherwise worker and pump could wait for each other with both sockets full.
"""

from __future__ import annotations

import functools
import socket
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.detached import lost_if_broken
from lifecycle_magic.calls.input import Input
from lifecycle_magic.calls.prompts import Prompt, handle
from lifecycle_magic.calls.reply import (
    LastReply,
    Reply,
    ReplyReader,
    Retry,
    Show,
    Value,
    receive,
    settle,
)
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frames import Frame, Kind

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["MAX_ITEMS_AHEAD", "Answer", "Item", "MapSlot", "Outcome"]

MAX_ITEMS_AHEAD = 64
"""Maximum number of items that a worker has, including the one that it works on."""

MAX_BYTES_AHEAD = 1 << 15  # their maximum size: well below the size of a socket's buffer
SHORT_ITEM_SECONDS = 0.005
"""Items that take longer than this many seconds are sent only one ahead."""


class Item(Input):
    """One input of a map.

    ``index`` is its place in the order. ``size`` is the memory that it takes in bytes, and in the
    end the memory of its answer. ``sent`` is the number of its bytes that went over a socket.
    """

    __slots__ = ("began", "index", "map_slot", "offered", "sent", "size")

    copies_buffers = True

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], index: int
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.index = index
        self.size = len(self.payload) + sum(memoryview(b).nbytes for b in self.buffers)
        self.map_slot: MapSlot | None = None
        self.sent = 0
        self.offered = False  # sent ahead: it needs a ticket to begin
        self.began = 0.0

    @property
    def started(self) -> float:
        return self.began

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        if self.map_slot is not None:
            self.map_slot.on_prompt(self, slot, prompt)

    def running_slot(self) -> Slot | None:
        map_slot = self.map_slot
        return map_slot.slot if map_slot is not None and map_slot.head is self else None


OnPrompt = Callable[[Item, Slot, Prompt], None]
"""Gets the prompts of the item that runs in a slot."""

Answer = tuple[Item, LastReply]
"""An item and the reply to it."""

Outcome = tuple[Item, bool, Any]
"""The outcome of an item: the item, whether it succeeded, and its value or exception."""


class MapSlot(Input):
    """A slot that a map holds, and the items that were sent to it and are not answered yet.

    All methods run on the pump's thread, except where a docstring says otherwise. ``tell`` runs a
    function on that thread: ``opened`` when the pool grants a slot, ``refused`` when it cannot.
    ``on_prompt`` gets what the running item asks the user.
    """

    __slots__ = (
        "_opened",
        "_outbox",
        "_refused",
        "_takes_one",
        "_tell",
        "_timed",
        "bytes",
        "closing",
        "on_prompt",
        "seconds",
        "sent",
        "to_skip",
    )

    blocks_thread = False
    counts_as_call = False  # its items do
    displaces_maps = False

    def __init__(
        self,
        pool: Pool,
        method: str,
        context: Context,
        tell: Callable[[Callable[[], None]], None],
        opened: Callable[[MapSlot], None],
        refused: Callable[[MapSlot, BaseException], None],
        on_prompt: OnPrompt,
    ) -> None:
        # Unlike other inputs, it has no arguments to pickle.
        self.id = 0
        self.pool = pool
        self.method = method
        self.slot = None
        self.error = None
        self.gate = None
        self.interrupts = 0
        self.timed_out = self.unsent = False
        self.attempts = self.lost_starts = 0
        self.context = context
        self.sent: deque[Item] = deque()  # in order; the worker runs the first one
        self.to_skip = (
            0  # items taken back, behind the sent ones; the worker still has to skip them
        )
        self.bytes = 0  # of the sent items
        self.seconds: float | None = None  # recent duration of an item
        self.closing = False
        self._outbox: deque[memoryview] = deque()
        self._takes_one = pool.limits.single_use
        self._timed = False  # its timer is set
        self._tell = tell
        self._opened = opened
        self._refused = refused
        self.on_prompt = on_prompt

    def granted(self, slot: Slot) -> None:
        self.slot = slot
        self._tell(lambda: self._opened(self))

    def refused(self, error: BaseException) -> None:
        self._tell(lambda: self._refused(self, error))

    @property
    def held(self) -> Slot:
        assert self.slot is not None
        return self.slot

    @property
    def head(self) -> Item | None:
        """Return the item that the worker runs. From any thread."""
        try:
            return self.sent[0]
        except IndexError:
            return None

    @property
    def is_idle(self) -> bool:
        """Return whether the slot is idle and open."""
        return not (self.sent or self.to_skip or self.closing)

    @property
    def is_done(self) -> bool:
        """Return whether the worker has finished everything that was sent to it."""
        return not (self.sent or self.to_skip)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        if self.head is not None:
            handle(self.head, slot, prompt)

    # --- sending ---------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Return how many items the slot may have now, including those that it has."""
        if self.closing or self.to_skip or self._outbox or self.bytes > MAX_BYTES_AHEAD:
            return 0
        if self._takes_one:
            return 1
        if self.seconds is not None and self.seconds <= SHORT_ITEM_SECONDS:
            return MAX_ITEMS_AHEAD
        return 2 if self.held.tickets is not None else 1

    def load(self, pending: deque[Item], most: int) -> list[Outcome]:
        """Take up to ``most`` items from the left of ``pending``, to be sent by the next `push`.

        Return the outcomes of those that are too large to be sent.
        """
        slot = self.held
        parts: list[Any] = []
        refused: list[Outcome] = []
        offers = 0
        while most and pending:
            item = pending[0]
            if self.sent and not self._accepts(item):
                break
            pending.popleft()
            # Without tickets nothing can be taken back, so the worker needs no ticket either.
            item.offered = bool(self.sent) and slot.tickets is not None
            kind = Kind.OFFER if item.offered else Kind.CALL
            try:
                frame = slot.channel.encode(kind, item.payload, item.buffers)
            except WireError as error:
                refused.append((item, False, error))
                continue
            parts += frame
            item.sent = sum(map(len, frame))
            item.slot, item.map_slot = slot, self
            self.sent.append(item)
            self.bytes += item.sent
            offers += item.offered
            if len(self.sent) == 1:
                self._begin()
            most -= 1
        if offers:
            assert slot.tickets is not None
            slot.tickets.put(offers)
        if all(len(part) < 4096 for part in parts):
            parts = [b"".join(parts)]  # several small parts are sent as one
        self._outbox.extend(memoryview(part).cast("B") for part in parts if len(part))
        return refused

    def _accepts(self, item: Item) -> bool:
        """Return whether the slot, which has an item already, may also have this one."""
        if self.held.channel.uses_segment(item.size, len(item.payload)):
            return len(self.sent) < 2  # few bytes on the wire, but each uses a memory segment
        return item.size <= MAX_BYTES_AHEAD and self.bytes <= MAX_BYTES_AHEAD

    def push(self) -> bool:
        """Send what the socket takes now. Return whether more is left."""
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
            outbox.clear()  # it has exited, which the read reports
        return bool(outbox)

    def take_back(self, most: int) -> list[Item]:
        """Take back up to ``most`` items that have not begun. Return the last ones, in order."""
        tickets = self.held.tickets
        offered = sum(1 for item in self.sent if item.offered)
        count = tickets.take(min(most, offered)) if tickets is not None else 0
        items = [self.sent.pop() for _ in range(count)]
        self.to_skip += count
        for item in items:
            self.bytes -= item.sent
            item.map_slot = item.slot = None
        return items[::-1]

    # --- receiving -------------------------------------------------------------------------

    def read(self) -> tuple[list[Answer], bool]:
        """Read every available frame. Return the answers, and whether more can follow."""
        answers: list[Answer] = []
        reader = _ItemReader(self)
        while True:
            reply = lost_if_broken(reader, receive(reader))
            if reply is None:
                return answers, False
            if type(reply) is Show:
                reader.show(reply, self.show_from_thread)
            elif type(reply) is Prompt:
                self.ask(self.held, reply)
            elif reader.item is None:
                self.to_skip -= 1
            else:
                if type(reply) is not Value:
                    settle(reader, reply)
                answers.append((reader.item, reply))
            if not self.held.channel.has_buffered:
                return answers, True

    def take_answered(self) -> Item | None:
        """Take the first item, which is answered, off the sent ones; the worker begins the next
        one.
        """
        if not self.sent:
            return None
        item = self.sent.popleft()
        item.map_slot = None
        self.bytes -= item.sent
        took = time.monotonic() - item.began
        self.seconds = took if self.seconds is None else (3 * self.seconds + took) / 4
        self.pool.stats.add(took)
        if self.sent:
            self._begin()
        return item

    def detach_items(self) -> tuple[Item | None, list[Item]]:
        """Detach the items after a lost connection. Return the running item, and those not
        begun.
        """
        self._outbox.clear()
        back = self.take_back(MAX_ITEMS_AHEAD)
        running = self.sent.popleft() if self.sent else None
        if running is not None:
            running.map_slot = None
        back = [*self.sent, *back]  # without tickets, nothing could be taken back
        self.sent.clear()
        return running, back

    # --- time ------------------------------------------------------------------------------

    def _begin(self) -> None:
        head = self.sent[0]
        head.began = time.monotonic()
        head.timed_out = False
        self.held.container.calls += 1
        if self.pool.timeout is not None and not self._timed:
            self._start_timer(self.pool.timeout)

    def _start_timer(self, seconds: float) -> None:
        # One timer for the slot, which checks what runs when it fires, instead of one for each
        # item.
        self._timed = True
        look = functools.partial(self._tell, self._check_time)
        self.pool.event_loop.call_later(seconds, look)

    def _check_time(self) -> None:
        self._timed = False
        head, timeout = self.head, self.pool.timeout
        if head is None or timeout is None:
            return
        left = head.began + timeout - time.monotonic()
        if left > 0:
            self._start_timer(left)
        else:
            self.pool.event_loop.call_soon(head.expire)


class _ItemReader(ReplyReader):
    """The meaning of the frames that a map's slot sends, one answer for each item.

    ``item`` is the one that the last frame answers: None if that item was taken back.
    """

    __slots__ = ("_map_slot", "item")

    def __init__(self, map_slot: MapSlot) -> None:
        super().__init__(map_slot, map_slot.held)
        self._map_slot = map_slot
        self.item: Item | None = None

    def read(self, frame: Frame) -> Reply:
        if frame.kind in (Kind.OUTPUT, Kind.PROMPT):
            return super().read(frame)
        # Before the value is rebuilt, which is not the method's time.
        item = self.item = self._map_slot.take_answered()
        if item is not None:
            self.input = item
            reply = super().read(frame)
            if type(reply) is Value:
                item.size = len(frame.payload) + sum(map(len, frame.buffers))
            return reply
        if frame.kind == Kind.SKIPPED:
            return Retry(is_counted=False)
        return self.broken(f"a frame of kind {frame.kind} that answers nothing", is_lost=True)
