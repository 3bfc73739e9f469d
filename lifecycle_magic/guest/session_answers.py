"""Answers of the session to calls from inside a container, and a thread's wait for them."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any

from lifecycle_magic.callers.remote_exceptions import rebuild
from lifecycle_magic.decorators.travel import far_session
from lifecycle_magic.exception import InputCancelled, SerializationError
from lifecycle_magic.guest.output import current_lane
from lifecycle_magic.guest.session_connection import Answer
from lifecycle_magic.guest.waiting import Waiting
from lifecycle_magic.threads.context import run_with
from lifecycle_magic.wire import unpickling_errors
from lifecycle_magic.wire.exceptions import message, name_of
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.messages import failure
from lifecycle_magic.wire.pickling import loads

__all__ = ["Wait", "settle", "value_of"]

_SMALL_BYTES = 1024
_INSTALL = "return plain data, or install its package in the image of this class too"


def settle(future: Future[Any], answer: Answer, where: str) -> None:
    """Set a future to the outcome in an answer, unless it was cancelled meanwhile."""
    try:
        try:
            future.set_result(value_of(answer, where))
        except InvalidStateError:
            raise
        except BaseException as error:
            future.set_exception(error)
    except InvalidStateError:
        pass


def value_of(answer: Answer, where: str) -> Any:
    """Return the value in an answer, or raise the exception in it."""
    if answer.kind == Kind.FAILURE:
        raise rebuild(failure(memoryview(answer.data)), where)
    if answer.lost:
        raise InputCancelled(f"{where}: {answer.lost}")
    if answer.kind == Kind.CANCELLED:
        raise InputCancelled(f"{where} was cancelled")
    try:
        # Handles in the value stand for classes of another session.
        if answer.far is not None and _may_have_handles(answer.data):
            return run_with(far_session, answer.far, _loads, answer)
        return _loads(answer)
    except Exception as error:
        raise SerializationError(
            f"{where} returned a value that can't be rebuilt here: "
            f"{name_of(type(error))}: {message(error).rstrip('.')}. "
            f"Fix: {unpickling_errors.advice(error, _INSTALL)}"
        ) from None


def _may_have_handles(data: Any) -> bool:
    """Return whether a pickle may name anything, and so hold a handle. Quick for a small one."""
    return type(data) is not bytes or len(data) > _SMALL_BYTES or pickle.STACK_GLOBAL in data


def _loads(answer: Answer) -> Any:
    return loads(answer.data, buffers=answer.buffers)


class Wait:
    """A thread's wait for the answers to one call. An interrupt of the running call ends it."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._interrupted = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def receive(self, answer: Answer) -> None:
        self.answer = answer
        self._open()

    def give_up(self) -> None:
        """End the wait without an answer, from another thread."""
        self._open()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._open()

    def _open(self) -> None:
        try:
            self._gate.release()
        except RuntimeError:
            pass  # open already

    def wait(self, timeout: float | None = None) -> Answer | None:
        """Return the next answer, or None after ``timeout`` seconds or `give_up`.

        Raises KeyboardInterrupt if the running call is interrupted.
        """
        seconds = -1 if timeout is None else max(timeout, 0)
        lane = current_lane.get()
        target = lane.target if lane is not None else None
        if target is None or target.current is None:
            self._gate.acquire(timeout=seconds)
        else:
            with Waiting(target, self._interrupt):
                self._gate.acquire(timeout=seconds)
        if self._interrupted:
            raise KeyboardInterrupt
        answer, self.answer = self.answer, None
        return answer
