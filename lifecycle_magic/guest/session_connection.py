"""A connection over which a process calls methods that a session serves.

The session serves it on a thread of its own, so calls need nothing of its main thread. One thread
here reads the answers. `lifecycle_magic.guest.container_connection` has the connection of a
container, `lifecycle_magic.peers.connection` that of another process, which calls by name.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.exception import WireError
from lifecycle_magic.guest.output import current_lane, lane_here
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.messages import output
from lifecycle_magic.wire.nested import SPAWN, Ask, number_of, pack_number, pack_numbers
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane

__all__ = ["Answer", "CallTarget", "Reach", "SessionConnection", "SessionLeft", "begin"]
__all__ += ["pickle_arguments", "send_outputs", "shielded"]


class CallTarget(NamedTuple):
    """The target of a call: a method of the class ``key``, made with pickled ``arguments``."""

    key: str
    arguments: bytes
    method: str
    where: str


class Answer(NamedTuple):
    """One answer to a call: the kind of its frame, a pickle and the buffers outside the pickle.

    ``lost`` is set if the connection has ended, and says what has ended it. ``far`` makes handles
    of another session's classes: see `lifecycle_magic.decorators.travel.far_session`.
    """

    kind: int
    data: Any = b""
    buffers: Sequence[Any] = ()
    lost: str = ""
    far: Callable[[str, bool], Any] | None = None


Show = Callable[[str, str], None]


class _Receiver(NamedTuple):
    """The receiver of a call's answers and output, and the place where the call was made."""

    receive: Callable[[Answer], None]
    show: Show | None
    lane: Lane | None


class SessionLeft(Exception):
    """The session takes no new calls, because another one has replaced it."""


Reach = Callable[[], "tuple[SessionConnection, CallTarget]"]
"""Returns where a call goes: over which connection, and to what."""


def begin(
    reach: Reach,
    form: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    receive: Callable[[Answer], None],
) -> tuple[SessionConnection, int]:
    """Start a call. Return its connection and its number there. ``receive`` gets each answer."""
    while True:
        used, target = reach()
        try:
            return used, used.ask(target, form, args, kwargs, receive)
        except SessionLeft:
            continue


