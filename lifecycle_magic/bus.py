"""The one stream of events. Card, panel, ``ps``, history and tests are equal subscribers of it."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence

from lifecycle_magic.state import BuildStep, Event, LogLine, Notice, Transition

KINDS = (Transition, LogLine, BuildStep, Notice)
Subscriber = Callable[[Event], None]


class Bus:
    """Hands every event to every subscriber, on the thread that published it.

    A subscriber must be quick and must not call back into pools or containers: some events are
    published under their locks.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type, tuple[Subscriber, ...]] = dict.fromkeys(KINDS, ())
        self._lock = threading.Lock()

    def subscribe(
        self, subscriber: Subscriber, kinds: Sequence[type] = KINDS
    ) -> Callable[[], None]:
        """Have ``subscriber`` called with every event of these ``kinds`` from now on.

        The function returned ends it.
        """
        with self._lock:
            for kind in kinds:
                self._subscribers[kind] = (*self._subscribers[kind], subscriber)
        return lambda: self._remove(subscriber)

    def _remove(self, subscriber: Subscriber) -> None:
        with self._lock:
            for kind, those in self._subscribers.items():
                self._subscribers[kind] = tuple(s for s in those if s is not subscriber)

    def publish(self, event: Event) -> None:
        for subscriber in self._subscribers[type(event)]:
            try:
                subscriber(event)
            except Exception:
                # A broken view must not break what it looks at.
                traceback.print_exc()
