"""The connections that a container opens to a kernel: at its start, and when one adopts it."""

from __future__ import annotations

from typing import NamedTuple

from lifecycle_magic.wire.descriptors import make_room
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.hello import CONTROL, DATA, MEMORY, BootFile, dial, introduce
from lifecycle_magic.wire.shared import Shared

__all__ = ["Connected", "connect"]


class Connected(NamedTuple):
    """The connections to one kernel: for control, and for each slot one for calls."""

    control: Channel
    data: list[Channel]

    def set_timeout(self, seconds: float | None) -> None:
        """Set how long the sockets may block; None means without end."""
        for channel in (self.control, *self.data):
            channel.sock.settimeout(seconds)

    def close(self) -> None:
        """Close all of them."""
        for channel in (self.control, *self.data):
            channel.close()


def connect(boot: BootFile, timeout: float | None = None, *, to_pass_on: bool = False) -> Connected:
    """Connect to the kernel that wrote ``boot``.

    With ``to_pass_on`` the sockets go to another process, and nothing is read ahead. Raises
    `OSError`, which `HandshakeError` is, if the kernel is gone, refuses this container, or leaves a
    connection without an answer for ``timeout`` seconds.
    """
    make_room(boot.channels)
    opened: list[Channel] = []

    def open_one(role: str, slot: int = 0) -> Channel:
        sock = dial(boot.address)
        sock.settimeout(timeout)
        try:
            channel = introduce(sock, boot.token, role, slot, exact=to_pass_on)
        except BaseException:
            sock.close()
            raise
        opened.append(channel)
        return channel

    try:
        control = open_one(CONTROL)
        data = [open_one(DATA, slot) for slot in range(boot.channels)]
        if boot.address.startswith("unix:"):  # descriptors pass over no other socket
            for slot, channel in enumerate(data):
                channel.shared = Shared(open_one(MEMORY, slot).sock)
    except BaseException:
        for channel in opened:
            channel.close()
        raise
    return Connected(control, data)
