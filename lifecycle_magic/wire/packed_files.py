"""Files as one string of bytes, for a container that shares no folder with the kernel.

The source of this module is also the beginning of the command of such a container, which can
import nothing of this package yet: it needs the standard library only.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping

__all__ = ["pack", "read_exactly", "unpack"]


def pack(files: Mapping[str, bytes], level: int = 6) -> bytes:
    """Return the files, a mapping of relative paths to bytes, as one string that names its length.

    >>> unpack(pack({"modules/a.py": b"x = 1"})[32:], None)
    {'modules/a.py': b'x = 1'}
    """
    index = json.dumps([[name, len(data)] for name, data in files.items()]).encode()
    body = zlib.compress(b"".join(files.values()), level)
    packed = b"%016x" % len(index) + index + body
    return b"%032x" % len(packed) + packed


def unpack(data: bytes, folder: str | None) -> dict[str, bytes]:
    """Write packed files (without their length) below ``folder``, if given, and return them.

    A file appears as a whole, in folders with mode 0755.
    """
    size = int(data[:16], 16)
    body = zlib.decompress(data[16 + size :])
    found: dict[str, bytes] = {}
    at = 0
    for name, length in json.loads(data[16 : 16 + size]):
        found[name] = body[at : at + length]
        at += length
    if folder is None:
        return found
    folders: set[str] = set()
    for name, content in found.items():
        path = os.path.join(folder, name)
        above = os.path.dirname(path)
        if above not in folders:
            os.makedirs(above, 0o755, exist_ok=True)
            folders.add(above)
        with open(path + ".part", "wb") as file:
            file.write(content)
        os.replace(path + ".part", path)
    return found


def read_exactly(fd: int, size: int) -> bytes:
    """Return ``size`` bytes of a descriptor. Raises EOFError if it ends before."""
    parts = []
    while size:
        data = os.read(fd, min(size, 1 << 20))
        if not data:
            raise EOFError("the kernel closed the stream")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
