"""Forms of Modal's programs that run: what they declare, and how their containers behave."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lifecycle_magic.functions as functions
import pytest
from engine.work import Folder, Site
from IPython.core.interactiveshell import InteractiveShell
from lifecycle_magic.gpu import A100

import lifecycle_magic as lm


def test_enter_sets_a_parameter_that_callers_do_not_give(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        size: int = lm.parameter(default=2)
        weights: list[int] = lm.parameter(init=False)
        never: int = lm.parameter(init=False)

        @lm.enter()
        def load(self) -> None:
            self.weights = [self.size] * 2

        @lm.method()
        def get(self) -> tuple[list[int], bool]:
            return self.weights, hasattr(self, "never")

    assert Model(size=3).get.remote() == ([3, 3], False)
    assert Model(size=4).get.local() == ([4, 4], False)


def test_a_function_that_returns_a_generator_yields_its_items(site_on_each: Site) -> None:
    @site_on_each.app.function(is_generator=True)
    def count(n: int) -> Iterator[int]:
        return iter(range(n))

    @site_on_each.app.function()
    def total(n: int) -> int:
        return sum(count.remote_gen(n))

    assert list(count.remote_gen(3)) == [0, 1, 2]
    assert total.remote(4) == 6


def test_modules_of_modal_exist_in_a_container_too(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        @lm.method()
        def names(self) -> tuple[str, str]:
            from lifecycle_magic.exception import AuthError

            return functions.FunctionCall.__name__, A100(count=2) + AuthError.__name__

    assert Model().names.remote() == ("FunctionCall", "A100:2AuthError")


_RUN = [str(Path(sys.executable).with_name("lifecycle-magic")), "run"]


def test_every_public_name_but_the_panel_is_of_use_in_a_container(site_on_each: Site) -> None:
    @site_on_each.app.function()
    def names() -> tuple[set[str], str]:
        found: dict[str, Any] = {}
        exec("from lifecycle_magic import *", found)
        with found["enable_output"]():
            pass
        try:
            found["panel"]()
        except found["exception"].InvalidError as error:
            return set(found), str(error)
        return set(found), ""

    there, error = names.remote()
    assert set(lm.__all__) <= there
    assert error == "panel() shows the session's containers. Fix: call it in the notebook"


_SCRIPT = """
import lifecycle_magic as modal

app = modal.App()

@app.cls()
class Model:
    @modal.method()
    def double(self, x):
        print("doubles")
        return 2 * x

    @modal.exit()
    def close(self):
        print("closes")

@app.local_entrypoint()
def main():
    with modal.enable_output():
        print(Model().double.remote(2))

if __name__ == "__main__":
    with OUTPUT, app.run():
        main()
