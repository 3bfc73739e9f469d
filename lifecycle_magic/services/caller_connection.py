"""One connection of a caller: a thread reads its frames, another one writes the answers."""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from typing import Any

from lifecycle_magic.calls.forwarded import ForwardedAnswer, ForwardedFailure
from lifecycle_magic.exception import WireError
from lifecycle_magic.guest.failures import to_failure
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.nested import pack_number
from lifecycle_magic.wire.pickling import dumps

__all__ = ["CallerConnection", "pickled"]

Sent = tuple[int, int, tuple[Any, ...]]  # kind, number of the call, pickle and its buffers


class CallerConnection:
    """An admitted connection. A subclass acts on its frames in `_on_frame`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._outgoing: SimpleQueue[Sent | None] = SimpleQueue()

    def serve(self) -> None:
        """Serve the caller's calls until the connection ends."""
        writer = threading.Thread(target=self._write, name="lifecycle-answers", daemon=True)
        writer.start()
        try:
            while (frame := self._channel.receive()) is not None:
                self._on_frame(frame)
                del frame
        except OSError:
            pass
        finally:
            self._on_end()
            self._outgoing.put(None)
            writer.join()
            self._channel.close()
            self._on_closed()

    def _on_frame(self, frame: Frame) -> None:
        """Act on a frame of the caller. Raises `WireError` for one that means nothing."""
        raise NotImplementedError

    def _on_end(self) -> None:
        """React to the end of the connection, before it is closed."""

    def _on_closed(self) -> None:
        """React to the end of the connection, after it was closed."""

    def shut_down(self) -> None:
        """End the connection. On any thread."""
        with contextlib.suppress(OSError):
            self._channel.sock.shutdown(2)

    def notify(self, kind: int) -> None:
        """Send a frame that is about no call: CHANGED or LEAVING. On any thread."""
        self._enqueue(kind, 0, ())

    def on_change(self) -> None:
        """Report that a class that this connection may call was declared again."""
        self.notify(Kind.CHANGED)

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        self._channel.close()

    def _write(self) -> None:
        while (one := self._outgoing.get()) is not None:
            try:
                self._send(*one)
            except WireError as error:
                self._send(Kind.FAILURE, one[1], _failure(error))
            except OSError:
                pass  # the reader ends, too
            del one
            self._on_sent()

    def _on_sent(self) -> None:
        """React to a frame that the writing thread has sent."""

    def _send(self, kind: int, number: int, parts: tuple[Any, ...]) -> None:
        self._channel.send(kind, pack_number(number), parts)

    def _enqueue(self, kind: int, number: int, parts: tuple[Any, ...]) -> None:
        self._outgoing.put((kind, number, parts))

    def _fail(self, number: int, error: BaseException) -> None:
        if isinstance(error, ForwardedFailure):
            self._put(Kind.FAILURE, number, error.answer)
        else:
            self._enqueue(Kind.FAILURE, number, _failure(error))

    def _put(self, kind: int, number: int, answer: ForwardedAnswer) -> None:
        self._enqueue(kind, number, (answer.data, *answer.buffers))


def pickled(value: Any) -> ForwardedAnswer:
    """Return a value as an answer."""
    return ForwardedAnswer(*dumps(value))


def _failure(error: BaseException) -> tuple[Any, ...]:
    data, buffers = dumps(to_failure(error))
    return (data, *buffers)
