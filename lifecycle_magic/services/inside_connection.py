"""One container's connection for the calls that it makes.

Two threads serve it: one reads, one writes. Calls run as every other input of their pool does, and
their answers come from the session's loop for replies.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls import circles
from lifecycle_magic.calls.batching import Batcher
from lifecycle_magic.calls.forwarded import (
    ForwardedAnswer,
    ForwardedCall,
    ForwardedFailure,
    ForwardedItems,
)
from lifecycle_magic.calls.generators import items_of
from lifecycle_magic.calls.input import Input
from lifecycle_magic.container.container import Container
from lifecycle_magic.exception import InvalidError, WireError
from lifecycle_magic.guest.failures import to_failure
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.nested import (
    ADDRESS,
    ITEMS,
    REMOTE,
    SPAWN,
    Ask,
    number_of,
    pack_number,
    read_ask,
)
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.spec.class_spec import MethodSpec

__all__ = ["InsideConnection"]

Sent = tuple[int, bytes, tuple[Any, ...]]  # kind, payload, buffers


def _caller(container: Container, slot: int) -> Input | None:
    """Return the call that runs in a slot of ``container``, or None."""
    slots = container.slots
    input = slots[slot].input if 0 <= slot < len(slots) else None
    return input if isinstance(input, Input) else None


def _context(container: Container, caller: Input | None) -> Context:
    """Return the context in which the output of a call is shown: its caller's.

    A thread that belongs to no call has the context of any call that runs there.
    """
    running = [caller, *(one.input for one in container.slots)]
    found = next((one for one in running if isinstance(one, Input)), None)
    return found.context if found is not None else copy_context()


class InsideConnection:
    """An admitted connection of ``container``. ``find`` returns a service by its key."""

    def __init__(
        self, channel: Channel, container: Container, find: Callable[[str], Service]
    ) -> None:
        self._channel = channel
        self._container = container
        self._find = find
        self._outgoing: SimpleQueue[Sent | None] = SimpleQueue()
        self._pools: dict[tuple[str, bytes], Pool] = {}
        self._running: dict[int, _Running] = {}
        self._abandoned: set[int] = set()  # before they were submitted
        self._looking: set[int] = set()  # calls whose pool is looked up on a thread
        self._awaited: set[int] = set()  # spawned calls, before they were submitted
        self._is_over = False
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Serve the container's calls until the connection ends."""
        writer = threading.Thread(target=self._write, name="lifecycle-answers", daemon=True)
        writer.start()
        try:
            while (frame := self._channel.receive()) is not None:
                self._on_frame(frame)
                del frame
        except OSError:
            pass
        finally:
            self._outgoing.put(None)
            writer.join()
            self._channel.close()
            with self._lock:
                self._is_over = True
                running = list(self._running.values())
            for one in running:
                if one.ends_with_caller:
                    one.abandon()

    def shut_down(self) -> None:
        """End the connection. On any thread."""
        with contextlib.suppress(OSError):
            self._channel.sock.shutdown(2)

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        self._channel.close()

    def _write(self) -> None:
        while (one := self._outgoing.get()) is not None:
            kind, payload, buffers = one
            try:
                self._channel.send(kind, payload, buffers)
            except WireError as error:
                self._channel.send(Kind.FAILURE, payload, _failure(error))
            except OSError:
                pass  # the reader ends, too
            del one, buffers

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == Kind.ASK:
            ask = read_ask(frame.payload)
            if not frame.buffers:
                raise WireError("a call without arguments")
            data, *buffers = frame.buffers
            self._start(ask, data, buffers)
        elif frame.kind == Kind.ABANDON:
            self._abandon(number_of(frame.payload))
        elif frame.kind == Kind.AWAIT:
            self._await(number_of(frame.payload))
        elif frame.kind == Kind.NEXT:
            running = self._running.get(number_of(frame.payload))
            if isinstance(running, _Items):
                running.wanted.put(True)
        else:
            raise WireError(f"a frame of kind {frame.kind} from inside a container")

    # --- calls -----------------------------------------------------------------------------

    def _start(self, ask: Ask, data: Any, buffers: list[Any]) -> None:
        caller = _caller(self._container, ask.slot)
        pool = self._pools.get((ask.key, ask.arguments))
        if pool is not None and not pool.stale and ask.form != ADDRESS:
            self._submit(ask, data, buffers, caller, pool)
            return
        with self._lock:
            self._looking.add(ask.number)

        def look_up() -> None:
            try:
                service = self._find(ask.key)
                args, kwargs = loads(ask.arguments)
                if ask.form == ADDRESS:
                    url = service.address(ask.method, args, kwargs).url
                    self._put(Kind.RESULT, ask.number, _pickled(url))
                    return
                found = self._pools[ask.key, ask.arguments] = service.pool(args, kwargs)
            except BaseException as error:
                self._fail(ask.number, error)
            else:
                self._submit(ask, data, buffers, caller, found)
            finally:
                with self._lock:
                    self._looking.discard(ask.number)
                    self._abandoned.discard(ask.number)

        # An image may have to be built first, which takes its time.
        context = _context(self._container, caller).copy()
        threading.Thread(
            target=context.run, args=(look_up,), name="lifecycle-inside-start", daemon=True
        ).start()

    def _submit(
        self, ask: Ask, data: Any, buffers: list[Any], caller: Input | None, pool: Pool
    ) -> None:
        context = _context(self._container, caller)
        running: _Call | _Items
        try:
            method = _checked(ask, pool)
            if method.batched:
                self._submit_batched(ask, method, pool, loads(data, buffers=buffers), context)
                return
            if ask.form == ITEMS:
                stream = ForwardedItems(pool, ask.method, data, buffers, context)
                running = _Items(stream, self, ask.number, caller)
            else:
                input = ForwardedCall(pool, ask.method, data, buffers, context)
                running = _Call(input, ask.form != SPAWN, caller)
            if ask.form != SPAWN:
                circles.add(caller, running.input)
        except BaseException as error:
            self._fail(ask.number, error)
            return
        with self._lock:
            is_wanted = ask.number not in self._abandoned and not (
                self._is_over and running.ends_with_caller
            )
            if is_wanted:
                self._running[ask.number] = running
            awaited = ask.number in self._awaited
            self._awaited.discard(ask.number)
        if not is_wanted:
            circles.remove(caller, running.input)
            return
        if isinstance(running, _Call):
            running.input.future.add_done_callback(lambda done: self._answer(ask.number, done))
        running.start()
        if awaited:
            self._await(ask.number)

    def _submit_batched(
        self, ask: Ask, method: MethodSpec, pool: Pool, given: Any, context: Context
    ) -> None:
        """Add an input to a batch. Batches are made of values, so their types must exist here."""
        args, kwargs = given
        running = _Batched(context.copy().run(Batcher.of(pool, method).submit, args, kwargs))
        with self._lock:
            self._running[ask.number] = running
        running.future.add_done_callback(lambda done: self._answer(ask.number, done))

    def _abandon(self, number: int) -> None:
        with self._lock:
            running = self._running.get(number)
            if running is None and number in self._looking:
                self._abandoned.add(number)
        if running is not None:
            running.abandon()

    def _await(self, number: int) -> None:
        """Note that the caller waits from now on for a call that it has spawned."""
        with self._lock:
            running = self._running.get(number)
            if running is None and number in self._looking:
                self._awaited.add(number)
        if isinstance(running, _Call):
            try:
                circles.add(running.caller, running.input)
            except InvalidError as error:
                if running.input.pool.withdraw(running.input):
                    running.input.refused(error)

    # --- answers ---------------------------------------------------------------------------

    def end(self, number: int, error: BaseException | None = None) -> None:
        """Report the end of a generator, by itself or with ``error``."""
        with self._lock:
            running = self._running.pop(number, None)
        if isinstance(running, _Items):
            circles.remove(running.caller, running.input)
        if error is None:
            self._put(Kind.END, number, ForwardedAnswer(b"", ()))
        else:
            self._fail(number, error)

    def send_item(self, number: int, item: ForwardedAnswer) -> None:
        """Send an item of a generator."""
        self._put(Kind.ITEM, number, item)

    def _answer(self, number: int, done: Future[Any]) -> None:
        with self._lock:
            running = self._running.pop(number, None)
        if isinstance(running, _Call):
            circles.remove(running.caller, running.input)
        if done.cancelled():
            return  # by its caller, which has gone on
        error = done.exception()
        if error is None:
            value = done.result()
            if not isinstance(value, ForwardedAnswer):  # of a batch
                value = _pickled(value)
            self._put(Kind.RESULT, number, value)
        else:
            self._fail(number, error)

    def _fail(self, number: int, error: BaseException) -> None:
        if isinstance(error, ForwardedFailure):
            self._put(Kind.FAILURE, number, error.answer)
        else:
            self._outgoing.put((Kind.FAILURE, pack_number(number), _failure(error)))

    def _put(self, kind: int, number: int, answer: ForwardedAnswer) -> None:
        self._outgoing.put((kind, pack_number(number), (answer.data, *answer.buffers)))


