"""A class for plain calls, in a module that travels: what it imports has to be in the image."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import lifecycle_magic as lm
from lifecycle_magic.volume import Volume


def declare(app: lm.App, folder: Path) -> Any:
    """A class whose volume is the host's own folder, at its own path."""
    place = str(folder)

    @app.cls(volumes={place: Volume.from_path(place)})
    class Plain:
        @lm.enter()
        def begin(self) -> None:
            self.entered = 1

        @lm.enter()
        async def begin_too(self) -> None:
            await asyncio.sleep(0)
            self.entered += 1

        @lm.method()
        def add(self, one: int, other: int = 1) -> int:
            return one + other

        @lm.method()
        async def add_later(self, one: int, other: int = 1) -> int:
            await asyncio.sleep(0)
            return one + other

        @lm.method()
        def how_often(self) -> int:
            return self.entered

        @lm.method()
        def say_and_wait(self, word: str) -> str:
            print(word)
            heard = f"{place}/{word}"
            while not os.path.exists(heard):
                pass
            return word

        @lm.method()
        def wait(self) -> None:
            open(f"{place}/waiting", "w").close()
            while True:
                pass

        @lm.method()
        def babble(self) -> None:
            from lifecycle_magic.guest import output

            lane = output.current_lane.get()
            assert lane is not None
            lane.channel.sock.sendall(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")

        @lm.exit()
        def end(self) -> None:
            open(f"{place}/ended", "w").close()

    return Plain
