"""New connections for a worker whose kernel has exited: the supervisor passes them on.

A lane whose data socket is at its end waits here. It goes on if the supervisor passes another
socket for it, because another kernel has adopted the container, and it ends if the supervisor shuts
the handover down, because the container stops.

    supervisor → worker   the number of a slot, with the descriptors of its data socket, of its
                          socket for memory, and with the first slot of the socket for own calls

A message is a packet of its own (SOCK_SEQPACKET). A container opens no file for this and starts no
thread: the lanes take turns in reading.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.shared import Shared

__all__ = ["Handover", "Passed"]

_HEADER = struct.Struct("<IB")  # the slot, and what comes with it
_MEMORY, _CALLS = 1, 2
_MOST_DESCRIPTORS = 3


class Passed(NamedTuple):
    """A new connection of a lane. ``calls`` is a descriptor of the socket for its own calls."""

    channel: Channel
    calls: int | None = None


class Handover:
    """Both ends of the way by which connections are passed; created before the fork."""

    def __init__(self) -> None:
        self._supervisor, self._worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._condition = threading.Condition()
        self._arrived: dict[int, Passed] = {}
        self._is_read = False  # by one of the waiting lanes
        self._is_over = False

    def close_worker_end(self) -> None:
        """Close the worker's end, in the supervisor."""
        self._worker.close()

    def close_supervisor_end(self) -> None:
        """Close the supervisor's end, in the worker."""
        self._supervisor.close()

    def close_in_child(self) -> None:
        """Close the worker's end in a process that the user's code forked."""
        self._worker.close()

    # --- the supervisor --------------------------------------------------------------------

    def pass_on(self, slot: int, channel: Channel, calls: int | None) -> None:
        """Pass a connection to the lane of a slot. Raises `OSError` if the worker has exited."""
        descriptors = [channel.sock.fileno()]
        with_it = 0
        if channel.shared is not None:
            with_it |= _MEMORY
            descriptors.append(channel.shared.sock.fileno())
        if calls is not None:
            with_it |= _CALLS
            descriptors.append(calls)
        socket.send_fds(self._supervisor, [_HEADER.pack(slot, with_it)], descriptors)

    def end(self) -> None:
        """Let the lanes that wait end, and those that come."""
        with contextlib.suppress(OSError):  # the worker has exited
            self._supervisor.shutdown(socket.SHUT_RDWR)

    # --- the worker ------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the worker's end, to wait until something has arrived."""
        return self._worker.fileno()

    def watch(self, loop: Any, callback: Callable[..., object]) -> None:
        """Register ``callback`` with an asyncio loop for when something has arrived.

        The loop's ``remove_reader`` ends it. The socket stays a blocking one: see `Channel.watch`.
        """
        loop.add_reader(self._worker.fileno(), callback)
        self._worker.setblocking(True)

    def wait(self, slot: int) -> Passed | None:
        """Wait for a connection for this slot. Return None if the container stops."""
        while True:
            with self._condition:
                while True:
                    if slot in self._arrived:
                        return self._arrived.pop(slot)
                    if self._is_over:
                        return None
                    if not self._is_read:
                        self._is_read = True
                        break
                    self._condition.wait()
            try:
                found = self._read()
            except BaseException:
                with self._condition:
                    self._is_read = False
                    self._condition.notify_all()
                raise
            with self._condition:
                self._is_read = False
                if found is None:
                    self._is_over = True
                else:
                    self._arrived[found[0]] = found[1]
                self._condition.notify_all()

    def _read(self) -> tuple[int, Passed] | None:
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._worker, _HEADER.size, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return None
        if len(data) != _HEADER.size or not descriptors:
            for one in descriptors:
                os.close(one)
            return None
        slot, with_it = _HEADER.unpack(data)
        channel = Channel(socket.socket(fileno=descriptors.pop(0)))
        if with_it & _MEMORY:
            channel.shared = Shared(socket.socket(fileno=descriptors.pop(0)))
        return slot, Passed(channel, descriptors.pop(0) if with_it & _CALLS else None)
