"""Two ends of one channel in one process, for tests of what travels in shared memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from lifecycle_magic.wire import shared
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.segment import Segment
from lifecycle_magic.wire.shared import Shared


class Pair:
    """Two ends of one channel in this process, with shared memory between them."""

    def __init__(self, limit: int = shared.SEGMENT_LIMIT_BYTES) -> None:
        data, sides = socket.socketpair(), socket.socketpair()
        self.here, self.there = Channel(data[0]), Channel(data[1])
        self.here.shared, self.there.shared = Shared(sides[0], limit), Shared(sides[1], limit)

    def carry(self, value: Any) -> Any:
        """``value`` as it comes out at the other end."""
        sender = threading.Thread(target=self.here.send, args=(Kind.RESULT, *dumps(value)))
        sender.start()
        frame = self.there.receive()
        sender.join()
        assert frame is not None
        return loads(frame.payload, buffers=frame.buffers)

    def answer(self, work: Callable[[Any], Any], value: Any) -> Any:
        """Return the result of ``work`` on ``value`` at the other end, as it arrives back here."""
        frames = []

        def there() -> None:
            frame = self.there.receive()
            assert frame is not None
            got = loads(frame.payload, buffers=frame.buffers)
            del frame
            made = work(got)
            del got
            payload, buffers = dumps(made)
            del made
            self.there.send_on(Kind.RESULT, payload, buffers)

        worker = threading.Thread(target=there)
        worker.start()
        self.here.send(Kind.CALL, *dumps(value))
        frames.append(self.here.receive())
        worker.join()
        frame = frames.pop()
        assert frame is not None
        return loads(frame.payload, buffers=frame.buffers)

    @property
    def copied(self) -> bool:
        """Return whether the other end has ever copied a value into shared memory."""
        assert self.there.shared is not None
        return bool(self.there.shared.mine)

    @property
    def segments(self) -> list[Segment]:
        assert self.here.shared is not None
        return self.here.shared.mine

    def close(self) -> None:
        self.here.close()
        self.there.close()
