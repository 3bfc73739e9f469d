"""The worker's process, from the fork to its exit code: what is set up before user code runs."""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Callable

from lifecycle_magic.decorators import travel
from lifecycle_magic.guest import forks, handles, import_hooks
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.worker import Worker
from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.frames import Channel

__all__ = ["main"]


def main(channels: list[Channel], pipes: Pipes, run: str, ready: Callable[[], None]) -> int:
    """Run the worker in this process and return its exit code. Called in the forked child.

    ``ready`` is called when signals have their handlers.
    """
    # User code must not import or pickle this package's start-up script as __main__.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [""]
    travel.make_handles_by(handles)
    forks.handle(signal.SIGTERM, lambda *_: None)  # it is the supervisor that acts on it
    # The class needs this module. Import it now, while the kernel is still busy with the handshake.
    from lifecycle_magic.wire import name_table  # noqa: F401

    import_hooks.install()
    descriptors.whose = "this container"
    descriptors.reserve()
    worker = Worker(channels, pipes, run)
    prints = worker.prints
    forks.install(worker.report_child, prints.flush_if_pending, prints.flush_before_fork)
    ready()
    worker.run()
    return 0
