"""Classes whose methods call each other, in a module that travels with them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import lifecycle_magic as lm


def declare(app: lm.App, folder: str, **options: Any) -> SimpleNamespace:
    """Declare what is called, ``Inner`` and ``double``, and what calls it, ``Outer``."""
    volumes = {folder: lm.Volume.from_path(folder)}

    @app.cls(volumes=volumes, **options)
    class Inner:
        def __init__(self, size: int = 1) -> None:
            self.size = size
            self.calls = 0

        @lm.method()
        def times(self, x: Any) -> Any:
            self.calls += 1
            return self.size * x

        @lm.method()
        async def times_later(self, x: int) -> int:
            return self.size * x

        @lm.method()
        def fail(self, text: str) -> None:
            raise LookupError(text)

        @lm.method()
        def say(self, text: str) -> str:
            print(f"inner {text}")
            return text

        @lm.method()
        def die(self) -> None:
            import os

            os._exit(3)

        @lm.method()
        def hold(self, name: str) -> str:
            from engine.work import Folder

            notes = Folder(folder)
            try:
                notes.note(f"began-{name}")
                notes.wait(f"go-{name}")
            except KeyboardInterrupt:
                notes.note(f"interrupted-{name}")
                raise
            return name

        @lm.method()
        def count(self, to: int) -> Iterator[int]:
            for number in range(to):
                yield self.size * number

        @lm.method()
        def steps(self) -> Iterator[int]:
            from engine.work import Folder

            try:
                yield from range(1 << 30)
            finally:
                Folder(folder).note("closed")

    @app.function(volumes=volumes)
    def double(x: int) -> int:
        return 2 * x

    inner = Inner(5)

    @app.cls(volumes=volumes)
    class Outer:
        def __init__(self, helper: Any = None) -> None:
            self.helper = helper

        @lm.method()
        def through(self, x: int) -> list[int]:
            return [
                double.remote(x),
                Inner().times.remote(x),
                Inner(3).times.remote(x),
                inner.times.remote(x),
                self.helper.times.remote(x) if self.helper is not None else 0,
            ]

        @lm.method()
        def given(self, handle: Any, name: str, *args: Any) -> Any:
            return getattr(handle, name).remote(*args)

        @lm.method()
        def call(self, name: str, *args: Any) -> Any:
            return getattr(inner, name).remote(*args)

        @lm.method()
        async def hold_both(self) -> None:
            import asyncio

            calls = [asyncio.to_thread(Inner(size).hold.remote, str(size)) for size in (1, 2)]
            await asyncio.gather(*calls)

        @lm.method()
        def on_threads(self, count: int) -> list[int]:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(count) as pool:
                return list(pool.map(inner.times.remote, range(count)))

        @lm.method()
        def forms(self) -> dict[str, Any]:
            started = inner.times.spawn(2)
            both = [inner.times.spawn(number) for number in (1, 2)]
            done: list[int] = []
            for item in inner.count.remote_gen(3):
                done.append(item)
            return {
                "spawn": started.get(timeout=60),
                "gather": lm.gather(*both),
                "later": inner.times_later.remote(2),
                "items": done,
                "map": list(inner.times.map(range(4))),
                "unordered": sorted(inner.times.map(range(4), order_outputs=False)),
                "starmap": list(inner.times.starmap([(1,), (2,)])),
                "for_each": inner.times.for_each([1, 2]),
                "function": list(double.map(range(3))),
                "errors": [type(e).__name__ for e in inner.fail.map("a", return_exceptions=True)],
                "calls": Inner().times.local(4),
            }

        @lm.method()
        async def forms_aio(self) -> dict[str, Any]:
            started = await inner.times.spawn.aio(2)
            return {
                "remote": await inner.times.remote.aio(1),
                "later": await inner.times_later.remote(2),
                "spawn": await started,
                "items": [item async for item in inner.count.remote_gen.aio(3)],
                "map": [value async for value in inner.times.map.aio(range(4))],
                "starmap": [value async for value in inner.times.starmap.aio([(1,), (2,)])],
                "for_each": await inner.times.for_each.aio([1, 2]),
            }

        @lm.method()
        def in_child(self, x: int) -> list[int]:
            import os

            here: int = inner.times.remote(x)
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writing, str(inner.times.remote(x + 1)).encode())
                os._exit(0)
            os.waitpid(child, 0)
            return [here, int(os.read(reading, 64)), inner.times.remote(x)]

        @lm.method()
        def first_item(self) -> int:
            for item in inner.steps.remote_gen():
                return item
            return -1

        @lm.method()
        def relay(self, to: int) -> Iterator[int]:
            yield from inner.count.remote_gen(to)

        @lm.method()
        def make(self, size: int) -> Any:
            return Inner(size)

        @lm.method()
        def pick(self) -> Any:
            return Inner(2).times

    return SimpleNamespace(Inner=Inner, double=double, inner=inner, Outer=Outer)