"""


@pytest.mark.parametrize(
    ("output", "lines", "progress"),
    [
        ("modal.enable_output()", ["closes", "warm", "exited"], True),
        ("modal.enable_output(show_progress=False)", ["closes"], False),
    ],
)
def test_a_script_shows_what_exit_prints(
    tmp_path: Path, output: str, lines: list[str], progress: bool
) -> None:
    script = tmp_path / "program.py"
    script.write_text(_SCRIPT.replace("OUTPUT", output))
    env = {**os.environ, "LIFECYCLE_MAGIC_ENGINE": "process"}
    for command in ([sys.executable, str(script)], [*_RUN, str(script)]):
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["doubles", "4"], done.stdout
        assert done.stderr.count("closes") == 1, done.stderr
        if command[0] == sys.executable:
            assert all(line in done.stderr for line in lines), done.stderr
            assert ("warm" in done.stderr) == progress


def test_a_notebook_shows_what_exit_prints(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    @site.app.cls()
    class Model:
        @lm.method()
        def double(self, x: int) -> int:
            return 2 * x

        @lm.exit()
        def close(self) -> None:
            print("closes")

    shell = InteractiveShell.instance()
    try:
        with lm.enable_output(), site.app.run():
            assert Model().double.remote(2) == 4
    finally:
        shell.clear_instance()
    assert capsys.readouterr().out.count("closes") == 1


Sandbox: Any = lm.Sandbox  # type: ignore[attr-defined]


def test_a_refused_name_travels_and_is_refused_where_it_is_used(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        @lm.method()
        def use(self) -> tuple[str, bool]:
            from lifecycle_magic.sandbox import Sandbox as same

            try:
                Sandbox.create()
            except lm.exception.InvalidError as error:
                return str(error), same is Sandbox
            return "", False

    said, is_same = Model().use.remote()
    assert "run the command with subprocess in a method" in said
    assert is_same


@pytest.mark.usefixtures("site_on_each")
def test_containers_have_the_secrets_and_volumes_of_their_app_too(engine_name: str) -> None:
    own, other = lm.Secret.from_dict({"OWN": "1"}), lm.Secret.from_dict({"OTHER": "2"})
    volume = lm.Volume.ephemeral()
    app = lm.App("sharing", engine=engine_name, secrets=[own], volumes={"/app": volume})

    @app.function(secrets=[other], volumes={"/function": volume})
    def read() -> tuple[str, str, bool, bool]:
        folders = os.path.isdir("/app"), os.path.isdir("/function")
        return os.environ["OWN"], os.environ["OTHER"], *folders

    with app.run():
        assert read.remote() == ("1", "2", True, True)


def test_env_counts_before_secrets_and_the_last_secret_before_the_others(
    site_on_each: Site,
) -> None:
    first = lm.Secret.from_dict({"A": "first", "B": "first", "C": "first"})
    last = lm.Secret.from_dict({"B": "last", "C": "last"})
    given: dict[str, str | None] = {"C": "env", "D": None}
    command = "mkdir -p /opt/facts; echo $A $B $C $D > /opt/facts/step"
    image = lm.Image.debian_slim().run_commands(command, env={"C": "env"}, secrets=[first, last])

    @site_on_each.app.cls(image=image, env=given, secrets=[first, last])
    class Model:
        @lm.build()
        def bake(self) -> None:
            with open("/opt/facts/hook", "w") as file:
                print(*self.seen(), file=file)

        def seen(self) -> list[str | None]:
            return [os.environ.get(name) for name in "ABCD"]

        @lm.method()
        def facts(self) -> tuple[list[str | None], str, str]:
            with open("/opt/facts/hook") as hook, open("/opt/facts/step") as step:
                return self.seen(), hook.read(), step.read()

    seen = ["first", "last", "env", None]
    assert Model().facts.remote() == (seen, "first last env None\n", "first last env\n")


LIMIT = 5


@pytest.mark.process
def test_classes_inside_of_a_function_read_globals(site: Site) -> None:
    @site.app.function()
    def read() -> tuple[int, list[int], int]:
        class Outer:
            limit = LIMIT

            class Inner:
                own = LIMIT + 1

        @dataclasses.dataclass
        class Record:
            values: list[int] = dataclasses.field(default_factory=list)

        return Outer.limit, Record().values, Outer.Inner.own

    assert read.remote() == (5, [], 6)


def ids() -> tuple[str | None, str | None]:
    return lm.current_input_id(), lm.current_function_call_id()


def test_each_input_has_an_id_of_its_own(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Model:
        @lm.enter()
        def load(self) -> None:
            self.loaded = ids()

        @lm.method()
        def ids(self, _: int = 0) -> tuple[str | None, str | None]:
            return ids()

        @lm.method()
        async def ids_async(self) -> tuple[str | None, str | None]:
            await asyncio.sleep(0)
            return ids()

        @lm.method()
        def items(self) -> Iterator[tuple[str | None, str | None]]:
            yield ids()
            yield ids()

        @lm.method()
        def before(self) -> tuple[str | None, str | None]:
            return self.loaded

        @lm.method()
        def start(self) -> str:
            spawned: str = self.ids.spawn().object_id  # type: ignore[attr-defined]
            return spawned

    model = Model()
    assert ids() == model.before.remote() == model.ids.local() == (None, None)
    found = [model.ids.remote(), *model.ids.map(range(3)), model.ids_async.spawn().get()]
    first, second = model.items.remote_gen()
    assert first == second
    found.append(first)
    assert len({one for one, _ in found}) == len(found) == 6
    for one, call in found:
        assert str(one).startswith("in-")
        assert str(call) == str(one).replace("in-", "fc-")
    spawned = model.ids.spawn()
    assert spawned.get()[1] == spawned.object_id
    _, known = lm.FunctionCall.from_id(model.start.remote()).get()
    assert lm.FunctionCall.from_id(known).get()[1] == known


@pytest.mark.process
def test_an_input_keeps_its_id_when_it_is_tried_again(site: Site) -> None:
    @site.app.cls(retries=1)
    class Model:
        @lm.enter()
        def load(self) -> None:
            self.seen: list[str | None] = []

        @lm.method()
        def try_twice(self) -> list[str | None]:
            self.seen.append(lm.current_input_id())
            if len(self.seen) == 1:
                raise LookupError
            return self.seen

    one, other = Model().try_twice.remote()
    assert one == other


@pytest.mark.process
def test_inputs_at_once_have_ids_of_their_own(site: Site) -> None:
    @site.app.cls()
    @lm.concurrent(max_inputs=2)
    class Model:
        @lm.enter()
        def load(self) -> None:
            self.both = threading.Barrier(2, timeout=60)
            self.here = 0
            self.all = asyncio.Event()

        @lm.method()
        def ids(self) -> tuple[str | None, str | None]:
            self.both.wait()
            return lm.current_input_id(), lm.current_input_id()

        @lm.method()
        async def ids_async(self) -> tuple[str | None, str | None]:
            before = lm.current_input_id()
            self.here += 1
            if self.here == 2:
                self.all.set()
            await self.all.wait()
            return before, lm.current_input_id()

    for method in (Model().ids, Model().ids_async):
        found = lm.gather(method.spawn(), method.spawn())
        assert all(before == after for before, after in found)
        assert len(set(found)) == 2


def test_a_class_attribute_is_another_class_with_marks_of_its_own(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    @lm.concurrent(max_inputs=2)
    class Peer:
        @lm.method()
        def double(self, x: int) -> int:
            return 2 * x

    class Base:
        peer: Any = None

        @lm.method()
        def ask(self, x: int) -> int:
            value: int = self.peer().double.remote(x)
            return value

    @site_on_each.app.cls()
    class Server(Base):
        peer = Peer

    assert Server().ask.remote(4) == 8


@pytest.mark.process
def test_many_calls_are_started_without_waiting(site: Site) -> None:
    work = site.instance(max_containers=2)
    assert work.hold.spawn_map(["a", "b"]) is None
    site.folder.wait("began-a")
    site.folder.wait("began-b")
    site.go("a", "b")
    asyncio.run(work.hold.spawn_map.aio(["c"]))
    site.folder.wait("began-c")
    site.go("c")

    @site.app.function(volumes={site.folder.path: lm.Volume.from_path(site.folder.path)})
    def note(path: str, event: str) -> None:
        Folder(path).note(event)

    @site.app.function()
    def pass_on(*events: str) -> None:
        note.spawn_map([path] * len(events), events)

    path = site.folder.path
    note.spawn_map([path] * 2, ["one", "two"])
    pass_on.remote("three", "four")
    for event in ("one", "two", "three", "four"):
        site.folder.wait(event)


@pytest.mark.process
def test_an_app_runs_in_a_coroutine(site: Site) -> None:
    work = site.instance()

    async def main() -> int:
        async with site.app.run() as app:
            assert app is site.app
            value: int = await work.echo.remote.aio(3)
            return value

    assert asyncio.run(main()) == 3
    site.folder.wait("exit")
    with site.app.run():
        assert work.echo.remote(4) == 4
    assert site.folder.count("exit") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"detach": True}, "containers end with this process"),
        ({"name": "x"}, r"write App\(name\)"),
        ({"interactive": True}, "is for Modal's cloud"),
    ],
)
def test_a_run_in_a_cloud_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(lm.exception.InvalidError, match=told):
        lm.App().run(**options)


class Greeting:
    @lm.method()
    def greet(self, name: str) -> str:
        return f"{self.word} {name}"  # type: ignore[attr-defined]


def test_a_method_calls_another_one_on_its_own_instance(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Polite(Greeting):
        @lm.enter()
        def load(self) -> None:
            self.word = "dear"
            self.first: str = self.greet.local("me")

        @lm.method()
        def greet(self, name: str) -> str:
            return f"my {super().greet.local(name)}"

        @lm.method()
        def items(self, n: int) -> Iterator[int]:
            yield from range(n)

        @lm.method()
        async def later(self, name: str) -> str:
            return self.greet.local(name)

        @lm.method()
        async def all(self, name: str) -> tuple[str, str, list[int]]:
            return self.first, await self.later.local(name), list(self.items.local(2))

        @lm.method()
        def of_another(self) -> str:
            other = object.__new__(type(self))
            other.word = "wrong"
            try:
                return other.greet.local("you")
            except ValueError as error:
                return str(error)

    model: Any = Polite()
    shown = ("my dear me", "my dear you", [0, 1])
    assert asyncio.run(model.all.remote.aio("you")) == shown
    assert "Fix: write self.greet(...)" in model.of_another.remote()
    assert asyncio.run(model.all.local("you")) == shown


def test_two_instances_in_one_process_are_not_mixed_up() -> None:
    class Plain:
        @lm.method()
        def get(self) -> int:
            return 1

        @lm.method()
        def ask(self) -> int:
            return self.get.local()

    model: Any = lm.App().cls()(Plain)
    assert model().ask.local() == 1
    first, second = model(), model()
    assert first.ask.local() == 1
    with pytest.raises(lm.exception.InvalidError, match="2 instances of the class are known here"):
        second.ask.local()
    gc.freeze()
    try:
        with pytest.raises(lm.exception.InvalidError, match="no instances of the class are known"):
            first.ask.local()
    finally:
        gc.unfreeze()
