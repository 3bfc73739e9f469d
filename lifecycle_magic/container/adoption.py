"""The adoption of a container that waits for another kernel: connections, and no ``enter``.

The other half is `lifecycle_magic.guest.keeping`. If any step fails, the container is left as it
was, and goes on to wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lifecycle_magic.container import gpus
from lifecycle_magic.exception import StartError, WireError
from lifecycle_magic.lifecycle.states import State
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.messages import Adopt, Adopted
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["adopt"]

ANSWER_SECONDS = 30.0
"""Seconds for the worker's answer. It runs no call, but threads of the user's code may."""


def adopt(container: Container, message: Adopt) -> Adopted:
    """Connect to a container that has a `Container.wake`, and return what its worker says.

    Its state is "entering" then, and its slots are free. Raises `EngineError`, `StartError` or
    `WireError` if that is impossible.
    """
    try:
        container.connect(time.monotonic() + container.plan.startup_timeout)
        container.move_alive(State.ENTERING)
        gpus.follow(container)
        late = container.event_loop.call_later(ANSWER_SECONDS, container.leave)
        try:
            return _introduce(container, message)
        finally:
            late.cancel()
    except BaseException:
        container.leave()
        raise
    finally:
        container.connections.end_start(container)


def _introduce(container: Container, message: Adopt) -> Adopted:
    slot = container.slots[0]
    try:
        slot.channel.send(Kind.ADOPT, *dumps(message))
    except OSError:
        pass  # it has exited already, which the read below reports
    frame = slot.read_answer()
    if frame is None or frame.kind != Kind.READY:
        raise StartError(f"the kept container {container.name} has not answered")
    try:
        found = loads(frame.payload)
        if not isinstance(found, Adopted):
            raise TypeError("it is no description of the container")
        Adopted(bytes(found.arguments), str(found.key), str(found.files))
    except Exception as error:
        raise WireError(
            f"the kept container {container.name} sent an answer that can't be read: {error}"
        ) from None
    return found