class SessionConnection:
    """An open connection. All methods may be called from any thread."""

    end = "the session that serves it has ended"
    far: Callable[[str, bool], Any] | None = None

    def __init__(self, channel: Channel, session: str = "") -> None:
        self.session = session  # its id
        self.is_closed = False
        self.is_left = False  # the session takes no new calls
        self.descriptions: dict[str, Any] = {}  # of classes called by name, by key
        self.changes = 0  # how often a class was declared again
        self._channel = channel
        self._numbers = itertools.count(1)
        self._id = os.urandom(4).hex()
        self._receivers: dict[int, _Receiver] = {}
        self._lock = threading.Lock()
        self._close_in_forks()
        threading.Thread(target=self._read, name="lifecycle-calls", daemon=True).start()

    def ask(
        self,
        target: CallTarget,
        form: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        receive: Callable[[Answer], None],
    ) -> int:
        """Start a call and return its number. ``receive`` gets each answer, on another thread.

        Raises `SessionLeft` if the session takes no new calls.
        """
        data, buffers = self._pickle(target.where, args, kwargs)
        lane = current_lane.get()
        slot = lane.slot if lane is not None and lane.target.current is not None else -1
        ask = Ask(0, target.key, target.arguments, target.method, form, slot)
        return self.start(ask, [data, *buffers], receive, self._shower())

    def call(
        self, target: CallTarget, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Answer | None:
        """Make a call and wait for its answer, on a connection of its own.

        None if there is no such connection: `ask` makes the call.
        """
        return None

    def start(
        self, ask: Ask, parts: list[Any], receive: Callable[[Answer], None], show: Show | None
    ) -> int:
        """Start a call whose arguments are pickled already. See `ask`.

        ``show(stream, text)`` gets what it prints, if this connection carries output.
        """
        lane = lane_here()
        outputs = send_outputs(lane)
        number = next(self._numbers)
        id = self.call_id(number) if ask.form == SPAWN and not ask.id else ask.id
        payload, _ = dumps(ask._replace(number=number, id=id, outputs=outputs))
        try:
            with self._shielded():
                with self._lock:
                    if self.is_left:
                        raise SessionLeft
                    self._receivers[number] = _Receiver(receive, show, lane)
                    closed = self.is_closed
                try:
                    if not closed:
                        self._channel.send(Kind.ASK, payload, parts)
                except WireError:
                    self._receivers.pop(number, None)
                    raise
                except OSError:
                    closed = True
                if closed and self._receivers.pop(number, None) is not None:
                    receive(Answer(Kind.CANCELLED, lost=self.end))
        except KeyboardInterrupt:  # it came while the call was sent
            self.send(Kind.ABANDON, number)
            raise
        return number

    def send(self, kind: int, number: int) -> None:
        """Send a frame about a call: ABANDON, AWAIT, NEXT or PROMPT."""
        if kind in (Kind.AWAIT, Kind.NEXT):
            payload = pack_numbers(number, send_outputs(lane_here()))
        else:
            payload = pack_number(number)
        with self._shielded(), contextlib.suppress(OSError):
            if kind == Kind.ABANDON:
                self._receivers.pop(number, None)
            self._channel.send(kind, payload)
            self._close_if_left()

    def _read(self) -> None:
        try:
            while (frame := self._channel.receive()) is not None:
                self._on_frame(frame)
                del frame
        except (OSError, ValueError):
            pass
        with self._lock:
            self.is_closed = True
        self._on_ended()
        for number in list(self._receivers):
            receiver = self._receivers.pop(number, None)
            if receiver is not None:
                receiver.receive(Answer(Kind.CANCELLED, lost=self.end))
        self._channel.close()

    def _on_frame(self, frame: Frame) -> None:
        number = number_of(frame.payload)
        if frame.kind == Kind.CHANGED:
            self._on_changed()
            return
        if frame.kind == Kind.LEAVING:
            with self._lock:
                self.is_left = True
            self._on_ended()
            self._close_if_left()
            return
        data, *buffers = frame.buffers or (b"",)
        if frame.kind == Kind.PROMPT:
            self._pass_prompt_on(number, data)
            return
        if frame.kind in (Kind.ITEM, Kind.OUTPUT):
            receiver = self._receivers.get(number)
        else:
            receiver = self._receivers.pop(number, None)
        if receiver is None:
            pass  # its caller wants no answer any more
        elif frame.kind != Kind.OUTPUT:
            receiver.receive(Answer(frame.kind, data, buffers, far=self.far))
        elif receiver.show is not None:
            receiver.show(*output(memoryview(data)))
        self._close_if_left()

    def _pass_prompt_on(self, call: int, data: Any) -> None:
        """Ask, where a call was made, what the called method asks."""
        receiver = self._receivers.get(call)  # none: the caller wants no answer any more
        lane = receiver.lane if receiver is not None else None
        if lane is None or not lane.pass_prompt_on(bytes(data)):
            self.send(Kind.PROMPT, call)

    def _close_if_left(self) -> None:
        """End the connection to a session that has been replaced, after the last answer."""
        if self.is_left and not self._receivers:
            with contextlib.suppress(OSError):
                self._channel.sock.shutdown(socket.SHUT_RDWR)

    def call_id(self, number: int) -> str:
        """Return the id of a spawned call, by which other processes find it."""
        return f"fc-{self.session}-{self._id}-{number}"

    # --- what differs between a container and another process -------------------------------

    def _close_in_forks(self) -> None:
        """Close the connection in every child that this process forks."""
        raise NotImplementedError

    def _pickle(
        self, where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        return pickle_arguments(where, args, kwargs)

    def _shielded(self) -> AbstractContextManager[Any]:
        """Hold back interrupts of the call on this thread: they must not tear a frame in two."""
        return shielded(current_lane.get())

    def _on_changed(self) -> None:
        """React to another declaration of a class: descriptions may be outdated."""
        self.changes += 1  # first: what is on its way to the descriptions is outdated, too
        self.descriptions.clear()

    def _on_ended(self) -> None:
        """React to the end of the session, or to its replacement by another one."""

    def _shower(self) -> Show | None:
        """Return what shows the output of a call. In a container none: the kernel shows it."""
        return None


def send_outputs(lane: Lane | None) -> int:
    """Send everything that the running call printed, and return how many outputs that makes.

    What the called method prints from now on is shown after them.
    """
    if lane is None:
        return 0
    lane.show_output()
    return lane.outputs_sent


def shielded(lane: Lane | None) -> AbstractContextManager[Any]:
    """Hold back interrupts of the call on this thread: they must not tear a frame in two."""
    if lane is None:
        return contextlib.nullcontext()
    return lane.target


def pickle_arguments(
    where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Return the arguments of a call as a pickle and its buffers. Raises `SerializationError`."""
    from lifecycle_magic.wire.pickling import prepare_args, prepare_kwargs

    try:
        return dumps((prepare_args(args), prepare_kwargs(kwargs)))
    except Exception as error:
        from lifecycle_magic.wire.unpicklable import arguments_error

        raise arguments_error(where, args, kwargs, error) from None
