"""Prompts of methods, which the thread that waits for the call shows in its cell or terminal.

That is what Python's own ``input`` and ``getpass.getpass`` do there: in a notebook they are the
kernel's, which asks the front end. Their names are looked up for each prompt, because a kernel
replaces them while a cell runs.
"""

from __future__ import annotations

import builtins
import functools
import getpass
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, final

from lifecycle_magic.pool import printing
from lifecycle_magic.threads.sigint import Interrupted, run_interruptible
from lifecycle_magic.wire.nested import END, LINE, REFUSED

if TYPE_CHECKING:
    from lifecycle_magic.calls.input import Input
    from lifecycle_magic.container.prompt_answers import Answer
    from lifecycle_magic.container.slots import Slot

__all__ = [
    "NO_CELL",
    "OTHER_PROCESS",
    "Prompt",
    "PromptClock",
    "ask_or_interrupt",
    "handle",
    "refuse",
]

NO_CELL = "no cell or terminal waits for this call"
OTHER_PROCESS = "the call comes from another process"
_NO_INPUT = "this front end takes no input, as nbconvert and papermill"

END_AFTER_INTERRUPT_SECONDS = 0.5
"""Seconds from the interrupt of a prompt until it ends, if the method has not ended it by then."""

_asking = threading.Lock()  # a front end shows one prompt at a time


@final
class Prompt(NamedTuple):
    """A running method waits for a line. ``is_secret``: it must not be shown."""

    number: int
    text: str
    is_secret: bool


class PromptClock:
    """The time that a call has waited for the user, which does not count for its ``timeout``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._seconds = 0.0  # that were not taken yet

    def start(self) -> None:
        """Note that the user is asked from now on."""
        with self._lock:
            self._since = time.monotonic()

    def stop(self) -> None:
        """Note that the user has answered."""
        with self._lock:
            if self._since is not None:
                self._seconds += time.monotonic() - self._since
                self._since = None

    def take(self) -> float:
        """Return the seconds of waiting since the last time."""
        with self._lock:
            now = time.monotonic()
            seconds, self._seconds = self._seconds, 0.0
            if self._since is not None:
                seconds += now - self._since
                self._since = now
            return seconds


def refuse(slot: Slot, prompt: Prompt, why: str = NO_CELL) -> None:
    """Answer a prompt with the reason why it can't be shown."""
    slot.container.prompt_answers.put(prompt.number, REFUSED, why)


def handle(input: Input, slot: Slot, prompt: Prompt) -> None:
    """Have ``input`` answer a prompt that was read for it. On any thread."""
    if input.interrupts or input.timed_out:  # pdb asks again after an interrupt
        slot.container.prompt_answers.put(prompt.number, END)
    else:
        input.ask(slot, prompt)


def _ask(input: Input, slot: Slot, prompt: Prompt) -> None:
    """Ask the user and pass the answer on.

    Raises `Interrupted` or KeyboardInterrupt if the user interrupts that: the prompt ends with the
    method.
    """
    if input.running_slot() is not slot:
        return  # the call has ended meanwhile
    answers = slot.container.prompt_answers
    clock = input.prompt_clock = input.prompt_clock or PromptClock()
    clock.start()
    try:
        kind, text = run_interruptible(lambda: _answer(prompt))
    except (Interrupted, KeyboardInterrupt):
        # For a thread of the method, which its interrupt does not reach.
        end = functools.partial(answers.put, prompt.number, END)
        input.pool.event_loop.call_later(END_AFTER_INTERRUPT_SECONDS, end)
        raise
    finally:
        clock.stop()
    answers.put(prompt.number, kind, text)


def ask_or_interrupt(input: Input, slot: Slot, prompt: Prompt) -> None:
    """Ask the user on this thread, which waits for the call, and pass the answer on.

    If the user interrupts that, interrupt the method.
    """
    try:
        _ask(input, slot, prompt)
    except Interrupted:
        input.interrupt_at_prompt()
    except KeyboardInterrupt:
        input.interrupt_at_prompt()
        raise


def _without_bars() -> AbstractContextManager[object]:
    """Clear tqdm's bars from the terminal meanwhile: the prompt would be on the line of one."""
    tqdm = sys.modules.get("tqdm.std")
    if tqdm is None or sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    # Without its lock, on which other threads would wait for the user.
    cleared: AbstractContextManager[object] = tqdm.tqdm.external_write_mode(nolock=True)
    return cleared


def _answer(prompt: Prompt) -> Answer:
    """Return what the user answers."""
    if printing.viewer.get() is not None:
        return REFUSED, NO_CELL
    with _asking, _without_bars():
        printing.flush()
        try:
            line = getpass.getpass(prompt.text) if prompt.is_secret else builtins.input(prompt.text)
        except EOFError:
            return END, ""
        except Exception as error:
            if type(error).__name__ == "StdinNotImplementedError":  # of IPython
                return REFUSED, _NO_INPUT
            return REFUSED, f"{type(error).__name__}: {error}".rstrip(".")
    return LINE, line if type(line) is str else str(line)
