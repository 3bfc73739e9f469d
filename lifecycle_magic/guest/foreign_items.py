"""The items of a generator method in another container, read from inside a container."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.guest.session_answers import Wait, value_of
from lifecycle_magic.guest.session_connection import Answer, Reach, begin
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import ITEMS

__all__ = ["ForeignItems", "stream", "stream_async"]


def stream(
    reach: Reach, where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, None, None]:
    """Yield the items as they arrive. Leaving the loop closes the generator in its container."""
    with hidden:
        waiting = Wait()
        used, number = begin(reach, ITEMS, args, kwargs, waiting.receive)
        is_over = False
        try:
            while True:
                answer = waiting.wait()
                assert answer is not None
                is_over = answer.kind != Kind.ITEM
                if answer.kind == Kind.END:
                    return
                yield value_of(answer, where)
                used.send(Kind.NEXT, number)
        finally:
            if not is_over:
                used.send(Kind.ABANDON, number)


async def stream_async(
    reach: Reach, where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    """Yield the items as they arrive, without blocking the event loop."""
    import asyncio

    with hidden:
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[Answer] = asyncio.Queue()

        def receive(answer: Answer) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(answers.put_nowait, answer)

        used, number = begin(reach, ITEMS, args, kwargs, receive)
        is_over = False
        try:
            while True:
                answer = await answers.get()
                is_over = answer.kind != Kind.ITEM
                if answer.kind == Kind.END:
                    return
                yield value_of(answer, where)
                used.send(Kind.NEXT, number)
        finally:
            if not is_over:
                used.send(Kind.ABANDON, number)


class ForeignItems:
    """The items of an ``async def`` generator method, for a ``for`` or for an ``async for``."""

    def __init__(
        self, items: Generator[Any, None, None], items_async: AsyncGenerator[Any, None]
    ) -> None:
        self._items = items
        self._items_async = items_async

    def __iter__(self) -> Generator[Any, None, None]:
        return self._items

    def __next__(self) -> Any:
        return next(self._items)

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        return self._items_async

    def __anext__(self) -> Any:
        return self._items_async.__anext__()

    def close(self) -> None:
        """Close the generator in its container."""
        self._items.close()

    async def aclose(self) -> None:
        """Close the generator in its container, for coroutines."""
        self._items.close()
        await self._items_async.aclose()
