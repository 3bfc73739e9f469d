"""The connections between the kernel and one container, until they are closed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lifecycle_magic.container.control import SupervisorConnection, SupervisorMessage
from lifecycle_magic.container.handshake import Handshake
from lifecycle_magic.container.idle_memory import IdleMemory
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import Error, StartError
from lifecycle_magic.lifecycle.states import ENDED_STATES
from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.begun_page import BegunPageReader
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.ticket_fifo import TicketFifo

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["Connections"]


class Connections:
    """All sockets of a container, its slots, and the page of the inputs that it has begun.

    ``begun`` is None where the container may be on another machine.
    """

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.control: SupervisorConnection | None = None  # until its end
        self.begun: BegunPageReader | None = None
        self.show_start: Callable[[str, str], None] | None = None  # while enter runs
        self._sockets: list[socket.socket] = []  # all of them, including the listener
        self._accepted: tuple[socket.socket, list[Channel]]  # for control, and for the slots
        self._tickets: Sequence[str | None]
        self._start_is_over = False  # until then, the start reads from the slots

    def connect(self, container: Container, launch: Callable[[], str], deadline: float) -> None:
        """Launch a container and wait for its connections, as
        `lifecycle_magic.container.handshake.Handshake` does.
        """
        plan = container.plan
        try:
            with Handshake(
                plan, container.engine, self._sockets, container.set_pending
            ) as handshake:
                self.begun = handshake.begun
                self._accepted = handshake.wait_for_connections(
                    launch(), deadline, container.check_not_killed
                )
                self._tickets = handshake.tickets
        except OSError as error:
            if isinstance(error, Error) or not (explained := descriptors.explain(error)):
                raise
            raise StartError(f"{plan.cls}: {explained}") from None

    def watch(
        self,
        container: Container,
        on_message: Callable[[SupervisorMessage], None],
        on_end: Callable[[], None],
    ) -> None:
        """Make the slots, and receive the supervisor's messages from now on."""
        sock, data = self._accepted
        event_loop = container.event_loop
        IdleMemory(data, event_loop, lambda: container.state not in ENDED_STATES).watch()
        self.slots = [
            Slot(container, channel, TicketFifo(path) if path else None)
            for channel, path in zip(data, self._tickets, strict=True)
        ]
        self.control = SupervisorConnection(sock, event_loop, on_message, on_end)
        self.control.watch()

    def show_in_cell(self, stream: str, text: str) -> None:
        """Print output that bypassed ``sys.stdout`` in the cell of the call that runs now, or in
        that of the start.
        """
        for slot in self.slots:
            input = slot.input
            if input is not None:
                input.show_from_thread(stream, text)
                return
        if self.show_start is not None:
            self.show_start(stream, text)

    def close_all(self) -> None:
        """Close the connections of a container that was killed while it connected."""
        for sock in self._sockets:
            sock.close()
        self.freeze()

    def freeze(self) -> None:
        """Keep what the container has begun so far, and nothing that it writes later."""
        if self.begun is not None:
            self.begun.freeze()

    def stop_reading(self) -> None:
        """Let readers find the end of an exited container's connections after what it answered.

        The end of the control connection may be read before that of the data connections.
        """
        for slot in self.slots:
            slot.stop_reading()

    def begin_start(self) -> None:
        """Record that a start reads from the slots, which are not closed meanwhile."""
        self._start_is_over = False

    def end_start(self, container: Container) -> None:
        """Record that the start no longer reads from the slots."""
        self._start_is_over = True
        if container.state in ENDED_STATES:
            self.close_free_slots()

    def close_free_slots(self) -> None:
        """Close the sockets of an exited container that no thread reads.

        A reader finds the end of its own connection and closes it.
        """
        if not self._start_is_over:
            return
        for slot in self.slots:
            if slot.input is None:
                slot.close()

    def may_have_begun(self, slot: Slot, call: int) -> bool:
        """Return whether the worker may have begun the input ``call``, the last one sent to
        ``slot``.
        """
        return self.begun is None or self.begun.may_have_begun(self.slots.index(slot), call)

    def close_in_fork(self) -> None:
        """Close, in a forked child, the sockets that show the container that the kernel is
        alive.
        """
        for sock in self._sockets:
            sock.close()
        for slot in self.slots:
            if slot.tickets is not None:
                slot.tickets.close()
        if self.begun is not None:
            self.begun.close_in_fork()
