"""Handles inside a container without a session: the own class is plain, others are handles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError

pytestmark = pytest.mark.every_python

app = lm.App("inside")


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


@app.cls()
class Other:
    LIMIT = 7

    def __init__(self, size: int = 1) -> None:
        self.size = size

    @lm.enter()
    def load(self) -> None:
        self.loaded = True

    @lm.method()
    def go(self, x: int) -> tuple[int, int, bool]:
        return x, self.size, self.loaded


@app.function()
def double(x: int) -> int:
    return 2 * x


class Base:
    def name(self) -> str:
        return "base"


class Own(Base):
    LIMIT = 5

    @lm.method()
    def itself(self) -> list[object]:
        other = Own()
        return [
            isinstance(self, Own),
            Own.LIMIT,
            super(Own, self).name(),  # noqa: UP008
            type(other).__name__,
            self.twice(2),
            hasattr(self.twice, "remote"),
        ]

    @lm.method()
    def twice(self, x: int) -> int:
        return 2 * x

    @lm.method()
    def foreign(self) -> list[object]:
        made = Other(3)
        return [
            Other.LIMIT,
            made.size,
            made.LIMIT,
            isinstance(made, Other),
            isinstance(self, Other),
            made.go.local(1),
            double.local(4),
            Other | None == None | Other,
        ]

    @lm.method()
    def call(self, how: str) -> None:
        if how == "own":
            self.twice.remote(1)
        elif how == "function":
            double.remote(1)
        else:
            Other().go.remote(1)


class Sized:
    def __init__(self, size: int) -> None:
        self.size = size

    @lm.method()
    def call(self) -> int:
        return Sized(self.size + 1).read.remote()

    @lm.method()
    def read(self) -> int:
        return self.size


def test_an_own_method_is_called_over_the_session(engine: ForkEngine) -> None:
    with (
        Forked(engine, Sized, 1) as work,  # this engine has no session
        pytest.raises(InvalidError, match="no connection to the session"),
    ):
        work.call.remote()


def test_the_own_class_is_plain_and_others_are_handles(engine: ForkEngine) -> None:
    with Forked(engine, Own) as work:
        assert work.itself.remote() == [True, 5, "base", "Own", 4, True]
        assert work.foreign.remote() == [7, 3, 7, True, False, (1, 3, True), 8, True]
        for how in ("own", "function", "other"):  # this engine has no session
            with pytest.raises(InvalidError, match="no connection to the session"):
                work.call.remote(how)