def _pickled(value: Any) -> ForwardedAnswer:
    return ForwardedAnswer(*dumps(value))


class _Batched:
    """An input that waits for its batch, or runs in it."""

    ends_with_caller = False

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def abandon(self) -> None:
        """Leave the batch. The other inputs continue."""
        self.future.cancel()


class _Call:
    """A running call. ``ends_with_caller`` is false for one that its caller does not wait for."""

    def __init__(self, input: ForwardedCall, ends_with_caller: bool, caller: Input | None) -> None:
        self.input = input
        self.caller = caller
        self.ends_with_caller = ends_with_caller

    def start(self) -> None:
        """Submit the input to its pool."""
        self.input.submit()

    def abandon(self) -> None:
        """Interrupt the method. No caller wants its answer."""
        self.input.future.cancel()


class _Items:
    """A running generator: a thread reads an item each time that its caller wants the next one."""

    ends_with_caller = True

    def __init__(
        self,
        input: ForwardedItems,
        connection: InsideConnection,
        number: int,
        caller: Input | None,
    ) -> None:
        self.wanted: SimpleQueue[bool] = SimpleQueue()
        self.wanted.put(True)  # a generator is asked for with its first item
        self.input = input
        self.caller = caller
        self._connection = connection
        self._number = number
        self._is_reading = False

    def start(self) -> None:
        """Start the thread."""
        run = self.input.context.copy().run
        threading.Thread(
            target=run, args=(self._read,), name="lifecycle-inside-items", daemon=True
        ).start()

    def abandon(self) -> None:
        """Close the generator, or interrupt it if its caller waits for an item."""
        self.wanted.put(False)
        if self._is_reading:
            self.input.abandon()

    def _read(self) -> None:
        items = items_of(self.input)
        error: BaseException | None = None
        try:
            while self.wanted.get():
                self._is_reading = True
                item = next(items, None)
                self._is_reading = False
                if item is None:
                    break
                self._connection.send_item(self._number, item)
                del item
            items.close()
        except BaseException as caught:
            error = caught
        self._connection.end(self._number, error)


