"""The two sides of a connection for calls: who makes them, and the session that serves them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Protocol

from lifecycle_magic.calls.input import Input
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.prompt_answers import PromptAnswers
from lifecycle_magic.pool.printing import viewer

if TYPE_CHECKING:
    from lifecycle_magic.services.circle_watch import CircleWatch
    from lifecycle_magic.services.kept_calls import KeptCalls
    from lifecycle_magic.services.service import Service

__all__ = ["CallSource", "ContainerSource", "ProcessSource", "SessionCalls"]

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

    def context(self, caller: Input | None, show: Callable[[str, str], None]) -> Context:
        """Return the context in which the output of a call is shown.

        ``show`` sends it to the caller.
        """


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

    def context(self, caller: Input | None, show: Callable[[str, str], None]) -> Context:
        # A thread that belongs to no call has the context of any call that runs there.
        running = [caller, *(one.input for one in self._container.slots)]
        found = next((one for one in running if isinstance(one, Input)), None)
        return found.context if found is not None else copy_context()


class ProcessSource:
    """Another process of this user. It shows the output of its calls itself."""

    is_process = True

    def __init__(self, find: FindService, serves: Callable[[str], bool]) -> None:
        self.find = find
        self.serves = serves
        self.prompt_answers: PromptAnswers | None = None

    def caller(self, slot: int) -> Input | None:
        return None

    def context(self, caller: Input | None, show: Callable[[str, str], None]) -> Context:
        context = copy_context()
        context.run(viewer.set, show)
        return context
