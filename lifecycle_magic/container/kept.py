"""Containers without a kernel: what they say, and how they are asked to end or to be adopted.

The requests are those of `lifecycle_magic.guest.keeping`, over the socket in the run folder. Code
in the container can answer in the supervisor's place, so an answer is bounded and checked.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.exception import EngineError
from lifecycle_magic.guest.json_lines import JsonLineReader, encode_line
from lifecycle_magic.guest.keeping import SOCKET
from lifecycle_magic.host import checked_json, keep_record, relay_lock
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.wire.hello import dial

__all__ = ["KeptContainer", "find_all", "request_adoption", "status", "stop", "stop_all"]

ANSWER_SECONDS = 2.0
"""Seconds for an answer of a supervisor, which never waits for anything but requests."""

SPARE_SECONDS = 20.0
"""Seconds that a container may need to end beyond its grace: for calls that do not stop, and to
report.
"""

NOTICE_SECONDS = 2.0
"""Seconds in which a container certainly notices that its kernel is dead. It takes milliseconds."""

REPORT_SECONDS = 10.0
"""Seconds in which the report of a container that has ended arrives by way of a relay."""

MAX_ANSWER_BYTES = 1 << 16


@dataclass(frozen=True)
class KeptContainer:
    """A container that waits for another kernel.

    ``left`` is how many seconds it still waits, None while ``running`` inputs of the former kernel
    have not ended.
    """

    record: KeepRecord
    left: float | None
    running: int


def find_all(root: Path, session: str | None = None) -> list[KeptContainer]:
    """Return the containers in the state folder ``root`` that wait for another kernel.

    ``session`` adds those that this living session has claimed and not connected to.
    """
    found = ((record, record.session == session) for record in keep_record.find_all(root, session))
    return [kept for record, mine in found if (kept := status(record, again=not mine)) is not None]


def status(record: KeepRecord, *, again: bool = False) -> KeptContainer | None:
    """Return what a container says of itself; None if it has exited, or does not wait.

    With ``again``, a container is asked again for a moment that has not noticed yet that its kernel
    is dead.
    """
    deadline = time.monotonic() + (NOTICE_SECONDS if again else 0.0)
    while True:
        found = _status(record)
        if not isinstance(found, bool):
            return found
        if not found or time.monotonic() > deadline:
            return None
        time.sleep(NOTICE_SECONDS / 100)


def _status(record: KeepRecord) -> KeptContainer | bool:
    """Return what a container says of itself, or whether it has, or believes to have, a kernel."""
    try:
        with _asking(record, "status") as answers:
            answer = next(answers, {})
            if answer.get("ok") is not True or answer.get("kept") is not True:
                return answer.get("ok") is True and answer.get("stops") is False
            left = checked_json.number_or_none("left", answer.get("left"))
            return KeptContainer(
                record,
                left,
                checked_json.integer("running", answer.get("running")),
            )
    except (OSError, ValueError, TypeError):
        return False


def stop(record: KeepRecord, why: str) -> bool:
    """Have a container end, and wait until its ``exit`` has run.

    Return whether it has ended, or had done so before.
    """
    try:
        with _asking(record, "stop", why=why, wait=record.grace + SPARE_SECONDS) as answers:
            if next(answers, {}).get("ok") is not True:
                return status(record) is None
            for _ in answers:
                pass  # the connection ends with the container
            relay_lock.wait(record.run_dir, REPORT_SECONDS)
            return True
    except TimeoutError:
        return False
    except (OSError, ValueError):
        return True  # nobody listens there any more


def stop_all(records: Sequence[KeepRecord], why: str) -> list[KeepRecord]:
    """Have these containers end, all at once, and wait for them. Return those that did not."""
    if not records:
        return []
    with ThreadPoolExecutor(min(len(records), 16), "lifecycle-kept") as threads:
        ended = list(threads.map(lambda record: stop(record, why), records))
    return [record for record, has_ended in zip(records, ended, strict=True) if not has_ended]


def request_adoption(record: KeepRecord, seconds: float, given_up: threading.Event) -> None:
    """Have a container connect to the kernel whose ``boot.json`` is in its run folder.

    Wait at most ``seconds`` for the inputs of the former kernel that still run there. Raises
    `EngineError` if the container has exited, refuses, or ``given_up`` is set meanwhile.
    """
    name = f"the kept container {record.container}"
    deadline = time.monotonic() + seconds
    try:
        with _asking(record, "adopt", wait=0.25) as answers:
            while True:
                try:
                    answer = next(answers, None)
                except TimeoutError:
                    if given_up.is_set() or time.monotonic() > deadline:
                        raise EngineError(
                            f"{name} still runs a call of the kernel before"
                        ) from None
                    continue
                if answer is None:
                    raise EngineError(f"{name} has exited")
                if answer.get("ok") is True:
                    return
                if "busy" not in answer:
                    why = checked_json.string("why", answer.get("why"))[:200]
                    raise EngineError(f"{name} can't be adopted: {why}")
    except (OSError, ValueError) as error:
        raise EngineError(f"{name} does not answer: {error}") from None


class _Answers:
    """The answers to one request. A wait that takes too long raises TimeoutError, and may be
    repeated.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = JsonLineReader()
        self._left = MAX_ANSWER_BYTES
        self._read: list[dict[str, object]] = []

    def __iter__(self) -> _Answers:
        return self

    def __next__(self) -> dict[str, object]:
        while not self._read:
            data = self._sock.recv(4096)
            self._left -= len(data)
            if not data or self._left < 0:
                raise StopIteration
            self._read += self._lines.feed(data)
        return self._read.pop(0)


@contextlib.contextmanager
def _asking(
    record: KeepRecord, do: str, *, wait: float = ANSWER_SECONDS, **fields: object
) -> Iterator[_Answers]:
    sock = dial(f"unix:{record.run_dir / SOCKET}")
    try:
        sock.settimeout(wait)
        sock.sendall(encode_line(do=do, token=record.token, **fields))
        yield _Answers(sock)
    finally:
        sock.close()
