"""The calls that arrive by one connection of a container, or of another process.

They run as every other input of their pool does, and their answers come from the session's loop for
replies.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls import circles
from lifecycle_magic.calls.batching import Batcher
from lifecycle_magic.calls.forwarded import (
    ForwardedAnswer,
    ForwardedCall,
    ForwardedFailure,
    ForwardedItems,
)
from lifecycle_magic.calls.prompts import NO_CELL
from lifecycle_magic.exception import InputCancelled, InvalidError, WireError
from lifecycle_magic.guest.session_connection import Answer
from lifecycle_magic.pool import printing
from lifecycle_magic.services import object_store
from lifecycle_magic.services.call_sources import CallOrigin, CallSource, SessionCalls
from lifecycle_magic.services.caller_connection import CallerConnection, pickled
from lifecycle_magic.services.descriptions import description_of
from lifecycle_magic.services.passed_prompts import PassedPrompts
from lifecycle_magic.services.relayed_calls import RelayedCall
from lifecycle_magic.services.running_calls import (
    Running,
    RunningBatched,
    RunningCall,
    RunningItems,
    RunningRequest,
    WaitForCall,
    checked_method,
)
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.nested import (
    ADDRESS,
    COLLECT,
    DESCRIBE,
    ITEMS,
    OBJECTS,
    PROMPTS,
    SPAWN,
    WAITS,
    Ask,
    number_of,
    numbers_of,
    read_ask,
)
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.spec.class_spec import MethodSpec

__all__ = ["ConcurrentConnection"]


class ConcurrentConnection(CallerConnection):
    """An admitted connection, whose calls ``source`` makes."""

    def __init__(self, channel: Channel, source: CallSource, session: SessionCalls) -> None:
        super().__init__(channel)
        self._source = source
        self._session = session
        self._pools: dict[tuple[str, bytes], Pool] = {}
        self._running: dict[int, Running] = {}
        self._abandoned: set[int] = set()  # before they were submitted
        self._looking: set[int] = set()  # calls whose pool is looked up on a thread
        self._awaited: set[int] = set()  # spawned calls, before they were submitted
        self._is_over = False
        self._lock = threading.Lock()
        self._prompts = PassedPrompts(
            source.prompt_answers, lambda call, data: self._enqueue(Kind.PROMPT, call, (data,))
        )

    def _on_closed(self) -> None:
        with self._lock:
            self._is_over = True
            running = list(self._running.values())
        for one in running:
            if one.ends_with_caller:
                one.abandon()

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
            self._await(*numbers_of(frame.payload))
        elif frame.kind == Kind.PROMPT:
            self._prompts.refuse(number_of(frame.payload), NO_CELL)
        elif frame.kind == Kind.NEXT:
            self._next(*numbers_of(frame.payload))
        else:
            raise WireError(f"a frame of kind {frame.kind} from a caller")

    # --- calls -----------------------------------------------------------------------------

    def _start(self, ask: Ask, data: Any, buffers: list[Any]) -> None:
        if ask.key == OBJECTS:
            self._ask_objects(ask.number, data, buffers)
            return
        if ask.key == PROMPTS:
            self._ask_for_line(ask)
            return
        if ask.form == WAITS and self._source.is_process:
            self._put(Kind.RESULT, ask.number, pickled(circles.graph(self._session.id)))
            return
        origin = self._origin(ask)
        pool = self._pools.get((ask.key, ask.arguments))
        if (
            pool is not None
            and not pool.stale
            and ask.form not in (ADDRESS, DESCRIBE)
            and self._source.serves(ask.key)
        ):
            if ask.id:
                self._session.kept_calls.open(ask.id, ask.method)
            self._submit(ask, data, buffers, pool, origin)
            return
        with self._lock:
            self._looking.add(ask.number)
        if ask.id:
            self._session.kept_calls.open(ask.id, ask.method)

        def look_up() -> None:
            try:
                if ask.form == COLLECT and ask.key == self._session.id:
                    self._collect(ask)
                    return
                service = None if ask.form == COLLECT else self._source.find(ask.key)
                if service is None:
                    self._relay(ask, [data, *buffers], origin)
                    return
                if ask.form == DESCRIBE:
                    found = description_of(service.newest(), self._session.who)
                    self._put(Kind.RESULT, ask.number, pickled(found))
                    return
                args, kwargs = loads(ask.arguments)
                if ask.form == ADDRESS:
                    url = service.open_address(ask.method, args, kwargs).url
                    self._put(Kind.RESULT, ask.number, pickled(url))
                    return
                pool = self._pools[ask.key, ask.arguments] = service.open_pool(args, kwargs)
            except BaseException as error:
                self._session.kept_calls.fail(ask.id, error)
                self._fail(ask.number, error)
            else:
                self._submit(ask, data, buffers, pool, origin)
            finally:
                with self._lock:
                    self._looking.discard(ask.number)
                    self._abandoned.discard(ask.number)

        # An image may have to be built first, which takes its time.
        run = origin.context.copy().run
        name = "lifecycle-inside-start"
        threading.Thread(target=run, args=(look_up,), name=name, daemon=True).start()

    def _origin(self, ask: Ask) -> CallOrigin:
        """Return the origin of a call."""

        def show(stream: str, text: str) -> None:
            data, _ = dumps((stream, text))
            self._enqueue(Kind.OUTPUT, ask.number, (data,))

        return self._source.origin(ask, show)

    def _submit(
        self, ask: Ask, data: Any, buffers: list[Any], pool: Pool, origin: CallOrigin
    ) -> None:
        caller, context = origin.caller, origin.context
        running: RunningCall | RunningItems
        try:
            method = checked_method(ask, pool)
            if method.batched:
                given = self._values(data, buffers)
                self._submit_batched(ask, method, pool, given, context)
                return
            if ask.form == ITEMS:
                stream = ForwardedItems(pool, ask.method, data, buffers, context)
                running = RunningItems(
                    stream,
                    origin,
                    lambda item: self._put(Kind.ITEM, ask.number, item),
                    lambda error: self._end(ask.number, error),
                )
            else:
                input = self._make_call(pool, ask.method, data, buffers, context)
                running = RunningCall(input, ask.form != SPAWN, origin)
            if ask.form != SPAWN:
                running.input.on_prompt = functools.partial(self._prompts.pass_on, ask.number)
                circles.add(caller, running.input)
                if isinstance(caller, ForwardedItems):
                    self._session.circle_watch.start()
            if ask.wait and self._source.is_process:
                circles.add_foreign(ask.wait, running.input)
        except BaseException as error:
            self._session.kept_calls.fail(ask.id, error)
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
        if isinstance(running, RunningCall):
            running.input.future.add_done_callback(lambda done: self._answer(ask.number, done))
            if ask.id:  # afterwards: the outcome is copied
                self._session.kept_calls.follow(ask.id, running.input.future)
                self._session.kept_calls.also(ask.id, running.input.id)
        running.start()
        if awaited:
            self._await(ask.number, origin.after)

    _make_call: type[ForwardedCall] = ForwardedCall

    @staticmethod
    def _values(data: Any, buffers: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call."""
        args, kwargs = loads(data, buffers=buffers)
        return args, kwargs

    def _submit_batched(
        self, ask: Ask, method: MethodSpec, pool: Pool, given: Any, context: Context
    ) -> None:
        """Add an input to a batch. Batches are made of values, so their types must exist here."""
        args, kwargs = given
        running = RunningBatched(context.copy().run(Batcher.of(pool, method).submit, args, kwargs))
        if ask.id:
            self._session.kept_calls.follow(ask.id, running.future)
        self._answer_later(ask.number, running)

    def _ask_objects(self, number: int, data: Any, buffers: list[Any]) -> None:
        """Pass on a request to the session's queues and dictionaries."""
        try:
            request, _ = loads(data, buffers=buffers)
            running = RunningRequest(object_store.find().submit(request))
        except BaseException as error:
            self._fail(number, error)
            return
        self._answer_later(number, running)

    def _ask_for_line(self, ask: Ask) -> None:
        """Answer with the line that the user enters at a prompt of the container."""
        answers = self._source.prompt_answers
        if answers is None or not ask.method.isdecimal():
            raise WireError("a prompt of no container")
        running = RunningRequest(answers.take(int(ask.method)))
        self._answer_later(ask.number, running)

    def _collect(self, ask: Ask) -> None:
        """Wait for a spawned call; ITEM says that it still runs. Raise `NotFoundError` for none."""
        kept = self._session.kept_calls.find(ask.method)
        with self._lock:
            self._running[ask.number] = WaitForCall(kept.future)
        if not kept.future.done():
            self._put(Kind.ITEM, ask.number, pickled(None))

        def answer(done: Future[Any]) -> None:
            if done.cancelled():
                self._fail(ask.number, InputCancelled(f"{kept.where} was cancelled"))
            self._answer(ask.number, done)

        kept.future.add_done_callback(answer)

    def _relay(self, ask: Ask, parts: list[Any], origin: CallOrigin) -> None:
        """Pass a call by name on to the session that serves the class."""
        outcome: Future[Any] = Future()
        if ask.id:
            self._session.kept_calls.follow(ask.id, outcome)

        def on_answer(answer: Answer) -> None:
            value = ForwardedAnswer(answer.data, answer.buffers)
            self._put(answer.kind, ask.number, value)
            if answer.kind != Kind.ITEM:
                self._forget(ask.number)
                if answer.kind == Kind.RESULT:
                    outcome.set_result(value)
                else:
                    outcome.set_exception(ForwardedFailure(value))

        def on_error(error: BaseException) -> None:
            self._forget(ask.number)
            self._fail(ask.number, error)
            outcome.set_exception(error)

        def show(stream: str, text: str) -> None:
            origin.context.copy().run(printing.show, stream, text)

        relayed = RelayedCall(ask, on_answer, on_error, show, origin)
        with self._lock:
            self._running[ask.number] = relayed
            awaited = ask.number in self._awaited
            self._awaited.discard(ask.number)
        if awaited:
            relayed.wait()
        try:
            relayed.start(parts, self)
        except BaseException:
            self._forget(ask.number)
            raise
        if ask.number in self._abandoned:
            relayed.abandon()
        if origin.caller is not None:
            self._session.circle_watch.start()

    def _abandon(self, number: int) -> None:
        with self._lock:
            running = self._running.get(number)
            if running is None and number in self._looking:
                self._abandoned.add(number)
        if running is not None:
            running.abandon()

    def _next(self, number: int, outputs: int) -> None:
        """Note that the caller wants another item of a generator."""
        running = self._running.get(number)
        if isinstance(running, RunningItems):
            running.origin.after = outputs
            running.wanted.put(True)
        elif isinstance(running, RelayedCall):
            running.origin.after = outputs
            running.send(Kind.NEXT)

    def _await(self, number: int, outputs: int) -> None:
        """Note that the caller waits from now on for a call that it has spawned."""
        with self._lock:
            running = self._running.get(number)
            if running is None and number in self._looking:
                self._awaited.add(number)
        if isinstance(running, RelayedCall):
            running.origin.after = outputs
            running.wait()
            self._session.circle_watch.start()
        if isinstance(running, RunningCall):
            running.origin.after = outputs
            if isinstance(running.origin.caller, ForwardedItems):
                self._session.circle_watch.start()
            try:
                circles.add(running.origin.caller, running.input)
            except InvalidError as error:
                if running.input.pool.withdraw(running.input):
                    running.input.refused(error)

    # --- answers ---------------------------------------------------------------------------

    def _end(self, number: int, error: BaseException | None) -> None:
        """Report the end of a generator, by itself or with ``error``."""
        running = self._forget(number)
        if isinstance(running, RunningItems):
            circles.remove(running.origin.caller, running.input)
        if error is None:
            self._put(Kind.END, number, ForwardedAnswer(b"", ()))
        else:
            self._fail(number, error)

    def _forget(self, number: int) -> Running | None:
        with self._lock:
            return self._running.pop(number, None)

    def _answer_later(self, number: int, running: RunningBatched) -> None:
        """Answer with the result of ``running`` when it is there."""
        with self._lock:
            self._running[number] = running
        running.future.add_done_callback(lambda done: self._answer(number, done))

    def _answer(self, number: int, done: Future[Any]) -> None:
        running = self._forget(number)
        if isinstance(running, RunningCall):
            circles.remove(running.origin.caller, running.input)
        if done.cancelled():
            return  # by its caller, which has gone on
        error = done.exception()
        if error is None:
            value = done.result()
            if not isinstance(value, ForwardedAnswer):  # of a batch
                value = pickled(value)
            self._put(Kind.RESULT, number, value)
        else:
            self._fail(number, error)
