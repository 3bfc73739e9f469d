"""``Cls.from_name`` and ``Function.from_name``: calls of classes that another process serves."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import threading
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.other_process import OtherApp, OtherProcess
from engine.work import Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import Error, InputCancelled, InvalidError, NotFoundError
from lifecycle_magic.host.served_names import FOLDER, Served
from lifecycle_magic.peers import connection as peer_connection
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.session import session
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.hello import NAMED, Hello, dial, introduce

CODE = """
import os
import lifecycle_magic as lm
from engine.work import Folder

app = lm.App(NAME)
FOLDER = PLACE

class Point:
    def __init__(self, x):
        self.x = x

@app.cls(volumes={FOLDER: lm.Volume.from_path(FOLDER)}, max_containers=1)
class Model:
    def __init__(self, size=1):
        self.size = size

    @lm.method()
    def times(self, x: int, y: "int" = 2) -> int:
        "Multiply."
        return self.size * x

    @lm.method()
    async def later(self, x):
        return self.size * x

    @lm.method()
    def count(self, to):
        for number in range(to):
            yield self.size * number

    @lm.method()
    async def count_later(self, to):
        for number in range(to):
            yield self.size * number

    @lm.method()
    def say(self, text):
        print("said", text)
        os.system(f"echo from C {text}")

    @lm.method()
    def fail(self, text):
        raise LookupError(text)

    @lm.method()
    def hold(self, name):
        notes = Folder(FOLDER)
        try:
            notes.note(f"began-{name}")
            notes.wait(f"go-{name}")
        except KeyboardInterrupt:
            notes.note(f"interrupted-{name}")
            raise
        return name

    @lm.method()
    def point(self, x):
        return Point(x)

    @lm.method()
    def itself(self):
        return Other

    @lm.method()
    def call(self, handle, x):
        return handle.times.remote(x)

@app.cls()
class Other:
    @lm.method()
    def times(self, x):
        return 100 * x

@app.cls()
class Relay:
    @lm.method()
    def relay(self, name, x):
        return lm.Cls.from_name(name, "Model")(3).times.remote(x)

    @lm.method()
    def relay_all(self, name):
        model = lm.Cls.from_name(name, "Model")(2)
        started = model.times.spawn(4)
        try:
            model.fail.remote("relayed")
        except LookupError as error:
            failed = str(error)
        return {
            "map": list(model.times.map(range(3))),
            "items": list(model.count.remote_gen(3)),
            "spawn": started.get(timeout=60),
            "id": lm.FunctionCall.from_id(started.object_id).get(),
            "function": lm.Function.from_name(name, "square").remote(3),
            "failed": failed,
        }

@app.function()
def square(x):
    return x * x

lm.App()
session = __import__("lifecycle_magic.session.session").session.session
session.current()
"""


class Far(OtherApp):
    """The process that serves `CODE`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CODE)

    @property
    def model(self) -> Any:
        return self.cls("Model")


@pytest.fixture
def far(engine_name: str, tmp_path: Path) -> Iterator[Far]:
    with Far(tmp_path / "far") as one:
        yield one


@pytest.fixture
def far_by_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Far]:
    """On the engine that starts fastest, for what is the same on all of them."""
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    with Far(tmp_path / "far") as one:
        yield one


def test_every_way_to_call(far: Far, capfd: pytest.CaptureFixture[str]) -> None:
    model = far.model(3)
    assert model.times.remote(2) == 6
    assert far.model(size=5).times.remote(2) == 10
    assert model.later.remote(2) == 6
    assert list(model.count.remote_gen(3)) == [0, 3, 6]
    assert list(model.count_later.remote_gen(3)) == [0, 3, 6]
    assert list(model.times.map(range(4))) == [0, 3, 6, 9]
    assert list(model.times.starmap([(1,), (2,)])) == [3, 6]
    model.times.for_each([1, 2])
    started = model.times.spawn(4)
    assert started.get(timeout=60) == 12
    assert lm.gather(model.times.spawn(1), model.later.spawn(2)) == [3, 6]
    assert lm.Function.from_name(far.name, "square").remote(7) == 49
    assert list(lm.Function.from_name(far.name, "square").map([1, 2])) == [1, 4]
    model.say.remote("hello")
    wait_for(lambda: "from C hello" in capfd.readouterr().out, "the output of a child")


