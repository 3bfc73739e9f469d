"""What the panel is told of containers that really run: whose they are, and what they came to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from engine.work import Site, Work, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import BuildError, InvalidError
from lifecycle_magic.session import session
from lifecycle_magic.ui import commands
from lifecycle_magic.ui.panel.feed import Feed


class Panel:
    """What a front end has after each look at the session."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.feed = Feed(session.current(), self.take)

    def take(self, changes: Mapping[str, Any]) -> None:
        self.state |= changes

    def cls(self, key: str) -> Any:
        self.feed.look()
        return next((one for one in self.state["classes"] if one["key"] == key), None)

    def containers(self, key: str) -> dict[str, Any]:
        """The containers of a class, by name: what is told of each, with its state."""
        self.feed.look()
        return {
            one["name"]: one | {"state": self.state["lives"][one["name"]][0]}
            for one in self.state["containers"]
            if one["cls"] == key
        }


@pytest.fixture
def panel() -> Iterator[Panel]:
    one = Panel()
    yield one
    one.feed.close()


def declared(app: lm.App, notes: str, *, hook: bool = False) -> Any:
    """A class called Model; its build hook, if it has one, waits until the test lets it go."""

    class Model:
        @lm.method()
        def say(self, text: str) -> str:
            print(text, flush=True)
            return text

    class Built(Model):
        @lm.build()
        def bake(self) -> None:
            Work(notes).hold("bake")

    Built.__name__ = Built.__qualname__ = "Model"
    declare = app.cls(memory=4096, volumes={notes: lm.Volume.from_path(notes)})
    return declare(Built if hook else Model)()


def test_two_classes_of_one_name_have_rows_builds_ends_and_logs_of_their_own(
    site: Site, panel: Panel
) -> None:
    path = site.folder.path
    second = lm.App("second", engine="process")
    first_key, second_key = f"{site.app.name}/Model", "second/Model"
    first = declared(site.app, path)
    first.say.remote("of the first")
    other = declared(second, path, hook=True)
    errors: list[BaseException] = []
    built = collecting(errors, lambda: other.say.remote("of the second"))
    thread = threading.Thread(target=built)
    thread.start()
    site.folder.wait("began-bake")
    assert [step["status"] for step in panel.cls(second_key)["build"]][-1] == "running"
    assert all(step["status"] != "running" for step in panel.cls(first_key)["build"])
    site.go("bake")
    thread.join()
    assert not errors
    site.app.stop()
    assert [one["state"] for one in panel.containers(first_key).values()] == ["exited"]
    assert [one["state"] for one in panel.containers(second_key).values()] == ["idle"]
    current = session.current()
    wait_for(lambda: "of the first" in current.logs(first_key), "the first one's log")
    wait_for(lambda: "of the second" in current.logs(second_key), "the second one's log")
    assert "of the second" not in current.logs(first_key)
    both = str(commands.run("logs Model", current))
    assert f"{first_key}:\n" in both
    assert f"{second_key}:\n" in both
    assert "of the first" not in str(commands.run(f"logs {second_key}", current))
    rows = str(commands.run("ps", current))
    assert first_key in rows
    assert second_key in rows
    notices = "\n".join(one["text"] for one in panel.state["notices"])
    for key in (first_key, second_key):  # this engine limits no memory
        assert re.search(rf"^{key}: .*memory", notices, re.MULTILINE), notices


def test_figures_of_a_class_outlive_its_containers(site: Site, panel: Panel) -> None:
    work = site.instance()
    key = f"{site.app.name}/Work"
    for number in range(3):
        work.echo.remote(number)
    with pytest.raises(LookupError, match="no"):
        work.fail.remote("no")
    before = panel.cls(key)
    assert (before["calls"], before["failures"]) == (4, 1)
    session.wait_gone(session.current().stop([key]))
    after = panel.cls(key)
    assert after["pools"] == 0
    for figure in ("calls", "failures", "p50", "p99"):
        assert after[figure] == before[figure]


