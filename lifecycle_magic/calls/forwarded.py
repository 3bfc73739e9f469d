"""Inputs of calls from inside containers, and of other processes.

Arguments come as pickles of the caller, and answers go back as pickles of the called container:
this process reads neither, because their types may exist only there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lifecycle_magic.calls.detached import DetachedCall
from lifecycle_magic.calls.input import Input
from lifecycle_magic.calls.prompts import Prompt, refuse
from lifecycle_magic.calls.reply import LastReply, Raise, ReplyReader, Retry, Value
from lifecycle_magic.calls.streams import LazyStream
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.nested import forward, with_number

if TYPE_CHECKING:
    from contextvars import Context

    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.pool.pool import Pool

__all__ = ["ForwardedAnswer", "ForwardedCall", "ForwardedFailure", "ForwardedItems"]
__all__ += ["ForwardedInput", "ForwardingReader", "NumberedCall", "SerialCaller"]


OnPrompt = Callable[[Input, "Slot", Prompt], None]
"""Gets what the method of an input asks, on any thread."""


def _pass_on(input: Input, on_prompt: OnPrompt | None, slot: Slot, prompt: Prompt) -> None:
    if on_prompt is None:
        refuse(slot, prompt)
    else:
        on_prompt(input, slot, prompt)


class ForwardedAnswer(NamedTuple):
    """A value as the called container pickled it."""

    data: bytes
    buffers: Sequence[Any]


class ForwardedFailure(Exception):
    """A method raised. The exception is still as the called container pickled it."""

    def __init__(self, answer: ForwardedAnswer) -> None:
        super().__init__()
        self.answer = answer


class ForwardingReader(ReplyReader):
    """The meaning of frames whose content only the calling container reads."""

    __slots__ = ()

    pickled = frozenset[int]()
    values = frozenset({Kind.RESULT, Kind.FAILURE})

    def decode(self, frame: Frame) -> Value | Raise:
        if frame.kind == Kind.END:
            return Value(None)
        answer = ForwardedAnswer(bytes(frame.payload), list(frame.buffers))
        if frame.kind == Kind.FAILURE:
            return Raise(ForwardedFailure(answer))
        return Value(answer, frame.kind != Kind.ITEM)


class _ForwardingStreamReader(ForwardingReader):
    """The same for the frames of a generator."""

    __slots__ = ()

    values = frozenset({Kind.ITEM, Kind.END, Kind.FAILURE})


class ForwardedCall(DetachedCall):
    """An input from inside a container, whose arguments this process does not read.

    ``context`` is that of the call that made it, where output is shown. The future gets a
    `ForwardedAnswer`, a `ForwardedFailure`, or an error of this process.
    """

    __slots__ = ("is_answered", "on_prompt")

    make_reader = ForwardingReader

    def __init__(
        self, pool: Pool, method: str, data: Any, buffers: Sequence[Any], context: Context
    ) -> None:
        super().__init__(pool, method, None, {})
        self._pack(method, data, buffers)
        self.context = context
        self.is_answered = False  # so its caller waits no more, although the outcome is not set yet
        self.on_prompt: OnPrompt | None = None

    def _finish(self, reader: ReplyReader, reply: LastReply) -> None:
        self.is_answered = type(reply) is not Retry
        super()._finish(reader, reply)
        self.is_answered = self.future.done()

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        _pass_on(self, self.on_prompt, slot, prompt)

    def _pack(self, method: str, data: Any, buffers: Sequence[Any]) -> None:
        self.payload, self.buffers = forward(self.id, method, data, buffers)


class NumberedCall(ForwardedCall):
    """A `ForwardedCall` whose arguments are those of a whole input: see `pack_input`."""

    __slots__ = ()

    def _pack(self, method: str, data: Any, buffers: Sequence[Any]) -> None:
        self.payload, self.buffers = with_number(data, self.id), list(buffers)


class SerialCaller(Protocol):
    """The caller of a `ForwardedInput`."""

    def context_of(self, input: ForwardedInput) -> Context:
        """Return the context in which the output of a call is shown."""

    def pass_prompt_on(self, input: ForwardedInput, slot: Slot, prompt: Prompt) -> None:
        """Ask where the call was made, on the thread that waits for its answer."""


class ForwardedInput(Input):
    """The same for a thread that waits for the answer itself.

    ``number`` is that of the call on the connection of its ``caller``.
    """

    __slots__ = ("_caller", "number")

    is_answered = False

    def __init__(
        self,
        pool: Pool,
        method: str,
        data: Any,
        buffers: Sequence[Any],
        caller: SerialCaller,
        number: int,
    ) -> None:
        super().__init__(pool, method, None, {})
        self.payload, self.buffers = with_number(data, self.id), list(buffers)
        self._caller = caller
        self.number = number

    @property
    def context(self) -> Context:  # type: ignore[override]
        return self._caller.context_of(self)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        self._caller.pass_prompt_on(self, slot, prompt)


class ForwardedItems(LazyStream):
    """A generator's input from inside a container. Its items are `ForwardedAnswer`."""

    make_reader = _ForwardingStreamReader
    is_answered = False

    def __init__(
        self, pool: Pool, method: str, data: Any, buffers: Sequence[Any], context: Context
    ) -> None:
        super().__init__(pool, method, (), {})
        self.payload, self.buffers = forward(self.id, method, data, buffers)
        self.context = context
        self.on_prompt: OnPrompt | None = None

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        _pass_on(self, self.on_prompt, slot, prompt)

    def abandon(self) -> None:
        """Interrupt the method, or the wait for a slot. On any thread."""
        self.on_sigint()