def test_every_way_to_call_from_coroutines(far_by_process: Far) -> None:
    model = far_by_process.model(3)

    async def calls() -> list[Any]:
        return [
            await model.times.remote.aio(1),
            await model.later.remote(2),
            await (await model.times.spawn.aio(3)),
            [item async for item in model.count.remote_gen.aio(2)],
            [item async for item in model.count_later.remote_gen(2)],
            [value async for value in model.times.map.aio(range(2))],
        ]

    assert asyncio.run(calls()) == [3, 6, 9, [0, 3], [0, 3], [0, 3]]


def test_output_is_shown_where_the_call_is_made(far: Far, capsys: Any) -> None:
    far.model().say.remote("hello")
    assert "said hello\n" in capsys.readouterr().out
    assert "said" not in far.process.printed()


def test_an_exception_arrives_with_its_frames(far: Far) -> None:
    with pytest.raises(LookupError, match="no such thing") as caught:
        far.model().fail.remote("no such thing")
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames][1:] == ["fail"]
    assert frames[-1].line == "raise LookupError(text)"
    [error] = far.model().fail.map(["other"], return_exceptions=True)
    assert repr(error) == "LookupError('other')"


def test_an_interrupt_reaches_the_method_and_the_container_stays(far: Far) -> None:
    model = far.model()

    def interrupt() -> None:
        far.notes.wait("began-a")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        model.hold.remote("a")
    thread.join()
    far.notes.wait("interrupted-a")
    started = model.hold.spawn("b")
    far.notes.wait("began-b")
    started.cancel()
    with pytest.raises(InputCancelled, match="was cancelled"):
        started.get()
    far.notes.wait("interrupted-b")
    assert model.times.remote(1) == 1
    assert far.run("result = len(session.current().containers())") == 1


def test_a_caller_that_dies_interrupts_its_call(far_by_process: Far, tmp_path: Path) -> None:
    far = far_by_process
    caller = OtherProcess(tmp_path / "caller", "import lifecycle_magic as lm")
    assert caller.process.stdin is not None
    code = f"lm.Cls.from_name({far.name!r}, 'Model')().hold.remote('c')"
    caller.process.stdin.write(json.dumps(code) + "\n")
    caller.process.stdin.flush()
    far.notes.wait("began-c")
    caller.kill()
    caller.close()
    far.notes.wait("interrupted-c")


def test_a_class_that_was_declared_again_is_called_as_it_is_now(far_by_process: Far) -> None:
    far = far_by_process
    model = far.model(3)
    assert model.times.remote(2) == 6
    far.run(
        """
        @app.cls()
        class Model:
            def __init__(self, size=1):
                self.size = size
            @lm.method()
            def times(self, x):
                yield from [x, self.size]
        """
    )
    wait_for(lambda: _is_generator(model), "the new declaration")
    assert list(model.times.remote_gen(2)) == [2, 3]
    with pytest.raises(InvalidError, match="has no method later"):
        model.later.remote(1)


def _is_generator(model: Any) -> bool:
    try:
        return list(model.times.remote_gen(1)) == [1, 3]
    except InvalidError:
        return False


def test_a_class_that_is_not_declared_any_more(far_by_process: Far) -> None:
    far = far_by_process
    square = lm.Function.from_name(far.name, "square")
    assert square.remote(2) == 4
    far.run(
        "import gc; app._declarations.entries.pop(f'{app.name}/square'); del square; gc.collect()"
    )
    with pytest.raises(NotFoundError, match=f"has no class or function {far.name}/square any more"):
        square.remote(2)
    with pytest.raises(NotFoundError, match="any more"):
        lm.Function.from_name(far.name, "square").hydrate()
    with pytest.raises(NotFoundError, match=r"no session of this user serves .*Fix: .*deploy"):
        lm.Function.from_name(far.name, "square").hydrate()
    assert far.model().times.remote(2) == 2


