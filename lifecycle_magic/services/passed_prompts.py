"""Prompts of called containers, which the calling container shows as its own.

    called container → kernel    PROMPT on its data socket
    kernel → calling container   PROMPT on the connection for calls, with a number of the caller
    calling container → kernel   the same on its own data socket: its caller is asked

The answer to the caller's prompt is then the answer to the called container's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from lifecycle_magic.calls.prompts import OTHER_PROCESS, Prompt, PromptClock, refuse
from lifecycle_magic.wire.nested import REFUSED
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.calls.input import Input
    from lifecycle_magic.container.prompt_answers import Answer, PromptAnswers
    from lifecycle_magic.container.slots import Slot

__all__ = ["PassedPrompts"]

_numbers = itertools.count(1 << 32)  # those of containers count from 1


class PassedPrompts:
    """The prompts that go to one calling container.

    ``answers`` are those to its prompts, None for a caller that is no container. ``send`` sends it
    a PROMPT about the call of this number.
    """

    def __init__(self, answers: PromptAnswers | None, send: Callable[[int, bytes], None]) -> None:
        self._answers = answers
        self._send = send
        self._open: dict[int, int] = {}  # the newest prompt of each call

    def pass_on(self, call: int, input: Input, slot: Slot, prompt: Prompt) -> None:
        """Pass on a prompt of ``input``, which the caller knows as ``call``. On any thread."""
        if self._answers is None:
            refuse(slot, prompt, OTHER_PROCESS)
            return
        number = self._open[call] = next(_numbers)
        clock = input.prompt_clock = input.prompt_clock or PromptClock()
        clock.start()

        def answer(done: Future[Answer]) -> None:
            clock.stop()
            self._open.pop(call, None)
            if not done.cancelled():
                slot.container.prompt_answers.put(prompt.number, *done.result())

        self._answers.take(number).add_done_callback(answer)
        self._send(call, dumps((number, prompt.text, prompt.is_secret))[0])

    def refuse(self, call: int, why: str) -> None:
        """Refuse the prompt of a call, which the caller can't show."""
        number = self._open.get(call)
        if number is not None and self._answers is not None:
            self._answers.put(number, REFUSED, why)
