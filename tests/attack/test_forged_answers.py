"""What code in a container answers with ends neither the kernel nor its patience."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from engine.work import wait_for

from lifecycle_magic.exception import ContainerDied, SerializationError
from lifecycle_magic.session import session

FORGING = """
    import os, socket, time, uuid
    import lifecycle_magic as lm

    app = lm.App("forging")

    class Leaves:
        def __init__(self, kind):
            self.kind = kind

        def __reduce__(self):
            return raises, (self.kind,)

    def raises(kind):
        raise kind("as it is read")

    @app.cls()
    class Forging:
        @lm.enter()
        def come(self):
            self.id = uuid.uuid4().hex

        @lm.exit()
        def leave(self):
            print("this was", self.id)

        @lm.method()
        def where(self):
            return self.id

        @lm.method()
        def close_connection(self):
            from lifecycle_magic.guest.output import current_lane

            current_lane.get().channel.sock.shutdown(socket.SHUT_WR)
            time.sleep(600)

        @lm.method()
        def give(self, kind):
            return Leaves(kind)

        @lm.method()
        def skip(self):
            from lifecycle_magic.guest.output import current_lane
            from lifecycle_magic.wire.frames import Kind

            lane = current_lane.get()
            lane.send(Kind.SKIPPED, tag=lane._tag)
            os._exit(0)

        @lm.method()
        def echo(self, x):
            return x
"""


@pytest.fixture
def forging(engine_name: str) -> Iterator[Any]:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(FORGING), space)
    yield space["Forging"]()
    space["app"].stop()


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt])
def test_a_value_that_ends_its_reader_is_an_error_of_the_call(
    forging: Any, kind: type[BaseException]
) -> None:
    with pytest.raises(SerializationError, match=rf"{kind.__name__}: as it is read"):
        forging.give.remote(kind)
    with pytest.raises(SerializationError, match=kind.__name__):
        forging.give.spawn(kind).get()
    with pytest.raises(SerializationError, match=kind.__name__):
        list(forging.give.map([kind]))
    assert forging.echo.remote(1) == 1


@pytest.mark.parametrize("how", ["remote", "spawn", "map"])
def test_a_forged_word_that_nothing_began_ends_after_some_containers(
    forging: Any, how: str
) -> None:
    calls = {
        "remote": lambda: forging.skip.remote(),
        "spawn": lambda: forging.skip.spawn().get(),
        "map": lambda: list(forging.skip.starmap([()])),
    }
    with pytest.raises(ContainerDied, match="4 containers"):
        calls[how]()


@pytest.mark.parametrize("how", ["remote", "spawn"])
def test_a_connection_that_a_method_closes_ends_its_call_and_its_container_in_order(
    forging: Any, how: str
) -> None:
    before = forging.where.remote()
    call = forging.close_connection
    with pytest.raises(ContainerDied, match=r"code in it closed|its connection ended"):
        call.remote() if how == "remote" else call.spawn().get()
    assert forging.where.remote() != before
    [entry] = wait_for(
        lambda: [one for one in session.current().history.entries() if before in one.tail],
        "the end of the container",
    )
    assert (entry.state, [hook.hook for hook in entry.hooks]) == ("exited", ["leave"])