def test_names_that_nobody_or_several_serve(far_by_process: Far, tmp_path: Path) -> None:
    far = far_by_process
    nobody = lm.Cls.from_name(far.name, "Mode")  # does nothing before its first use
    with pytest.raises(NotFoundError, match=rf"(?s)did you mean {far.name}/Model\?.*Fix: run"):
        nobody().times.remote(1)
    with pytest.raises(InvalidError, match=r"is a function. Fix: write lm.Function.from_name"):
        lm.Cls.from_name(far.name, "square")().call.remote(1)
    with pytest.raises(InvalidError, match="can't be a name"):
        lm.Cls.from_name("a/b", "Model")
    assert lm.App.lookup(far.name).name == far.name
    with pytest.raises(NotFoundError, match="declares the app nothing-like-it"):
        lm.App.lookup("nothing-like-it")
    code = f"""
    import lifecycle_magic as lm
    app = lm.App({far.name!r})
    @app.cls()
    class Model:
        @lm.method()
        def times(self, x):
            return "second"
    from lifecycle_magic.session import session
    session.current()
    """
    with OtherProcess(tmp_path / "second", code) as second:
        second.run("pass")
        with pytest.raises(InvalidError, match=r"2 sessions serve") as refused:
            far.model().times.remote(1)
        assert f"process {second.process.pid}" in str(refused.value)
        assert f"process {far.process.process.pid}" in str(refused.value)
    assert far.model().times.remote(1) == 1


@pytest.mark.parametrize("how", ["close", "kill"])
def test_the_end_of_the_serving_session_is_named(far_by_process: Far, how: str) -> None:
    far = far_by_process
    model = far.model()
    started = model.hold.spawn("d")
    id = started.object_id
    far.notes.wait("began-d")
    getattr(far.process, how)()
    with pytest.raises(
        InputCancelled, match=rf"session {far.session} \(serving.py, process .*ended"
    ):
        started.get()
    with pytest.raises(NotFoundError, match=rf"session {far.session} .*ended, and no other"):
        model.times.remote(1)
    with pytest.raises(
        NotFoundError, match=f"session {far.session}, which ran the call, has ended"
    ):
        lm.FunctionCall.from_id(id)


def test_a_handle_is_found_again_by_another_session_of_the_name(
    far_by_process: Far, tmp_path: Path
) -> None:
    far = far_by_process
    model = far.model(2)
    path = tmp_path / "handle.pickle"
    path.write_bytes(pickle.dumps([model, far.model, model.times]))
    assert model.times.remote(1) == 2
    far.process.close()
    with pytest.raises(NotFoundError, match=f"{far.name}/Model.*Fix: "):
        pickle.loads(path.read_bytes())[0].times.remote(1)
    code = f"""
    import lifecycle_magic as lm
    app = lm.App({far.name!r})
    @app.cls()
    class Model:
        def __init__(self, size=1): self.size = size
        @lm.method()
        def times(self, x):
            return ["second", self.size]
    from lifecycle_magic.session import session
    session.current()
    """
    with OtherProcess(tmp_path / "second", code) as second:
        second.run("pass")
        assert model.times.remote(1) == ["second", 2]
        loaded, cls, method = pickle.loads(path.read_bytes())
        assert [loaded.times.remote(1)[1], cls(4).times.remote(1)[1], method.remote(1)[1]] == [
            2,
            4,
            2,
        ]


def test_a_call_is_found_by_its_id(far_by_process: Far, site: Site, tmp_path: Path) -> None:
    far = far_by_process
    started = far.model(3).times.spawn(2)
    assert lm.FunctionCall.from_id(started.object_id).get() == 6
    failed = far.model().fail.spawn("kept")
    with pytest.raises(LookupError, match="kept"):
        lm.FunctionCall.from_id(failed.object_id).get()
    id = far.run("result = Model(4).times.spawn(2).object_id")
    assert lm.FunctionCall.from_id(id).get() == 8
    assert far.run(f"result = lm.FunctionCall.from_id({started.object_id!r}).get()") == 6
    own = site.instance().echo.spawn(5)
    assert lm.FunctionCall.from_id(own.object_id).get() == 5
    held = far.model().hold.spawn("e")
    far.notes.wait("began-e")
    lm.FunctionCall.from_id(held.object_id).cancel()
    far.notes.wait("interrupted-e")
    for id, error in (("fc-1", NotFoundError), ("one", InvalidError)):
        with pytest.raises(error, match="no id of a call"):
            lm.FunctionCall.from_id(id)
    with pytest.raises(NotFoundError, match="has no call"):
        lm.FunctionCall.from_id(started.object_id + "999").get()