_Running = _Call | _Items | _Batched


def _failure(error: BaseException) -> tuple[Any, ...]:
    data, buffers = dumps(to_failure(error))
    return (data, *buffers)


def _checked(ask: Ask, pool: Pool) -> MethodSpec:
    """Return the newest declaration of the method.

    Raises `InvalidError` unless there is one, of the form asked for.
    """
    spec = pool.declared
    assert spec is not None
    method = spec.methods.get(ask.method)
    where = spec.name if spec.is_function else f"{spec.name}().{ask.method}"
    if method is None:
        raise InvalidError(
            f"{spec.name} has no method {ask.method} since it was declared again; "
            f"it has {', '.join(spec.methods) or 'none'}. Fix: call one of these"
        )
    if method.web is not None:
        raise InvalidError(
            f"{where} answers HTTP, not .{ask.form}(). Fix: get its address with "
            f"{where}.get_web_url(), or call {where}.local(...)"
        )
    if not method.is_generator and ask.form == ITEMS:
        raise InvalidError(
            f"{where} does not yield, so there is nothing to iterate over with .remote_gen(). "
            f"Fix: call {where}.remote(...)"
        )
    if method.is_generator and ask.form in (REMOTE, SPAWN):
        raise InvalidError(
            f"{where} yields its values, so .{ask.form}() has nothing to return. "
            f"Fix: iterate over {where}.remote_gen(...)"
        )
    return method
