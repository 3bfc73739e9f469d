"""The user on the other side of a Unix socket."""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["is_own_user"]

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


def is_own_user(sock: socket.socket) -> bool:
    """Return whether a connected Unix socket's other side runs as this user.

    Where the system does not tell, the folder around the socket, which is 0700, must do.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    found = sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.geteuid())
