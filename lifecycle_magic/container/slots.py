"""The plan from which a container starts, and its slots, each of which takes one input at a
time.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lifecycle_magic.container.output_order import OutputOrder
from lifecycle_magic.decorators.classes import CALL
from lifecycle_magic.engines.base import Launch
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.messages import Setup, output, prompt
from lifecycle_magic.wire.nested import REFUSED
from lifecycle_magic.wire.ticket_fifo import TicketFifo

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["Plan", "RunningInput", "Slot"]

_NO_CELL = "no cell waits for the constructor, enter or new code, which also run in the background"


@dataclass(frozen=True)
class Plan:
    """Everything from which a container is started. Times are in seconds, ``memory`` in MiB.

    ``service`` is the key of its class in the session. ``build_hook`` names the hook that the
    container runs for an image, if that is its only purpose. ``any_python``: its code is readable
    in every supported Python. ``adopted``: the container runs already, without a kernel.
    ``is_function``: the class was made of a function, whose name it has.
    """

    cls: str
    launch: Launch
    setup: Setup
    channels: int
    grace: float
    startup_timeout: float
    memory: int | None
    service: str = ""
    build_hook: str = ""
    any_python: bool = False
    adopted: bool = False
    is_function: bool = False

    def title(self, method: str) -> str:
        """Return what users call a method in errors: ``Model.go``, or the name of a function."""
        return self.cls if self.is_function and method == CALL else f"{self.cls}.{method}"


class RunningInput(Protocol):
    """The part of a running input that its container uses: see
    `lifecycle_magic.calls.input.Input`.
    """

    slot: Slot | None
    counts_as_call: bool

    @property
    def is_half_read(self) -> bool: ...

    def show_from_thread(self, stream: str, text: str) -> None: ...
    def on_draining(self) -> None: ...
    def on_caller_blocking(self, thread: int) -> None: ...


class Slot:
    """One data connection, which runs one ``input`` at a time.

    ``tickets`` is None where inputs that were sent ahead cannot be taken back.
    """

    __slots__ = (
        "began",
        "channel",
        "container",
        "given_up",
        "input",
        "outputs",
        "reader",
        "task",
        "tickets",
    )

    def __init__(self, container: Container, channel: Channel, tickets: TicketFifo | None) -> None:
        self.container = container
        self.channel = channel
        self.tickets = tickets
        self.input: RunningInput | None = None
        self.given_up = ""  # why its last input was given up in a container that drains
        self.began = 0.0  # when its input got it, of time.monotonic
        self.outputs = OutputOrder()
        self.reader: int | None = None  # the thread that reads here frame by frame
        # the coroutine that reads, for an async generator
        self.task: weakref.ref[Any] | None = None

    def read_answer(self, show: Callable[[str, str], None] | None = None) -> Frame | None:
        """Return the next frame that is not output. Output goes to ``show``, if given. Prompts are
        refused.

        Return None if the connection ended. Raises `WireError` if it broke.
        """
        try:
            while True:
                frame = self.channel.receive()
                if frame is None or frame.kind not in (Kind.OUTPUT, Kind.PROMPT):
                    return frame
                if frame.kind == Kind.PROMPT:
                    number, _, _ = prompt(frame.payload)
                    self.container.prompt_answers.put(number, REFUSED, _NO_CELL)
                    continue
                if show is not None:
                    show(*output(frame.payload))
                self.outputs.note_shown()
        except WireError:
            raise
        except OSError:
            return None

    def stop_reading(self) -> None:
        """Stop reading: what was answered stays readable, then readers find the end of the
        connection.
        """
        # By way of a network, data may still be in transit.
        if self.channel.shared is not None:
            with contextlib.suppress(OSError):  # closed
                self.channel.sock.shutdown(socket.SHUT_RD)

    def give_up(self, why: str) -> None:
        """Give up the slot's input: readers and writers find the end of the connection."""
        self.given_up = why
        with contextlib.suppress(OSError):  # closed
            self.channel.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection of an exited container that no thread reads any more."""
        if self.channel.shared is not None:
            self.channel.shared.release_passed()
        self.channel.close()
        if self.tickets is not None:
            self.tickets.close()
