"""Work for a connection: a call, a generator, an input of a batch, or a wait for a call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers import wrong_form
from lifecycle_magic.calls.forwarded import ForwardedAnswer, ForwardedCall, ForwardedItems
from lifecycle_magic.calls.generators import items_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.services.relayed_calls import RelayedCall
from lifecycle_magic.wire.nested import ITEMS, REMOTE, SPAWN, Ask

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.services.call_sources import CallOrigin
    from lifecycle_magic.spec.class_spec import MethodSpec

__all__ = [
    "Running",
    "RunningBatched",
    "RunningCall",
    "RunningItems",
    "RunningRequest",
    "WaitForCall",
    "checked_method",
]


class RunningBatched:
    """An input that waits for its batch, or runs in it."""

    ends_with_caller = False

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def abandon(self) -> None:
        """Leave the batch. The other inputs continue."""
        self.future.cancel()


class RunningRequest(RunningBatched):
    """A request to a queue or dictionary. It takes nothing for a caller that has gone on."""

    ends_with_caller = True


class RunningCall:
    """A running call. ``ends_with_caller`` is false for one that its caller does not wait for."""

    def __init__(self, input: ForwardedCall, ends_with_caller: bool, origin: CallOrigin) -> None:
        self.input = input
        self.origin = origin
        self.ends_with_caller = ends_with_caller

    def start(self) -> None:
        """Submit the input to its pool."""
        self.input.submit()

    def abandon(self) -> None:
        """Interrupt the method. No caller wants its answer."""
        self.input.future.cancel()


class RunningItems:
    """A running generator: a thread reads an item each time that its caller wants the next one."""

    ends_with_caller = True

    def __init__(
        self,
        input: ForwardedItems,
        origin: CallOrigin,
        send_item: Callable[[ForwardedAnswer], None],
        end: Callable[[BaseException | None], None],
    ) -> None:
        self.wanted: SimpleQueue[bool] = SimpleQueue()
        self.wanted.put(True)  # a generator is asked for with its first item
        self.input = input
        self.origin = origin
        self._send_item = send_item
        self._end = end
        self._is_reading = False
        self._is_abandoned = False

    def start(self) -> None:
        """Start the thread."""
        run = self.input.context.copy().run
        threading.Thread(
            target=run, args=(self._read,), name="lifecycle-inside-items", daemon=True
        ).start()

    def abandon(self) -> None:
        """Close the generator, or interrupt it if its caller waits for an item."""
        self._is_abandoned = True
        self.wanted.put(False)
        if self._is_reading:
            self.input.abandon()

    def _read(self) -> None:
        items = items_of(self.input)
        error: BaseException | None = None
        try:
            while self.wanted.get():
                self._is_reading = True
                if self._is_abandoned:  # before it could be seen that this thread reads
                    break
                item = next(items, None)
                self._is_reading = False
                if item is None:
                    break
                self._send_item(item)
                del item
            items.close()
        except BaseException as caught:
            error = caught
        self._end(error)


class WaitForCall:
    """A wait for the outcome of a call that was spawned elsewhere."""

    ends_with_caller = False

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def abandon(self) -> None:
        """Interrupt the method, as its caller has asked for."""
        self.future.cancel()


Running = RunningCall | RunningItems | RunningBatched | WaitForCall | RelayedCall


def checked_method(ask: Ask, pool: Pool) -> MethodSpec:
    """Return the newest declaration of the method.

    Raises `InvalidError` unless there is one, of the form asked for.
    """
    spec = pool.declared
    assert spec is not None
    method = spec.methods.get(ask.method)
    where = spec.name if spec.is_function else f"{spec.name}().{ask.method}"
    if method is None:
        raise InvalidError(
            f"{spec.name} has no method {ask.method}, as it is declared now; "
            f"it has {', '.join(spec.methods) or 'none'}. Fix: call one of these"
        )
    if method.web is not None:
        raise wrong_form.answers_http(where, ask.form)
    if not method.is_generator and ask.form == ITEMS:
        raise wrong_form.yields_nothing(where)
    if method.is_generator and ask.form in (REMOTE, SPAWN):
        raise wrong_form.yields_values(where, ask.form)
    return method
