"""A lane: one data socket, and the calls that arrive over it, one after the other."""

from __future__ import annotations

import contextlib
import select
import socket
import types
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import WireError
from lifecycle_magic.guest import forks
from lifecycle_magic.guest.interrupts import (
    InterruptedBeforeStart,
    InterruptHandler,
    InterruptTarget,
)
from lifecycle_magic.guest.output import current_lane
from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.begun_page import NOTHING_BEGUN
from lifecycle_magic.wire.frames import JOIN_BYTES, SWAP_TAG, Channel, Frame, Kind, tag
from lifecycle_magic.wire.messages import Swap
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.ticket_fifo import TicketFifo

if TYPE_CHECKING:
    from lifecycle_magic.guest.prompts import Conversation
    from lifecycle_magic.guest.worker import Worker

ENTERING = 0  # stands for the call id while the constructor and enter run


class Lane:
    """The calls of one data connection, answered one after the other on the thread that runs
    `serve`.

    ``record_begun`` gets the id of each call before the call starts. ``worker.loop.wait`` runs a
    coroutine of the user's code to its end and returns its value. ``jobs`` are functions for this
    thread to run while it waits for such a coroutine; None ends the wait.
    """

    def __init__(
        self,
        channel: Channel,
        worker: Worker,
        interrupts: InterruptHandler,
        tickets: TicketFifo | None = None,
        record_begun: Callable[[int], None] = lambda call: None,
    ) -> None:
        self.channel = channel
        self.tickets = tickets
        self.record_begun = record_begun
        self.target = InterruptTarget(interrupts)
        self.slot = -1  # the number of its data connection
        self.has_reader = False  # whether the kernel reads the data socket now
        self.outputs_sent = 0  # to this kernel
        self.conversation: Conversation | None = None  # if the call has asked for a line
        self.at_end: list[Callable[[], None]] = []  # to run when the current call has ended
        self._ended_input = 0  # tag of the last call at whose prompt the user ended the input
        self._worker = worker
        self._tag = 0  # tag of the answer to the current call
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def serve(self) -> None:
        """Answer inputs until the container stops.

        If the data socket ends before that, the next kernel may bring another one.
        """
        current_lane.set(self)
        frame = self.next_frame()
        while True:
            if frame is None:
                if not self._worker.take_over(self):
                    return
                frame = self.next_frame()
                continue
            if frame.kind == Kind.REQUEST:
                from lifecycle_magic.guest import http_requests

                frame = http_requests.serve(self, self._worker, frame)
                continue
            try:
                if frame.kind == Kind.CALL or frame.kind == Kind.STREAM:
                    self._call(frame)
                elif frame.kind == Kind.OFFER:
                    if self.tickets is not None and self.tickets.take(1):
                        self._call(frame)
                    else:
                        self.send(Kind.SKIPPED)  # the kernel took the input back
                elif frame.kind == Kind.SWAP:
                    self._swap(loads(frame.payload))
                elif frame.kind == Kind.ADOPT:
                    self.send(Kind.READY, *dumps(self._worker.adopt(loads(frame.payload))))
                elif frame.kind == Kind.DEBUG:
                    from lifecycle_magic.guest import post_mortem

                    post_mortem.serve(self, self._worker, frame)
            except KeyboardInterrupt as error:
                # A second interrupt, after the method and before `end_interruptible`.
                self.end_interruptible()
                self.send_failure(error)
            # A STOP or PUSH for an input that has ended already needs no answer.
            frame = None  # keep its content no longer, whenever the next frame arrives
            frame = self.next_frame()

    def follow(self, channel: Channel) -> None:
        """Go on with the connection to another kernel, whose calls are numbered anew."""
        self.channel.close()
        self.channel = channel
        self.has_reader = False
        self._ended_input = self._tag = self.outputs_sent = 0
        self.target.forget_answered()
        self.record_begun(NOTHING_BEGUN)

    def next_frame(self) -> Frame | None:
        """Return the next frame; None if there are no more, or no kernel to answer."""
        try:
            return self._worker.loop.next_frame(self.channel)
        except (OSError, WireError):
            return None

    def _call(self, frame: Frame) -> None:
        self.has_reader = True
        target = self.target
        call, self._tag = 0, 0
        name: str | None = None
        args: Any = ()
        kwargs: Any = {}
        try:
            call, name, args, kwargs = loads(frame.payload, buffers=frame.buffers)
            frame.payload = memoryview(b"")
            self.start_call(call)
            if self._worker.kept_frames is not None:
                self._worker.kept_frames = None
            method = getattr(self._worker.instance, name)
            target.begin(call)
            value = method(*args, **kwargs)
            kind = type(value)
            if kind is types.CoroutineType:
                value = self._worker.loop.wait(value, target)
            elif frame.kind == Kind.STREAM:
                self._stream(name, value)
                value = None
            target.end()
        except BaseException as error:
            self.end_interruptible()
            target.mark_answered(call)
            if name is None:
                explain_arguments(error)
            self.settle()
            self.send_failure(error, keeps_frames=self._worker.keeps_frames)
            return
        finally:  # do not keep the arguments until the next call
            args = kwargs = None
            frame.payload, frame.buffers = memoryview(b""), ()
        self.flush()
        self.settle()
        self.has_reader = False
        target.mark_answered(call)
        if frame.kind == Kind.STREAM:
            self.send(Kind.END)
            return
        try:
            data, buffers = dumps(value)
        except BaseException as error:  # a result's own __reduce__ may raise anything
            from lifecycle_magic.guest.failures import unpicklable

            self.send_failure(unpicklable(name, value, error))
            return
        value = None  # if no other reference is left, its memory need not be copied
        try:
            self.send(Kind.RESULT, data, buffers, self._tag)
        except WireError as error:
            self.send_failure(error)

    def send_result(self, data: bytes, buffers: Any) -> None:
        """Answer the current call with a pickled value."""
        self.send(Kind.RESULT, data, buffers, self._tag)

    def start_call(self, call: int) -> None:
        """Start a call: from now on, answers carry its tag."""
        self._tag = tag(call)
        self.record_begun(call)

    def _stream(self, name: str, items: Any) -> None:
        """Send each item as it is yielded, until the generator ends or the kernel wants no more."""
        is_async = hasattr(items, "__aiter__")
        generator = items.__aiter__() if is_async else iter(items)
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        try:
            while True:
                try:
                    if is_async:
                        item = self._worker.loop.wait(generator.__anext__(), self.target)
                    else:
                        item = next(generator)
                except (StopIteration, StopAsyncIteration):
                    return
                try:
                    frame = dumps(item)
                except Exception as error:
                    from lifecycle_magic.guest.failures import unpicklable

                    raise unpicklable(name, item, error, "yielded") from None
                with self.target:
                    was_sent = self.send(Kind.ITEM, *frame)
                if not was_sent or (poll.poll(0) and self._received_stop()):
                    return
        finally:
            self.target.end()
            close = getattr(generator, "aclose" if is_async else "close", None)
            if close is not None:  # @method(is_generator=True) accepts any iterator
                closing = close()
                if is_async:
                    self._worker.loop.wait(closing, self.target)

    def _received_stop(self) -> bool:
        """Return whether a STOP can be read, the only frame that is sent while a generator runs.

        Otherwise the input is at its end: the container stops, and the generator has as much time
        as any running input.
        """
        try:
            return bool(self.channel.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def end_interruptible(self) -> None:
        """End the interruptible section, even if one last interrupt arrives here."""
        while True:
            try:
                self.target.end()
                return
            except KeyboardInterrupt:
                continue

    def _swap(self, swap: Swap) -> None:
        self._tag = SWAP_TAG
        self._worker.kept_frames = None
        try:
            self._worker.swap(swap)
        except BaseException as error:
            self.send_failure(error)
            return
        self.send(Kind.READY, tag=SWAP_TAG)

    # --- answers ---------------------------------------------------------------------------

    def send_output(self, stream: str, text: str) -> bool:
        """Send output of the running call to the caller's cell. Return whether it was sent."""
        if not self.has_reader:
            return False
        try:
            with self.target:
                self.channel.send(Kind.OUTPUT, *dumps((stream, text)))
                self.outputs_sent += 1
        except OSError:
            return False  # the kernel has exited; the log still gets the output
        return True

    def send(self, kind: int, data: bytes = b"", buffers: Any = (), tag: int = 0) -> bool:
        """Send a frame. Return False if the connection is closed.

        What was printed comes before it. Raises `WireError` if the frame is too large.
        """
        prints = self._worker.prints
        if prints.is_pending:
            prints.flush()
        try:
            if not buffers and len(data) <= JOIN_BYTES:
                self.channel.send(kind, data, (), tag)
                return True
            prints.journal.begin_frame(self.slot)
            try:
                if buffers:
                    self.channel.send_on(kind, data, buffers, tag)
                else:
                    self.channel.send(kind, data, (), tag)
            finally:
                prints.journal.end_frame(self.slot)
        except OSError as error:
            if isinstance(error, WireError):
                raise
            return False  # the kernel has exited; the loop ends at the next receive
        return True

    def send_failure(self, error: BaseException, *, keeps_frames: bool = False) -> None:
        """Answer with ``error``. A requested interrupt has an answer of its own.

        ``keeps_frames``: a debugger may look at its frames later.
        """
        forks.end_child(error)
        self.flush()
        self.has_reader = False
        kind = type(error)  # isinstance() would ask the error, which may answer anything
        if issubclass(kind, InterruptedBeforeStart):
            self.send(Kind.SKIPPED, tag=self._tag)
        elif _is_interrupt(kind) and self._is_requested_interrupt():
            is_stopping = self.target.interrupts.is_stopping
            self.send(Kind.CANCELLED, b"stopping" if is_stopping else b"", tag=self._tag)
        else:
            with descriptors.room():  # the method may have run out of descriptors
                from lifecycle_magic.guest import exception_notes
                from lifecycle_magic.guest.failures import to_failure

                with contextlib.suppress(BaseException):
                    exception_notes.add_note(error)
                frames = ""
                if keeps_frames:
                    from lifecycle_magic.guest import post_mortem

                    frames = post_mortem.keep(self._worker, error)
                self.send(Kind.FAILURE, *dumps(to_failure(error, frames)), self._tag)

    def _is_requested_interrupt(self) -> bool:
        """Return whether the kernel requested to interrupt this call.

        Otherwise a KeyboardInterrupt is an exception of the method itself.
        """
        requested = self.target.requested
        return requested is not None and tag(requested) == self._tag

    def show_output(self) -> None:
        """Send everything that the running call printed, before it calls or asks for a line."""
        self.flush(is_over=False)
        self.settle(is_over=False)

    def flush(self, *, is_over: bool = True) -> None:
        """Send everything that this lane's call printed, before its answer.

        ``is_over``: the call has ended, so what it has asked the user for ends.
        """
        if is_over and self.at_end:
            self._end_call()
        for output in self._worker.outputs:
            if output.unflushed:
                output.flush_lane(self)
        if self._worker.prints.is_pending:
            self._worker.prints.flush()

    def settle(self, *, is_over: bool = True) -> None:
        """Wait until output that bypassed ``sys.stdout`` is shown, if there may be some.

        ``is_over`` as in `flush`.
        """
        if is_over and self.at_end:
            self._end_call()
        output = self._worker.descriptor_output
        if output.reads[0] or forks.has_started_processes:
            output.settle()

    def pass_prompt_on(self, prompt: bytes) -> bool:
        """Ask the caller of this lane for a method that its call has called. On any thread.

        ``prompt`` is the content of a PROMPT frame. Return False if no call runs here.
        """
        if not self.has_reader or self.target.current is None:
            return False
        self.flush(is_over=False)
        with self.target:
            return self.send(Kind.PROMPT, prompt)

    def _end_call(self) -> None:
        at_end, self.at_end = self.at_end, []
        for end in at_end:
            end()

    def end_conversation(self) -> None:
        """End what the call has asked the user for."""
        assert self.conversation is not None
        conversation, self.conversation = self.conversation, None
        if conversation.had_end:
            self._ended_input = self._tag
        conversation.end()

    @property
    def has_ended_input(self) -> bool:
        """Return whether the user has ended the input at a prompt of the current call."""
        return self._tag != 0 and self._ended_input == self._tag


def _is_interrupt(kind: type) -> bool:
    """Return whether an interrupt ends a method with an exception of this type.

    A debugger catches the KeyboardInterrupt at its prompt and quits, as its next prompt is refused.
    """
    return issubclass(kind, KeyboardInterrupt) or kind.__name__ == "BdbQuit"


def explain_arguments(error: BaseException) -> None:
    """Add a note to what the code of an argument raised."""
    from lifecycle_magic.wire import unpickling_errors  # rarely needed

    with contextlib.suppress(Exception):
        unpickling_errors.explain(error, "An argument", unpickling_errors.PLAIN_DATA)
