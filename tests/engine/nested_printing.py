"""Classes that print and call each other, in a module that travels with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from engine.work import Folder

import lifecycle_magic as lm


def declare(app: lm.App, folder: str) -> SimpleNamespace:
    """Declare ``Inner``, what calls it, ``Middle``, and what calls both, ``Outer``."""
    volumes = {folder: lm.Volume.from_path(folder)}

    @app.cls(volumes=volumes)
    class Inner:
        @lm.method()
        def say(self, text: str) -> str:
            print("inner", text)
            return text

        @lm.method()
        def items(self, count: int) -> Iterator[int]:
            for number in range(count):
                print("inner", number)
                yield number

    inner = Inner()

    @app.cls(volumes=volumes)
    class Middle:
        @lm.method()
        def say(self, text: str) -> None:
            print("middle", text)
            inner.say.remote(text)
            print("end of middle", text)

    middle = Middle()

    @app.cls(volumes=volumes, max_containers=1)
    class Outer:
        @lm.method()
        def many(self, times: int) -> None:
            for number in range(times):
                print("before", number)
                inner.say.remote(str(number))
                print("after", number)

        @lm.method()
        async def many_aio(self, times: int) -> None:
            for number in range(times):
                print("before", number)
                await inner.say.remote.aio(str(number))
                print("after", number)

        @lm.method()
        def many_items(self, times: int) -> None:
            for item in inner.items.remote_gen(times):
                print("got", item)

        @lm.method()
        def unread(self, form: str) -> Iterator[int]:
            """Print and call while the consumer of this generator reads nothing."""
            yield 0
            print("before")
            self.call(form)
            print("after")
            Folder(folder).note(f"called-{form}")
            yield 1

        def call(self, form: str) -> None:
            if form == "remote":
                inner.say.remote("x")
            elif form == "spawn":
                inner.say.spawn("x").get()
            elif form == "map":
                assert list(inner.say.map(["x"])) == ["x"]
            elif form == "items":
                for item in inner.items.remote_gen(2):
                    print("got", item)
            elif form == "thread":
                with ThreadPoolExecutor(1) as threads:
                    threads.submit(inner.say.remote, "x").result()
            elif form == "deep":
                middle.say.remote("x")
            else:  # the name of the app of another session
                lm.Cls.from_name(form, "Inner")().say.remote("x")

        @lm.method()
        def with_child(self) -> None:
            subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
            inner.say.remote("x")

    return SimpleNamespace(Outer=Outer, inner=inner, middle=middle)
