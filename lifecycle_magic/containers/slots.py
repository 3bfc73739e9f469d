"""What a container is started from, and its slots: each takes one input at a time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lifecycle_magic.engines.base import Launch
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.messages import Setup, output
from lifecycle_magic.wire.turns import Turns

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container

__all__ = ["Plan", "Slot", "Tenant"]


@dataclass(frozen=True)
class Plan:
    """All that a container is started from. ``service`` is the key of its class in the session;
    ``build_hook`` is what it only runs for an image, if it does.
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


class Tenant(Protocol):
    """What a container needs to know of an input in it: `lifecycle_magic.pools.inputs.Input`."""

    slot: Slot | None
    counts: bool

    def show_from_elsewhere(self, stream: str, text: str) -> None: ...
    def going(self) -> None: ...


class Slot:
    """One data connection: room for one input. ``input`` is what runs in it.

    ``turns`` is None where inputs that were sent ahead can't be taken back.
    """

    __slots__ = ("began", "channel", "container", "input", "reader", "turns")

    def __init__(self, container: Container, channel: Channel, turns: Turns | None) -> None:
        self.container = container
        self.channel = channel
        self.turns = turns
        self.input: Tenant | None = None
        self.began = 0.0  # when it was given to its input, of time.monotonic
        self.reader: int | None = None  # the thread that reads here frame by frame

    def answer(self, show: Callable[[str, str], None] | None = None) -> Frame | None:
        """The next frame that is no output, which ``show`` gets if anybody does. None if the
        connection ended; raises `WireError` if it broke.
        """
        try:
            while True:
                frame = self.channel.receive()
                if frame is None or frame.kind != Kind.OUTPUT:
                    return frame
                if show is not None:
                    show(*output(frame.payload))
        except WireError:
            raise
        except OSError:
            return None

    def read_no_more(self) -> None:
        """What it answered is here, and no more will come: whoever reads on finds the end."""
        sock = self.channel.sock
        if sock.family == socket.AF_UNIX:  # else something may still be on its way
            with contextlib.suppress(OSError):  # closed
                sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """The container is gone, and nobody reads here any more."""
        self.channel.close()
        if self.turns is not None:
            self.turns.close()
