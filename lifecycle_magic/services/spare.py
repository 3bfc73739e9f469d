"""A spare: a container that has been launched and has dialled home, and waits for its class.

Launching takes a container most of its start. With ``buffer_containers`` a service keeps one
spare, so that the next new container, of this version or of the next one, only has to load the
class and enter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lifecycle_magic.containers.container import Container
from lifecycle_magic.containers.slots import Plan
from lifecycle_magic.exception import Error


class Spare:
    """At most one spare container. ``key`` tells which launches it can stand in for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._container: Container | None = None
        self._key = ""
        self._preparing = False
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, key: str, plan: Plan, on_gone: Callable[[Container], None]) -> Container | None:
        """The spare, now with this plan; None if there is none that fits."""
        with self._lock:
            if self._container is None or self._key != key:
                return None
            container, self._container = self._container, None
        return container if container.adopt(plan, on_gone) else None

    def prepare(self, key: str, make: Callable[[], Container]) -> None:
        """Have a spare for ``key``, on a thread of its own; one for another key is dismissed."""
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
            container.connect()
        except Error:
            container = None  # whoever needs a container next hears why
        with self._lock:
            self._preparing = False
            former, self._container, self._key = self._container, container, key
        if former is not None:
            former.dismiss()

    def lost(self, container: Container) -> None:
        """It went while nobody needed it."""
        with self._lock:
            if self._container is container:
                self._container = None

    def close(self) -> None:
        """Dismiss it, and keep no more of them."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()  # it writes into the session's folder, which goes next
        with self._lock:
            container, self._container = self._container, None
        if container is not None:
            container.dismiss()

    def open(self) -> None:
        """Spares may be kept again."""
        with self._lock:
            self._closed = False

    @property
    def container(self) -> Container | None:
        return self._container
