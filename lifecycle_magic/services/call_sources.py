"""The two sides of a connection for calls: who makes them, and the session that serves them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Protocol

from lifecycle_magic.calls.input import Input
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.prompt_answers import PromptAnswers
from lifecycle_magic.pool.printing import viewer
from lifecycle_magic.wire.nested import Ask

if TYPE_CHECKING:
    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.services.circle_watch import CircleWatch
    from lifecycle_magic.services.kept_calls import KeptCalls
    from lifecycle_magic.services.service import Service

__all__ = ["CallOrigin", "CallSource", "ContainerSource", "ProcessSource", "SessionCalls"]

FindService = Callable[[str], "Service | None"]
"""Returns the service of a class by its key. None if another session may serve it. Raises
`InvalidError` or `NotFoundError` if there is none.
"""


class SessionCalls(Protocol):
    """The part of a session that its connections use. ``who`` is the session in words."""

    id: str

    @property
    def kept_calls(self) -> KeptCalls: ...
    @property
    def circle_watch(self) -> CircleWatch: ...
    @property
    def who(self) -> str: ...


class CallOrigin:
    """The origin of a call: its ``caller``, and the ``context`` in which its output is shown.

    ``show`` shows it there. ``after`` counts the outputs of ``slot``, where the caller runs, that
    are shown first.
    """

    __slots__ = ("_show", "_slot", "after", "caller", "context")

    def __init__(
        self,
        context: Context,
        show: Callable[[str, str], None] | None = None,
        caller: Input | None = None,
        slot: Slot | None = None,
        after: int = 0,
    ) -> None:
        self.caller = caller
        self._show = show
        self._slot = slot
        self.after = after
        self.context = context
        if show is not None:
            context.run(viewer.set, show if slot is None else self._show_in_order)

    def _show_in_order(self, stream: str, text: str) -> None:
        assert self._show is not None
        assert self._slot is not None
        show = functools.partial(self._show, stream, text)
        self._slot.outputs.show_after(self.after, show)


class CallSource(Protocol):
    """The caller on the other side of a connection.

    ``is_process`` is true for another process of this user, which is trusted more than a container.
    """

    find: FindService
    is_process: bool
    prompt_answers: PromptAnswers | None  # to the prompts of a container

    def serves(self, key: str) -> bool:
        """Return whether the session still serves a class that was found before."""

    def caller(self, slot: int) -> Input | None:
        """Return the call that runs in a slot of the caller, or None."""

    def origin(self, ask: Ask, show: Callable[[str, str], None]) -> CallOrigin:
        """Return the origin of a call. ``show`` sends output to the caller."""


class ContainerSource:
    """A container. The output of its calls is shown where that of the calling call appears."""

    is_process = False

    def __init__(self, container: Container, find: FindService) -> None:
        self.find = find
        self._container = container
        self.prompt_answers: PromptAnswers | None = container.prompt_answers

    def serves(self, key: str) -> bool:
        return True

    def caller(self, slot: int) -> Input | None:
        slots = self._container.slots
        input = slots[slot].input if 0 <= slot < len(slots) else None
        return input if isinstance(input, Input) else None

    def origin(self, ask: Ask, show: Callable[[str, str], None]) -> CallOrigin:
        caller = self.caller(ask.slot)
        slots = self._container.slots
        # A thread that belongs to no call has the output of any call that runs there.
        found = caller or next((one.input for one in slots if isinstance(one.input, Input)), None)
        if not isinstance(found, Input):
            return CallOrigin(copy_context())
        slot = slots[ask.slot] if caller is not None else slots[0]
        return CallOrigin(found.context.copy(), found.show_from_thread, caller, slot, ask.outputs)


class ProcessSource:
    """Another process of this user. It shows the output of its calls itself."""

    is_process = True

    def __init__(self, find: FindService, serves: Callable[[str], bool]) -> None:
        self.find = find
        self.serves = serves
        self.prompt_answers: PromptAnswers | None = None

    def caller(self, slot: int) -> Input | None:
        return None

    def origin(self, ask: Ask, show: Callable[[str, str], None]) -> CallOrigin:
        return CallOrigin(copy_context(), show)
