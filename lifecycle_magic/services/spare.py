"""A spare container: launched and connected, and waiting for its class.

Launching is most of a container's start. With ``buffer_containers`` a service keeps one spare, so
that the next new container, of this version or the next, only has to load the class and run its
enter hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.slots import Plan
from lifecycle_magic.container.start import start_spare
from lifecycle_magic.exception import Error

NOT_NEEDED = Ending(EndKind.DISMISS, "it was a spare that was not needed")


class Spare:
    """A place for at most one spare container.

    ``key`` identifies the launches that the spare can replace.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._container: Container | None = None
        self._key = ""
        self._preparing = False
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(
        self, key: str, plan: Plan, on_exited: Callable[[Container], None]
    ) -> Container | None:
        """Take the spare and give it this plan; return None if no spare fits."""
        with self._lock:
            if self._container is None or self._key != key:
                return None
            container, self._container = self._container, None
        return container if container.adopt(plan, on_exited) else None

    def prepare(self, key: str, make: Callable[[], Container]) -> None:
        """Launch a spare for ``key`` on a thread of its own, and stop one for another key."""
        with self._lock:
            if self._closed or self._preparing or (self._container and self._key == key):
                return
            self._preparing = True
            self._thread = threading.Thread(
                target=self._prepare, args=(key, make), name="lifecycle-spare", daemon=True
            )
            self._thread.start()

    def _prepare(self, key: str, make: Callable[[], Container]) -> None:
        container: Container | None = None
        try:
            container = make()
            start_spare(container)
        except Error:
            container = None  # the next start of a container raises the reason
        with self._lock:
            self._preparing = False
            previous, self._container, self._key = self._container, container, key
        if previous is not None:
            previous.end(NOT_NEEDED)

    def discard(self, container: Container) -> None:
        """Forget a spare that exited before it was used."""
        with self._lock:
            if self._container is container:
                self._container = None

    def close(self) -> None:
        """Stop the spare, and keep no more of them."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()  # it writes into the session's folder, deleted next
        with self._lock:
            container, self._container = self._container, None
        if container is not None:
            container.end(NOT_NEEDED)

    def open(self) -> None:
        """Allow spares again, after `close`."""
        with self._lock:
            self._closed = False

    @property
    def container(self) -> Container | None:
        return self._container
