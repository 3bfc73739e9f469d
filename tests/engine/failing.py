"""Methods that raise, and methods that print, in a module that travels."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lifecycle_magic as lm


class Refused(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Locked(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()
        self.code = 3


class Fatal(Exception):
    """Its parts raise what ends a process."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __reduce__(self) -> Any:
        raise SystemExit(4)

    @property
    def __traceback__(self) -> Any:
        raise KeyboardInterrupt


class Old:
    """A value that can be pickled, but not unpickled."""

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, state: Any) -> None:
        raise ValueError("old format")


class Proxy:
    """An object whose ``__getattr__`` does not end while pickle rebuilds the object."""

    def __init__(self) -> None:
        self.__dict__["other"] = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


def make(what: str) -> BaseException:
    made: dict[str, Any] = {
        "refused": lambda: Refused(code=3),
        "frozen": lambda: Frozen(4),
        "locked": Locked,
        "fatal": Fatal,
        "exit": lambda: SystemExit(5),
        "stop": lambda: StopIteration(6),
        "generator": GeneratorExit,
        "interrupt": KeyboardInterrupt,
        "cancelled": asyncio.CancelledError,
    }
    error: BaseException = made[what]()
    return error


def declare(app: lm.App) -> Any:
    @app.cls()
    class Failing:
        @lm.method()
        def fail(self, what: str) -> None:
            raise make(what)

        @lm.method()
        async def fail_later(self, what: str) -> None:
            await asyncio.sleep(0)
            raise make(what)

        @lm.method()
        def items(self, what: str) -> Iterator[int]:
            yield 1
            raise make(what)

        @lm.method()
        def chained(self) -> None:
            try:
                raise make("frozen")
            except Frozen as error:
                raise make("refused") from error

        @lm.method()
        def in_a_thread(self, what: str) -> None:
            with ThreadPoolExecutor() as pool:
                pool.submit(self.raises, what).result()

        def raises(self, what: str) -> None:
            raise make(what)

        @lm.method()
        def unraised(self) -> None:
            thread = threading.Thread(target=self.raises, args=("refused",))
            thread.start()
            thread.join()

        @lm.method()
        def prints(self, count: int) -> None:
            for number in range(count):
                print("line", number)
            raise make("refused")

        @lm.method()
        def streams(self) -> dict[str, Any]:
            out = sys.stdout
            print("a", end="", flush=True)
            out.writelines(["b\n", "c\n"])
            out.buffer.write(b"d \xc3\xa9\n")
            out.buffer.flush()
            with contextlib.redirect_stdout(io.StringIO()) as kept:
                print("kept")
            sys.stdout = other = io.StringIO()
            print("other")
            sys.stdout = out
            out.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
            try:
                print("é")
                refused = ""
            except UnicodeEncodeError as error:
                refused = error.reason
            out.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            print("é", "last")
            logging.getLogger("x").warning("warned")
            return {
                "kept": kept.getvalue(),
                "other": other.getvalue(),
                "refused": refused,
                "tty": out.isatty(),
                "fileno": out.fileno(),
                "encoding": out.encoding,
            }

        @lm.method()
        def rebuilt(self) -> Any:
            return {"old": Old, "proxy": Proxy}["proxy"]()

        @lm.method()
        def answer(self) -> int:
            return 42

    return Failing
