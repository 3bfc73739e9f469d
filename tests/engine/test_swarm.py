"""Classes on a swarm of three machines: whole lives, what is pending, what is lost, what is left.

The machines are namespaces with an engine each (`tests/swarm_machines.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from engine.swarm_work import Diary
from kernel.harness import wait_for
from swarm_machines import SwarmMachines, swarm_machines

import lifecycle_magic as lm
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.session import session

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("swarm")]


@pytest.fixture(scope="module")
def swarm(need_docker: docker.DockerClient) -> Iterator[SwarmMachines]:
    with swarm_machines(need_docker) as found:
        yield found


@pytest.fixture(autouse=True)
def on_swarm(swarm: SwarmMachines, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What leads to the swarm is set, and nothing stays there."""
    for name, value in swarm.env.items():
        monkeypatch.setenv(name, value)
    yield
    session.close("the test is over")
    wait_for(swarm.is_empty, "the removal of services and secrets")


@pytest.fixture
def diary(swarm: SwarmMachines) -> Iterator[Diary]:
    with contextlib.closing(Diary(swarm.here)) as found:
        yield found


def declare(app: lm.App, diary: Diary | None = None, **options: Any) -> Any:
    """A class whose hooks note what they do, on every node."""
    address = diary.address if diary is not None else None

    @app.cls(**options)
    class Noted:
        @lm.enter()
        def load(self) -> None:
            self.note("entered")

        def note(self, event: str) -> None:
            import socket

            if address is not None:
                with socket.create_connection(address, 5.0) as sock:
                    sock.sendall(event.encode() + b"\n")
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)

        @lm.method()
        def environment(self) -> dict[str, str]:
            return dict(os.environ)

        @lm.method()
        def same(self, value: Any) -> Any:
            return value

        @lm.method()
        def hold(self, name: str = "") -> None:
            self.note(f"holding {name}")
            time.sleep(600)

        @lm.method()
        def meet(self, all_of: int) -> str:
            """Return when so many containers run this at once."""
            import socket

            self.note(f"meeting {socket.gethostname()}")
            with socket.create_connection(address, 60.0) as sock:  # type: ignore[arg-type]
                sock.sendall(f"count {all_of}".encode())
                sock.recv(1)
            return socket.gethostname()

        @lm.exit()
        def close(self) -> None:
            self.note("exited")

    return Noted


def test_a_class_lives_on_the_swarm_from_build_to_exit(
    swarm: SwarmMachines, diary: Diary, capsys: pytest.CaptureFixture[str]
) -> None:
    app = lm.App("swarm-life", engine="swarm")
    address = diary.address

    @app.cls(
        secrets=[lm.Secret.from_dict({"TOKEN": "xyz-secret"})],
        placement=["node.role==worker"],
        buffer_containers=0,
    )
    class Model:
        @lm.build()
        def prepare(self) -> None:
            Path("/built").write_text("by the hook")

        @lm.enter()
        def load(self) -> None:
            self.word = Path("/built").read_text()
            print("entering")

        @lm.method()
        def read(self) -> tuple[str, str]:
            print("reading")
            return self.word, os.environ["TOKEN"]

        @lm.method()
        def fail(self) -> None:
            raise KeyError("what is not there")

        @lm.method()
        def same(self, value: Any) -> Any:
            return value

        @lm.method()
        def square(self, x: int) -> int:
            return x * x

        @lm.method()
        async def later(self, x: int) -> int:
            return x + 1

        @lm.method()
        def numbers(self, most: int) -> Iterator[int]:
            yield from range(most)

        @lm.method()
        def ask_other(self) -> int:
            return Other().count.remote()

        @lm.exit()
        def close(self) -> None:
            with socket.create_connection(address) as sock:
                sock.sendall(b"closed\n")

    @app.cls(engine="process")
    class Other:
        @lm.method()
        def count(self) -> int:
            return 3

    model = Model()
    assert model.read.remote() == ("by the hook", "xyz-secret")
    assert "entering\nreading" in capsys.readouterr().out
    with pytest.raises(KeyError, match="what is not there"):
        model.fail.remote()
    large = os.urandom(9 << 20)  # more than a window
    assert model.same.remote(large) == large
    assert list(model.square.map(range(30))) == [x * x for x in range(30)]
    assert list(model.numbers.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert model.later.remote(1) == 2
    assert model.ask_other.remote() == 3
    [service] = swarm.services()
    assert swarm.node_of(service["ID"]) in ("node2", "node3")
    assert "xyz-secret" not in json.dumps(service)
    assert "@sha256:" in service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    app.stop()
    diary.wait("closed")
    session.close("the test looks at the history")
    name = service["Spec"]["Name"]
    entry = next(one for one in History(state_root()).entries() if one.container == name)
    assert (entry.engine, entry.state) == ("swarm", "exited")
    assert [hook.hook for hook in entry.hooks] == ["close"]
