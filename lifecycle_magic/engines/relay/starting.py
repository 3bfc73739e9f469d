"""The start of a container, which takes an engine long when it starts many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from lifecycle_magic.engines.relay.engine_http import RequestError
from lifecycle_magic.engines.relay.removal import Ask
from lifecycle_magic.wire.multiplexer import LEASE_SECONDS, PING_SECONDS

__all__ = ["hold_lease", "start_container"]

START_SECONDS = 110.0
"""Seconds for which an engine may start a container; the kernel waits a little longer."""


def start_container(ask: Ask, container: str, on_answer: Callable[[], None]) -> None:
    """Start a container, and call ``on_answer`` whenever the engine answers meanwhile.

    A container that was not started yet can't answer, so its lease lasts while the engine does.
    Raises `RequestError`, also for an engine that is silent for as long as a lease.
    """
    has_answered = threading.Event()
    errors: list[RequestError] = []

    def start() -> None:
        try:
            ask("POST", f"/containers/{container}/start", timeout=START_SECONDS)
        except RequestError as error:
            errors.append(error)
        finally:
            has_answered.set()

    threading.Thread(target=start, daemon=True).start()
    heard = time.monotonic()
    while not has_answered.wait(PING_SECONDS):
        if _answers(ask):
            heard = time.monotonic()
            on_answer()
        elif time.monotonic() - heard > LEASE_SECONDS:
            raise RequestError(f"nothing was received for {LEASE_SECONDS:g} s")
    if errors:
        raise errors[0]
    on_answer()


def hold_lease(ask: Ask, is_over: Callable[[], bool], on_answer: Callable[[], None]) -> None:
    """Call ``on_answer`` while the engine answers, until ``is_over``. Return at once.

    A container that was started with many others may take longer than a lease to its first words.
    How long it may take, the kernel decides.
    """

    def ask_on() -> None:
        while not is_over():
            if _answers(ask):
                on_answer()
            time.sleep(PING_SECONDS)

    threading.Thread(target=ask_on, daemon=True).start()


def _answers(ask: Callable[..., Any]) -> bool:
    try:
        ask("GET", "/_ping", timeout=PING_SECONDS)
    except RequestError:
        return False
    return True