def test_a_call_that_has_ended_is_found_without_waiting(far_by_process: Far, site: Site) -> None:
    far = far_by_process
    ended = far.model(3).times.spawn(2)
    assert ended.get() == 6
    held = far.model().hold.spawn("z")
    far.notes.wait("began-z")

    def poll(id: str) -> list[Any]:
        found: list[Any] = [lm.FunctionCall.from_id(id).done()]
        for get in (
            lambda: lm.FunctionCall.from_id(id).get(timeout=0),
            lambda: asyncio.run(lm.FunctionCall.from_id(id).get.aio(timeout=0)),
        ):
            try:
                found.append(get())
            except TimeoutError:
                found.append("timeout")
        return found

    class Poller:
        @lm.method()
        def poll(self, id: str) -> list[Any]:
            return poll(id)

    poller = site.app.cls(Poller)()
    own = poller.poll.spawn(ended.object_id)
    assert own.get() == [True, 6, 6]  # of another session, relayed
    assert poll(ended.object_id) == [True, 6, 6]
    assert poll(held.object_id) == [False, "timeout", "timeout"]
    assert poller.poll.remote(held.object_id) == [False, "timeout", "timeout"]
    assert poller.poll.remote(own.object_id) == [True, [True, 6, 6], [True, 6, 6]]
    lm.FunctionCall.from_id(held.object_id).cancel()
    far.notes.wait("interrupted-z")


def test_in_the_serving_process_it_is_the_own_class(far_by_process: Far) -> None:
    far = far_by_process
    assert far.run("result = lm.Cls.from_name(app.name, 'Model')(3).times.remote(2)") == 6
    assert far.run("result = lm.Function.from_name(app.name, 'square').remote(3)") == 9
    assert far.run("result = len(session.current().served_calls.peer_calls.connections)") == 0


def test_from_inside_containers(far: Far, site_on_each: Site, capsys: Any) -> None:
    name = far.name
    assert lm.Cls.from_name(name, "Relay")().relay.remote(name, 2) == 6

    class Caller:
        @lm.method()
        def through(self, x: int) -> int:
            return int(lm.Cls.from_name(name, "Model")(3).times.remote(x))

        @lm.method()
        def given(self, model: Any, x: int) -> int:
            model.say.remote("relayed")
            return int(model.times.remote(x))

        @lm.method()
        def relay_all(self) -> dict[str, Any]:
            model = lm.Cls.from_name(name, "Model")(2)
            started = model.times.spawn(4)
            return {
                "map": list(model.times.map(range(3))),
                "items": list(model.count.remote_gen(3)),
                "spawn": started.get(timeout=60),
                "id": lm.FunctionCall.from_id(started.object_id).get(),
                "function": lm.Function.from_name(name, "square").remote(3),
            }

        @lm.method()
        def hold(self) -> str:
            return str(lm.Cls.from_name(name, "Model")().hold.remote("f"))

    caller = site_on_each.app.cls(Caller)()
    assert caller.through.remote(2) == 6
    assert caller.given.remote(far.model(4), 2) == 8
    assert "said relayed" in capsys.readouterr().out
    expected = {"map": [0, 2, 4], "items": [0, 2, 4], "spawn": 8, "id": 8, "function": 9}
    assert caller.relay_all.remote() == expected
    started = caller.hold.spawn()
    far.notes.wait("began-f")
    started.cancel()
    far.notes.wait("interrupted-f")
    far.run("session.close('the test')")
    with pytest.raises((NotFoundError, InputCancelled), match="ended"):
        caller.through.remote(2)


def test_handles_cross_by_name(far_by_process: Far, site: Site) -> None:
    far = far_by_process
    app = lm.App(f"near-{uuid.uuid4().hex[:8]}", engine="process")

    class Near:
        @lm.method()
        def times(self, x: int) -> int:
            return 7 * x

    near = app.cls(Near)
    assert far.model().call.remote(near(), 2) == 14
    assert far.model().itself.remote()().times.remote(2) == 200
    unnamed = lm.App(engine="process").cls(Near)
    with pytest.raises(Error, match="its app has no name"):
        far.model().call.remote(unnamed(), 2)


