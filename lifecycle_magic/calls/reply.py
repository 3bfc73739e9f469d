"""The meaning of a worker's frames for the call that it runs.

`ReplyReader` is pure: it reads frames and facts, and decides. Three drivers receive the frames,
each in its own way of waiting: `lifecycle_magic.calls.sync.read_reply` blocks the calling thread,
`lifecycle_magic.calls.detached.read_available_reply` belongs to a selector loop, and
`lifecycle_magic.calls.async_generators.AsyncStream` to asyncio's. Code that acts on a reply first
calls `settle`. A reply that is neither the last one nor output is a `Prompt`, which `Input.ask`
answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final

from lifecycle_magic.calls.input import Input
from lifecycle_magic.calls.prompts import Prompt
from lifecycle_magic.container.endings import DISCONNECTED, Ending, EndKind
from lifecycle_magic.container.exit_cause import may_have_begun
from lifecycle_magic.container.worker_answers import broken, death_error, read_failure
from lifecycle_magic.exception import (
    ContainerDied,
    InputCancelled,
    MethodTimeout,
    SerializationError,
    WireError,
)
from lifecycle_magic.threads.sigint import is_user_interrupt
from lifecycle_magic.wire import unpickling_errors
from lifecycle_magic.wire.exceptions import message, name_of
from lifecycle_magic.wire.frames import Frame, Kind, tag
from lifecycle_magic.wire.messages import output, prompt
from lifecycle_magic.wire.pickling import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifecycle_magic.container.slots import Slot

__all__ = ["LastReply", "Raise", "Reply", "ReplyReader", "Retry", "Show", "Value"]
__all__ += ["explain_loss", "receive", "settle", "take_value"]

MAX_LOST_STARTS = 3
"""Containers that may exit before they begin an input. An input that ends each of its containers
must not do so forever.
"""

_INSTALL = "return plain data, or install its package next to the kernel too"
_REPLACED = "and did not stop when interrupted; its container is replaced"


@final
class Show(NamedTuple):
    """Output of the method; more frames follow."""

    stream: str
    text: str


@final
class Value(NamedTuple):
    """A value of the method. ``is_last``: it has ended, otherwise more frames follow."""

    value: Any
    is_last: bool = True


@final
class Raise(NamedTuple):
    """The call fails with ``error``, and its container ends as ``ending`` says, if it is set.

    ``is_lost``: nothing more can be read from the connection.
    """

    error: BaseException
    ending: Ending | None = None
    is_lost: bool = False


@final
class Retry(NamedTuple):
    """The container exited before it began the input; another one may take it.

    ``is_counted``: the container may have exited because of the input.
    """

    is_counted: bool
    ending: Ending | None = None


LastReply = Value | Raise | Retry
Reply = Show | Prompt | LastReply


class ReplyReader:
    """The meaning of the frames that ``slot`` sends while it runs ``input``."""

    __slots__ = ("input", "slot")

    pickled: frozenset[int] = frozenset({Kind.RESULT})
    """The kinds of frames that hold the pickle of a value."""

    values: frozenset[int] = frozenset()
    """The kinds of frames from which `decode` makes a value."""

    def __init__(self, input: Input, slot: Slot) -> None:
        self.input = input
        self.slot = slot

    def read(self, frame: Frame) -> Reply:
        """Return what ``frame`` means."""
        kind = frame.kind
        if kind == Kind.OUTPUT:
            try:
                return Show(*output(frame.payload))
            except WireError as error:
                return self.broken(str(error), is_lost=True)
        if frame.tag and frame.tag != tag(self.input.id):
            why = f"{self.input.where} got the answer of another input"
            ending = Ending(EndKind.KILL, why)
            return Raise(WireError(f"{why}; its container is replaced"), ending)
        if kind in self.pickled:
            try:
                return Value(loads(frame.payload, buffers=frame.buffers), kind != Kind.ITEM)
            except BaseException as error:  # for example SystemExit, which would end this kernel
                if is_user_interrupt(error):
                    raise
                return Raise(self._rebuilding_error(error))
        if kind in self.values:
            return self.decode(frame)
        if kind == Kind.CANCELLED or kind == Kind.SKIPPED:
            return self._interrupted(frame)
        if kind == Kind.PROMPT:
            return self.prompt(frame)
        if kind == Kind.FAILURE:
            return Raise(*read_failure(self.slot.container, frame, self.input.method))
        return self.broken(f"a frame of kind {kind} instead of an answer of {self.input.method}")

    def show(self, reply: Show, show: Callable[[str, str], None]) -> None:
        """Show output, and note that it is shown."""
        try:
            show(*reply)
        finally:
            self.slot.outputs.note_shown()

    def prompt(self, frame: Frame) -> Prompt | Raise:
        """Return the prompt in a PROMPT frame."""
        try:
            return Prompt(*prompt(frame.payload))
        except WireError as error:
            return self.broken(str(error), is_lost=True)

    def decode(self, frame: Frame) -> Value | Raise:
        """Return the value of a frame of one of the kinds `values`."""
        raise NotImplementedError

    def _rebuilding_error(self, error: BaseException) -> SerializationError:
        return SerializationError(
            f"{self.slot.container.plan.title(self.input.method)} returned a value that can't be "
            f"rebuilt here: {name_of(type(error))}: {message(error).rstrip('.')}. "
            f"Fix: {unpickling_errors.advice(error, _INSTALL)}"
        )

    def broken(self, what: str, *, is_lost: bool = False) -> Raise:
        """Return the reply for a connection on which the worker sent ``what``."""
        return Raise(*broken(self.slot.container, what), is_lost)

    def _interrupted(self, frame: Frame) -> Raise | Retry:
        """Return the reply for CANCELLED, or for SKIPPED, where no code of the method had run.

        If only the container's exit can have caused the interrupt, it is draining from now on.
        """
        input, container = self.input, self.slot.container
        if input.timed_out:
            return Raise(self._timeout_error("and was interrupted; its container stays warm"))
        ends = frame.kind == Kind.SKIPPED or frame.payload
        ending = container.ending
        if not input.interrupts and ends and (ending is None or ending.kind is not EndKind.STOP):
            if frame.kind == Kind.SKIPPED:  # the worker says so, and code there can forge it
                return self._elsewhere(DISCONNECTED)
            error = ContainerDied(
                f"the container of {input.where} was stopped from outside while the call was "
                "running"
            )
            return Raise(error, DISCONNECTED)
        why = container.cause.reason or "it was cancelled"
        return Raise(InputCancelled(f"{input.where} was interrupted: {why}"))

    @property
    def is_loss_explained(self) -> bool:
        """Return whether the cause of a lost connection is known without the container's report."""
        return self.input.unsent or bool(self.slot.given_up)

    def lost(self) -> Raise | Retry:
        """Return the reply for a connection that ended, once `is_loss_explained` or the report is
        there.
        """
        input, slot = self.input, self.slot
        if input.unsent:
            return Retry(is_counted=False)
        if slot.given_up and not input.timed_out:
            return Raise(InputCancelled(f"{input.where} was interrupted: {slot.given_up}"))
        if input.timed_out:
            return Raise(self._timeout_error(_REPLACED))
        if may_have_begun(slot.container, slot, input.id):
            return Raise(death_error(slot.container, input.method))
        return self._elsewhere()

    def _elsewhere(self, ending: Ending | None = None) -> Raise | Retry:
        """Return `Retry`, or after too many containers that exited before they began `Raise`."""
        if self.input.lost_starts < MAX_LOST_STARTS:
            return Retry(is_counted=True, ending=ending)
        error = ContainerDied(
            f"{MAX_LOST_STARTS + 1} containers exited before they began {self.input.where}. "
            f"The last one: {self.slot.container.explain_exit()}"
        )
        return Raise(error, ending)

    def _timeout_error(self, what: str) -> MethodTimeout:
        where, timeout = self.input.where, self.input.pool.timeout
        return MethodTimeout(f"{where} took longer than timeout={timeout:g} s {what}")


