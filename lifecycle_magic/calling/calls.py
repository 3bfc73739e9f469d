"""The way of ``.remote()``: the calling thread takes a slot of the pool, writes to the worker's
socket and reads the reply from it. No thread is in between.

While that runs on the main thread, SIGINT does not raise. An exception between two bytecodes
could lose a slot, or half a frame; so the handler only asks the container to interrupt the method,
and the reply, which then comes soon, ends the wait. If it does not come in
`lifecycle_magic.pools.inputs.PATIENCE`, the container is killed, and that ends it too.
"""

from __future__ import annotations

# What `signal` wraps: its conversions to and from enums take a third of a warm call's time.
import _signal  # type: ignore[import-not-found]
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import SerializationError, WireError
from lifecycle_magic.pools.inputs import Input, Unstarted, interrupt, show
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.wire.frames import Frame, Kind, tag
from lifecycle_magic.wire.messages import output
from lifecycle_magic.wire.pickling import loads

T = TypeVar("T")
AnyInput = TypeVar("AnyInput", bound=Input)

_MAIN = threading.main_thread().ident
_SIGINT = int(signal.SIGINT)


def call(pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``method`` in a container of ``pool`` and return its value, or raise its exception."""
    input = Input(pool, method, args, kwargs)
    return uninterrupted(input, _call)


def uninterrupted(input: AnyInput, function: Callable[[AnyInput], T]) -> T:
    """``function(input)``, with SIGINT turned into an interrupt of the method.

    KeyboardInterrupt is raised when ``function`` is through, if there was one.
    """
    if threading.get_ident() != _MAIN:
        return function(input)
    previous = _signal.getsignal(_SIGINT)
    if not callable(previous):
        return function(input)
    _signal.signal(_SIGINT, lambda *_: _on_sigint(input))
    try:
        return function(input)
    finally:
        _signal.signal(_SIGINT, previous)
        if input.interrupts:
            previous(signal.SIGINT, None)  # raises KeyboardInterrupt, unless it is not the default


@contextlib.contextmanager
def interrupts_to(*handlers: Callable[[], None]) -> Iterator[None]:
    """On the main thread, have SIGINT call those; KeyboardInterrupt is raised at the end."""
    previous = _signal.getsignal(_SIGINT)
    if threading.get_ident() != _MAIN or not callable(previous):
        yield
        return
    interrupted = False

    def on_sigint(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        for handler in handlers:
            handler()

    _signal.signal(_SIGINT, on_sigint)
    try:
        yield
    finally:
        _signal.signal(_SIGINT, previous)
        if interrupted:
            previous(signal.SIGINT, None)


def _call(input: Input) -> Any:
    pool = input.pool
    while True:
        slot = pool.lease(input)
        if input.interrupts:  # while it waited, and then it got the slot all the same
            pool.monitor.soon(lambda: interrupt(input))
        timer = input.watch_time()
        try:
            return _exchange(slot, input)
        except Unstarted:
            continue
        except BaseException as error:
            delay = input.delay(error)
            if delay is None:
                pool.stats.failures += 1
                raise
        finally:
            if timer is not None:
                timer.cancel()
            pool.release(slot)
        input.pause(delay)


def _exchange(slot: Slot, input: Input) -> Any:
    return answer_of(slot, input, send_and_wait(slot, input))


def answer_of(slot: Slot, input: Input, frame: Frame | None, kind: int = Kind.RESULT) -> Any:
    """The value in a frame of this kind, an input's last one.

    Raises what the frame stands for otherwise, or what is to be said where none came;
    `SerializationError` for a value that can't be rebuilt here, and `WireError` for a frame that
    answers something else.
    """
    if frame is None:
        raise input.lost(slot)
    if frame.tag and frame.tag != tag(input.id):
        why = f"{input.where} got an answer that is not its own"
        slot.container.abandon(why)
        raise WireError(f"{why}; its container is replaced")
    if frame.kind == Kind.CANCELLED or frame.kind == Kind.SKIPPED:
        raise input.stopped(slot, frame)
    container, method = slot.container, input.method
    if frame.kind == Kind.FAILURE:
        raise container.raised_by(frame, method)
    if frame.kind != kind:
        raise container.broke(f"a frame of kind {frame.kind} instead of an answer of {method}")
    try:
        return loads(frame.payload, buffers=frame.buffers)
    except Exception as error:
        raise SerializationError(
            f"{container.plan.cls}.{method} returned something that can't be rebuilt here: "
            f"{type(error).__name__}: {error}. "
            "Return plain data, or install its package beside the kernel too."
        ) from None


def send_and_wait(slot: Slot, input: Input) -> Frame | None:
    """Send the input and wait as `next_frame` does."""
    if input.interrupts:  # they came before there was a slot in which to interrupt it
        raise input.before_it_began()
    try:
        slot.channel.send(input.kind, input.payload, input.buffers)
    except WireError:
        raise
    except OSError:
        input.unsent = True
        return None
    return next_frame(slot)


def next_frame(slot: Slot) -> Frame | None:
    """The next frame that is no output; output is printed. None if the connection ended."""
    channel = slot.channel
    try:
        slot.reader = threading.get_ident()
        while True:
            frame = channel.receive()
            if frame is None or frame.kind != Kind.OUTPUT:
                return frame
            show(*output(frame.payload))
    except WireError as error:
        raise slot.container.broke(str(error)) from None
    except OSError:
        return None


def _on_sigint(input: Input) -> None:
    """On the main thread, between any two bytecodes: take no lock, raise nothing."""
    input.interrupts += 1
    if input.slot is not None:
        times = input.interrupts
        input.pool.monitor.soon(lambda: interrupt(input, at_once=times > 1))
    else:
        input._open_gate()
