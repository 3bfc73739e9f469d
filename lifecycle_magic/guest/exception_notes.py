"""Notes on exceptions whose cause is that the code runs in a container.

Each note says what is different here and how to fix it. An exception that already has such a note
gets no second one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import traceback
from collections.abc import Iterator
from typing import Any

from lifecycle_magic.guest import memory
from lifecycle_magic.guest.output import lane_here
from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.host_settings import HOST

_NEARLY_FULL = 0.02  # fraction of the file system that is free
_MOST = 50  # exceptions of one chain that are examined


def add_note(error: BaseException) -> None:
    """Add what is known about the cause of ``error`` to its notes. Never raise."""
    with contextlib.suppress(Exception):
        chain = list(_chain(error))
        note = (
            _about_files(chain)
            or _about_keyboard(chain)
            or _about_shm(chain)
            or _about_host(chain)
            or _about_shell(chain)
        )
        notes = getattr(error, "__notes__", None) or []
        if note and note not in notes:
            bare: Any = error
            bare.__notes__ = [*notes, note]  # add_note came with Python 3.11


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and its causes. Libraries keep a cause in ``reason`` or in ``args``."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        linked = [one.__cause__, one.__context__, getattr(one, "reason", None)]
        linked += [*one.args, *getattr(one, "exceptions", ())]
        waiting += [other for other in linked if isinstance(other, BaseException)]


def _about_files(chain: list[BaseException]) -> str:
    for one in chain:
        if isinstance(one, OSError) and (explanation := descriptors.explain(one)):
            return explanation
    return ""


def _about_keyboard(chain: list[BaseException]) -> str:
    """Explain why a process that the method started could not read a line."""
    lane = lane_here()
    if lane is not None and lane.has_ended_input:
        return ""
    for one in chain:
        if type(one) is EOFError and str(one) == "EOF when reading a line":
            return (
                "a process that a method starts has no standard input, so input() has nothing to "
                "read there. Fix: ask in the method itself, and pass the answer on"
            )
    return ""


def _about_shell(chain: list[BaseException]) -> str:
    """Explain why the notebook's shell is None."""
    for one in chain:
        if isinstance(one, AttributeError) and "'NoneType' object" in str(one):
            frames = [frame for frame, _ in traceback.walk_tb(one.__traceback__)]
            if frames and "get_ipython" in frames[-1].f_code.co_names:
                return (
                    "get_ipython() is None in a container, and a method has no magics. Fix: write "
                    "a name of the notebook as it is (X in place of get_ipython().user_ns['X']), "
                    "and run magics in a cell of their own"
                )
    return ""


# --- /dev/shm -------------------------------------------------------------------------------------


def _about_shm(chain: list[BaseException]) -> str:
    if not any(_names_bus_error(one) or _is_full(one) for one in chain):
        return ""
    return (
        f"{memory.SHM} of this container holds {memory.shm_size_mib()} MiB, which is too "
        "little for what was written there. Fix: give the class more, as in "
        f"shm_size={max(1024, 4 * memory.shm_size_mib())} (MiB)"
    )


def _names_bus_error(error: BaseException) -> bool:
    """Return whether ``error`` reports a child killed by SIGBUS."""
    text = str(error)
    return "SIGBUS" in text or "Bus error" in text


def _is_full(error: BaseException) -> bool:
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return False
    if error.filename is not None:
        return str(error.filename).startswith(memory.SHM)
    found = os.statvfs(memory.SHM)
    return found.f_bavail < found.f_blocks * _NEARLY_FULL or _frames_mention(error, memory.SHM)


# --- the machine's own services -------------------------------------------------------------------


def _about_host(chain: list[BaseException]) -> str:
    unknown = any(isinstance(one, socket.gaierror) for one in chain)
    if not unknown and not any(_is_refusal(one) for one in chain):
        return ""
    address = "" if unknown else _address()
    if not _names_host(chain, address):
        return ""
    if unknown or not address:
        return (
            f"{HOST} is not known here. It is this machine as a container of Docker 20.10 or newer "
            "sees it, unless the class has block_network=True. Fix: in a process without a "
            "sandbox, use 127.0.0.1"
        )
    if address.startswith("127."):
        return f"{HOST} is {address} here. Fix: start the service on this machine, at that port"
    return (
        f"{HOST} is the kernel's machine at {address}, and nothing listens at that port of this "
        f"address: a service that listens at 127.0.0.1 alone can't be reached from a container. "
        f"Fix: have the service listen at {address} (or at 0.0.0.0)"
    )


def _is_refusal(error: BaseException) -> bool:
    refused = isinstance(error, ConnectionRefusedError)
    return refused or "connection refused" in str(error).lower()


def _address() -> str:
    try:
        return socket.gethostbyname(HOST)
    except OSError:
        return ""


def _names_host(chain: list[BaseException], address: str) -> bool:
    """Return whether the connection was to the host, according to the messages and frames."""
    names = [HOST, address] if address and not address.startswith("127.") else [HOST]
    for error in chain:
        if any(name in str(error) for name in names) or _frames_mention(error, HOST):
            return True
    return False


# --- what frames show -----------------------------------------------------------------------------


def _frames_mention(error: BaseException, text: str) -> bool:
    """Return whether a variable or constant of the frames that raised ``error`` contains
    ``text``.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = [*frame.f_locals.values(), *frame.f_code.co_consts]
        names = frame.f_code.co_names
        values += [frame.f_globals[name] for name in names if name in frame.f_globals]
        if any(_mentions(value, text) for value in values):
            return True
    return False


def _mentions(value: Any, text: str) -> bool:
    """Return whether ``value`` is, or holds, a string that contains ``text``."""
    if isinstance(value, str):
        return text in value
    held: Any = value if isinstance(value, tuple | list) else ()
    if type(getattr(value, "__dict__", None)) is dict:
        held = value.__dict__.values()
    return len(held) <= _MOST and any(isinstance(one, str) and text in one for one in held)