def receive(reader: ReplyReader) -> Reply | None:
    """Receive one frame and return what it means. Return None if the connection ended."""
    slot = reader.slot
    try:
        frame = slot.channel.receive()
    except WireError as error:
        return None if slot.given_up else reader.broken(str(error), is_lost=True)
    except OSError:
        return None
    return None if frame is None else reader.read(frame)


def take_value(reply: LastReply | None, reader: ReplyReader) -> Any:
    """Return the value of a reply, or raise its error. Blocks if the connection ended."""
    if type(reply) is Value:
        return reply.value
    if reply is None:
        reply = explain_loss(reader)
    settle(reader, reply)
    try:
        # An input that had begun is not run again.
        raise (
            reply.error
            if type(reply) is Raise
            else death_error(reader.slot.container, reader.input.method)
        )
    finally:
        del reply  # otherwise the error would refer to itself


def explain_loss(reader: ReplyReader) -> Raise | Retry:
    """Return the reply for a connection that ended. The container is draining from now on.

    Blocks until the cause is known.
    """
    container = reader.slot.container
    container.end(DISCONNECTED)
    if not reader.is_loss_explained:
        container.wait_for_report()
    return reader.lost()


def settle(reader: ReplyReader, reply: Raise | Retry) -> None:
    """End the container and count the lost start, as ``reply`` says. On any thread."""
    if reply.ending is not None:
        reader.slot.container.end(reply.ending)
    if isinstance(reply, Retry) and reply.is_counted:
        reader.input.lost_starts += 1
