"""Writes of one event loop iteration are sent in one piece, in order and completely."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lifecycle_magic.web.gathering import FLUSH_BYTES, GatheringTransport


class Written:
    """A transport that records the calls that it gets."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append("closed")
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def told(work: Callable[[GatheringTransport, Written], Awaitable[None]]) -> list[bytes | str]:
    """Return the data that reached the transport after ``work`` and one event loop iteration."""

    async def run() -> list[bytes | str]:
        written = Written()
        await work(GatheringTransport(written, asyncio.get_running_loop()), written)
        await asyncio.sleep(0)
        return written.told

    return asyncio.run(run())


def test_head_and_body_leave_together() -> None:
    async def work(transport: GatheringTransport, written: Written) -> None:
        transport.write(b"head ")
        transport.write(b"body")
        assert written.told == []

    assert told(work) == [b"head body"]


def test_what_comes_in_the_next_turn_leaves_by_itself() -> None:
    async def work(transport: GatheringTransport, written: Written) -> None:
        transport.write(b"one")
        await asyncio.sleep(0)
        transport.write(b"two")

    assert told(work) == [b"one", b"two"]


def test_closing_writes_what_was_gathered_first() -> None:
    async def work(transport: GatheringTransport, written: Written) -> None:
        transport.write(b"last words")
        transport.close()
        assert transport.is_closing()

    assert told(work) == [b"last words", "closed"]


def test_much_is_written_at_once() -> None:
    async def work(transport: GatheringTransport, written: Written) -> None:
        transport.write(b"a")
        transport.write(bytes(FLUSH_BYTES))
        assert written.told == [b"a" + bytes(FLUSH_BYTES)]

    assert told(work) == [b"a" + bytes(FLUSH_BYTES)]


def test_a_transport_that_closed_meanwhile_gets_nothing_more() -> None:
    async def work(transport: GatheringTransport, written: Written) -> None:
        transport.write(b"too late")
        written.closing = True

    assert told(work) == []
