"""A lane: one data socket, and the calls that come through it, one after the other."""

from __future__ import annotations

import select
import socket
import types
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import SerializationError, WireError
from lifecycle_magic.guest.interrupts import Interrupts, NotBegun, Target
from lifecycle_magic.guest.output import current_lane
from lifecycle_magic.wire.frames import OF_SWAP, Channel, Frame, Kind, tag
from lifecycle_magic.wire.messages import Swap
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.turns import Turns

if TYPE_CHECKING:
    from lifecycle_magic.guest.worker import Worker

ENTERING = 0  # stands for the call id while the constructor and enter run


class Lane:
    """Answers the inputs of one channel on the thread that `serve` is called on.

    ``begins`` hears of the id of each call before it begins. ``worker.wait`` runs a coroutine of
    the user's to its end and returns its value: how, depends on where the event loop runs.
    ``jobs`` are for this thread, while it waits for such a coroutine; None: it is over.
    """

    def __init__(
        self,
        channel: Channel,
        worker: Worker,
        interrupts: Interrupts,
        turns: Turns | None = None,
        begins: Callable[[int], None] = lambda call: None,
    ) -> None:
        self.channel = channel
        self.turns = turns
        self.begins = begins
        self.target = Target(interrupts)
        self.attended = False  # somebody reads the data socket now
        self._worker = worker
        self._tag = 0  # of the answer to what it is at
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._methods: dict[str, Callable[..., Any]] = {}
        self._code: type | None = None

    def serve(self) -> None:
        """Answer inputs until the data socket ends, however it ends."""
        current_lane.set(self)
        frame = self.next_frame()
        while frame is not None:
            if frame.kind == Kind.REQUEST:
                from lifecycle_magic.guest import requests

                frame = requests.serve(self, self._worker, frame)
                continue
            if frame.kind == Kind.CALL or frame.kind == Kind.STREAM:
                self._call(frame)
            elif frame.kind == Kind.OFFER:
                if self.turns is not None and self.turns.take(1):
                    self._call(frame)
                else:
                    self.send(Kind.SKIPPED)  # the kernel took it back
            elif frame.kind == Kind.SWAP:
                self._swap(loads(frame.payload))
            # A STOP or PUSH that comes when its input has ended already is no news.
            frame = None  # nor is what it holds kept while nothing comes
            frame = self.next_frame()

    def next_frame(self) -> Frame | None:
        """The next frame; None when there are no more, or nobody is left to answer."""
        try:
            return self._worker.next_frame(self.channel)
        except (OSError, WireError):
            return None

    def _call(self, frame: Frame) -> None:
        self.attended = True
        target = self.target
        call, name, self._tag = 0, "?", 0
        args: Any = ()
        kwargs: Any = {}
        try:
            call, name, args, kwargs = loads(frame.payload, buffers=frame.buffers)
            frame.payload = memoryview(b"")
            self.take_up(call)
            method = self._method(name)
            target.begin(call)
            value = method(*args, **kwargs)
            kind = type(value)
            if kind is types.CoroutineType:
                value = self._worker.wait(value, target)
            elif frame.kind == Kind.STREAM:
                self._stream(name, value)
                value = None
            target.end()
        except BaseException as error:
            self.over()
            target.answered(call)
            self.fail(error)
            return
        finally:  # not kept until the next call
            args = kwargs = None
            frame.payload, frame.buffers = memoryview(b""), ()
        self.flush()
        self.attended = False
        target.answered(call)
        if frame.kind == Kind.STREAM:
            self.send(Kind.END)
            return
        try:
            data, buffers = dumps(value)
        except Exception as error:
            self.fail(_unpicklable(name, value, error))
            return
        value = None  # if that was the last of it, its memory need not be copied
        try:
            self.send(Kind.RESULT, data, buffers, self._tag)
        except WireError as error:
            self.fail(error)

    def take_up(self, call: int) -> None:
        """This call begins: answers are to it from now on."""
        self._tag = tag(call)
        self.begins(call)

    def _method(self, name: str) -> Callable[..., Any]:
        instance = self._worker.instance
        if self._code is not type(instance):  # the class was swapped under the instance
            self._methods.clear()
            self._code = type(instance)
        method = self._methods.get(name)
        if method is None:
            method = self._methods[name] = getattr(instance, name)
        return method

    def _stream(self, name: str, items: Any) -> None:
        """Send each item as it is yielded, until the generator ends or nobody wants more."""
        is_async = hasattr(items, "__aiter__")
        generator = items.__aiter__() if is_async else iter(items)
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        try:
            while True:
                try:
                    if is_async:
                        item = self._worker.wait(generator.__anext__(), self.target)
                    else:
                        item = next(generator)
                except (StopIteration, StopAsyncIteration):
                    return
                try:
                    frame = dumps(item)
                except Exception as error:
                    raise _unpicklable(name, item, error, "yielded") from None
                with self.target:
                    there = self.send(Kind.ITEM, *frame)
                if not there or (poll.poll(0) and self._stop_came()):
                    return
        finally:
            self.target.end()
            close = getattr(generator, "aclose" if is_async else "close", None)
            if close is not None:  # any iterator will do for @method(is_generator=True)
                closing = close()
                if is_async:
                    self._worker.wait(closing, self.target)

    def _stop_came(self) -> bool:
        """Whether what there is to read is a STOP, which alone is sent while a generator runs.

        Otherwise it is the end of what can be read: the container has to go, and the generator
        has the time that any running input has.
        """
        try:
            return bool(self.channel.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def over(self) -> None:
        """End the interruptible stretch, also when one last interrupt hits right here."""
        while True:
            try:
                self.target.end()
                return
            except KeyboardInterrupt:
                continue

    def _swap(self, swap: Swap) -> None:
        self._tag = OF_SWAP
        try:
            self._worker.swap(loads(swap.cls), swap.exit, swap.web)
        except BaseException as error:
            self.fail(error)
            return
        self.send(Kind.READY, tag=OF_SWAP)

    # --- what goes back --------------------------------------------------------------------

    def show(self, stream: str, text: str) -> bool:
        """Output of the running call, for the caller's cell; whether it got there."""
        if not self.attended:
            return False
        try:
            with self.target:
                self.channel.send(Kind.OUTPUT, *dumps((stream, text)))
        except OSError:
            return False  # the kernel is gone; the log still gets it
        return True

    def send(self, kind: int, data: bytes = b"", buffers: Any = (), tag: int = 0) -> bool:
        """Send a frame; False if nobody is there. Raises `WireError` if it is too large."""
        try:
            if buffers:
                self.channel.send_on(kind, data, buffers, tag)
            else:
                self.channel.send(kind, data, (), tag)
        except OSError as error:
            if isinstance(error, WireError):
                raise
            return False  # the kernel is gone; the next receive tells the loop
        return True

    def fail(self, error: BaseException) -> None:
        """Answer with ``error``; the interrupt that was asked for has an answer of its own."""
        from lifecycle_magic.guest.failures import take_apart

        self.flush()
        self.attended = False
        if isinstance(error, NotBegun):
            self.send(Kind.SKIPPED, tag=self._tag)
        elif isinstance(error, KeyboardInterrupt):
            going = self.target.interrupts.going
            self.send(Kind.CANCELLED, b"going" if going else b"", tag=self._tag)
        else:
            self.send(Kind.FAILURE, *dumps(take_apart(error)), self._tag)

    def flush(self) -> None:
        """Everything that this lane's call printed goes out before its answer."""
        for output in self._worker.outputs:
            if output.unflushed:
                output.flush_lane(self)


def _unpicklable(name: str, value: Any, error: BaseException, did: str = "returned") -> Exception:
    return SerializationError(
        f"{name} {did} a {type(value).__name__}, which can't be pickled and so can't travel "
        f"to the kernel: {error}. Return plain data (numbers, strings, arrays, ...), or keep "
        "the object on self and return what describes it."
    )