def test_restart_of_a_class_that_needs_arguments_and_has_no_container_names_the_fix(
    site: Site, panel: Panel
) -> None:
    site.instance().echo.remote(1)
    current = session.current()
    key = f"{site.app.name}/Work"
    session.wait_gone(current.stop([key]))
    told = r"no container is running, and Work\(\.\.\.\) needs .* Fix: call a method.*Work"
    with pytest.raises(InvalidError, match=told):
        commands.run(f"restart {key}", current)
    panel.feed.do("1", "restart", key).join()
    panel.feed.look()
    assert any(re.search(told, one["text"]) for one in panel.state["notices"])


@pytest.mark.parametrize("how", ["class", "container", "command"])
def test_a_build_hook_shows_while_it_runs_and_is_ended_by_stop(
    how: str, site_on_each: Site, panel: Panel
) -> None:
    site = site_on_each
    path = site.folder.path
    key = f"{site.app.name}/Model"
    model = declared(site.app, path, hook=True)
    errors: list[BaseException] = []
    thread = threading.Thread(target=collecting(errors, lambda: model.say.remote("built")))
    thread.start()
    site.folder.wait("began-bake")
    (name,) = [one for one, told in panel.containers(key).items() if told["build_hook"] == "bake()"]
    assert panel.containers(key)[name]["state"] == "busy"
    wait_for(lambda: sampled(panel, key, name), "a sample of what the hook uses")
    if how == "command":
        commands.run(f"stop {name}", session.current())
    else:
        panel.feed.do("1", "stop", key if how == "class" else name).join()
    thread.join()
    assert isinstance(errors[0], BuildError)
    assert "bake() failed" in str(errors[0])
    assert "stop" in str(errors[0])
    assert panel.containers(key)[name]["state"] == "failed"
    site.go("bake")
    assert model.say.remote("built") == "built", "the next call builds again"
    hooks = [one for one in panel.containers(key).values() if one["build_hook"]]
    assert [one["name"] for one in hooks] == [name], "one that has run needs no row"


def test_a_failed_build_and_a_failed_start_are_shown_with_their_last_lines(
    site_on_each: Site, panel: Panel
) -> None:
    app = site_on_each.app

    @app.cls()
    class Unbuilt:
        @lm.build()
        def bake(self) -> None:
            print("last line of the build")
            raise ValueError("no weights")

        @lm.method()
        def answer(self) -> int:
            return 1

    @app.cls()
    class Unstarted:
        @lm.enter()
        def load(self) -> None:
            print("last line of the start")
            raise ValueError("no model")

        @lm.method()
        def answer(self) -> int:
            return 1

    for model in (Unbuilt(), Unstarted()):
        with pytest.raises(Exception, match="no "):
            model.answer.remote()
    shown = panel.cls(f"{app.name}/Unbuilt")["failed"]
    assert "bake()" in shown
    assert "no weights" in shown
    assert any(
        one["state"] == "failed" for one in panel.containers(f"{app.name}/Unstarted").values()
    )
    wait_for(lambda: str(commands.run("ps", session.current())).count(" failed ") >= 2, "the ends")
    text = str(commands.run("ps", session.current()))
    assert "no weights" in text
    assert "no model" in text
    assert "last line of the start" in text
    assert "declared" not in text
    assert failed_elsewhere() == {"Unbuilt", "Unstarted"}
    app.stop()


def failed_elsewhere() -> set[str]:
    """The classes that another process lists as failed, each with its reason below the table."""
    command = [sys.executable, "-m", "lifecycle_magic", "ps"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    failed = {row[0] for row in rows if row[1:2] == ["failed"] and row[-1] == str(os.getpid())}
    assert all(f"\n{name}: " in done.stdout for name in failed), done.stdout
    return failed


def test_a_class_that_is_built_at_last_is_failed_for_no_other_process(site: Site) -> None:
    def declare(*, works: bool) -> Any:
        class Repaired:
            @lm.build()
            def bake(self) -> None:
                if not works:
                    raise ValueError("no weights")

            @lm.method()
            def answer(self) -> int:
                return 1

        return site.app.cls(Repaired)

    with pytest.raises(BuildError, match="no weights"):
        declare(works=False)().answer.remote()
    assert failed_elsewhere() == {"Repaired"}
    assert declare(works=True)().answer.remote() == 1
    assert failed_elsewhere() == set()


def collecting(errors: list[BaseException], call: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    return run


def sampled(panel: Panel, key: str, name: str) -> bool:
    panel.containers(key)
    return name in panel.state["samples_new"].get("of", {})
