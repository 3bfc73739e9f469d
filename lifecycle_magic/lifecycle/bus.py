"""The stream of events. The card, the panel, ``ps``, the history and tests all subscribe to it."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence

from lifecycle_magic.lifecycle.states import BuildStep, Event, LogLine, Notice, Transition

KINDS = (Transition, LogLine, BuildStep, Notice)
Subscriber = Callable[[Event], object]


class Bus:
    """A dispatcher that hands every event to every subscriber, on the publishing thread.

    A subscriber must be quick and must not call into pools or containers: some events are published
    while their locks are held.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type, tuple[Subscriber, ...]] = dict.fromkeys(KINDS, ())
        self._lock = threading.Lock()

    def subscribe(
        self, subscriber: Subscriber, kinds: Sequence[type] = KINDS
    ) -> Callable[[], None]:
        """Call ``subscriber`` with every event of these ``kinds`` from now on.

        Returns a function that ends the subscription.
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
                # A broken view must not break the pool or container that it shows.
                traceback.print_exc()