def test_instances_of_a_class_that_is_not_here_are_named(far_by_process: Far) -> None:
    far = far_by_process
    assert far.run("result = Model().point.remote(3).x") == 3
    found = far.model().point.remote(3)
    assert type(found).__name__ == "Point"
    assert found.x == 3


def test_another_protocol_or_python_is_refused_with_both(
    far_by_process: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = far_by_process
    with monkeypatch.context() as patch:
        patch.setattr(peer_connection, "python_minor", lambda: "3.9")
        with pytest.raises(InvalidError, match=r"has Python 3\.\d+ .*this process has Python 3\.9"):
            far.model().times.remote(1)
    served = _served(far)
    with (
        dial(served.address) as sock,
        pytest.raises(Error, match=f"speaks protocol 999, the session .*protocol {PROTOCOL}"),
    ):
        _introduce(sock, served.token(), Hello("", NAMED, 0, 999, "3.11"))


def test_strangers_are_refused_before_anything_is_unpickled(
    far_by_process: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = far_by_process
    served = _served(far)
    for path, mode in ((served.folder / FOLDER, 0o700), (served.folder / FOLDER / "token", 0o600)):
        assert path.stat().st_mode & 0o777 == mode
    with dial(served.address) as sock, pytest.raises(Error, match="wrong token"):
        introduce(sock, "wrong", NAMED)
    # A socket of another user, as far as the caller can see.
    with monkeypatch.context() as patch:
        patch.setattr(peer_connection, "is_own_user", lambda sock: False)
        sessions.forget_all_in_child()
        with pytest.raises(Error, match="belongs to another user"):
            far.model().times.remote(1)
    # And a caller that is another user, as far as the session can see.
    far.run(
        """
        from lifecycle_magic.services import peer_calls
        peer_calls.is_own_user, _own = (lambda sock: False), peer_calls.is_own_user
        """
    )
    with pytest.raises(Error, match="can't be reached"):
        far.model().times.remote(1)
    far.run("peer_calls.is_own_user = _own")
    assert far.model().times.remote(1) == 1


def test_a_record_of_another_user_is_not_read(
    far_by_process: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = _served(far_by_process)
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(served.folder / FOLDER / "served.json", 12345, -1)
    assert Served.read(served.folder) is None


def test_a_forked_child_opens_a_connection_of_its_own(far_by_process: Far) -> None:
    model = far_by_process.model(3)
    assert model.times.remote(1) == 3
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(model.times.remote(2)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 64) == b"6"
    os.close(reading)
    os.close(writing)
    assert model.times.remote(3) == 9


def test_help_shows_the_declaration_of_the_other_session(far_by_process: Far) -> None:
    import inspect

    model = far_by_process.model()
    assert str(inspect.signature(model.times)) == "(x: int, y: 'int' = 2)"
    assert inspect.getdoc(model.times) == "Multiply."
    assert "times" in dir(model)
    assert inspect.getdoc(lm.Cls.from_name("nobody", "Model")().times) is None


def test_a_large_value_crosses(far_by_process: Far) -> None:
    model = far_by_process.model(1)
    for size in (10, 1 << 16, 1 << 20):
        assert model.times.remote(bytes(size)) == bytes(size)


def _served(far: Far) -> Served:
    root = session.current().root
    served = Served.read(root / "run" / far.session)
    assert served is not None
    return served


def _introduce(sock: socket.socket, token: str, greeting: Hello) -> None:
    from lifecycle_magic.wire import hello
    from lifecycle_magic.wire.frames import Channel

    channel = Channel(sock)
    hello._write(channel, greeting._replace(token=hello.key_id(token))._asdict())
    asked = hello._read(channel)
    assert asked is not None
    hello._write(channel, {"proof": hello.proof(token, greeting.role, asked["challenge"])})
    answer = hello._read(channel)
    assert answer is not None
    raise Error(str(answer["why"]))


def test_a_class_may_have_a_from_name_of_its_own(site: Site) -> None:
    class Made:
        def __init__(self, size: int = 1) -> None:
            self.size = size

        @classmethod
        def from_name(cls, name: str) -> Any:
            return cls(len(name))

        @lm.method()
        def get(self) -> int:
            return self.size

    made: Any = site.app.cls(Made)
    assert made.from_name("four").get.remote() == 4
