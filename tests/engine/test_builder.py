"""From a class to its image on a real engine: layers, what makes them anew, and what is told.

A hook here is a shell command that runs in a real container of the layer below; how the product
runs hooks is none of the builder's business.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from engine import docker_images

from lifecycle_magic.building import build_log, builder
from lifecycle_magic.building.builder import BuiltImage
from lifecycle_magic.decorators import hooks
from lifecycle_magic.engines.base import OnStep
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.docker.names import ROLE, tag
from lifecycle_magic.exception import BuildError, EngineError
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.steps import FileDigests
from lifecycle_magic.lifecycle.states import BuildStep, Event, Notice
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class

# One group with the tests that prune: an image of ours that came up in between would go as well.
pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker-images")]


class Watched(DockerEngine):
    """A docker engine that keeps note of what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.kept: list[str] = []

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        self.asked.append("base_id")
        return super().base_id(image, on_step, anew=anew)

    def find(self, key: str) -> str | None:
        self.asked.append("find")
        return super().find(key)

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None = None,
        below: str | None = None,
    ) -> str:
        self.asked.append("build")
        self.kept.append(key)
        return super().build(image, key, on_step, files, below)

    def commit(self, container: str, key: str) -> str:
        self.asked.append("commit")
        self.kept.append(key)
        return super().commit(container, key)


class Site:
    """Builds specs; hooks run as shell commands that are noted."""

    def __init__(self, engine: Watched, client: docker.DockerClient) -> None:
        self.engine = engine
        self.client = client
        self.events: list[Event] = []
        self.ran: list[str] = []
        self.commands: dict[str, str] = {}
        self.mark = secrets.token_hex(8)

    def ensure(self, spec: ClassSpec, *, force: bool = False) -> BuiltImage:
        self.events, self.ran, self.engine.asked = [], [], []
        return builder.ensure(spec, self.engine, self.run_hook, self.events.append, force=force)

    @contextlib.contextmanager
    def run_hook(self, image: str, hook: str, printed: Callable[[str], None]) -> Iterator[str]:
        self.ran.append(hook)
        container = self.client.containers.run(image, ["sleep", "1000"], detach=True)
        try:
            command = self.commands.get(hook, f"echo {hook} >> /ran")
            done = container.exec_run(["sh", "-c", command])
            printed(done.output.decode())
            if done.exit_code:
                raise ValueError(str(done.output))
            yield str(container.id)
        finally:
            container.remove(force=True)

    def read(self, image: str, path: str) -> str:
        container = self.client.containers.run(image, ["sleep", "1000"], detach=True)
        try:
            printed = container.exec_run(["cat", path]).output
            assert isinstance(printed, bytes)
            return printed.decode()
        finally:
            container.remove(force=True)

    def told(self) -> list[tuple[int, int, str, str]]:
        return [
            (event.step, event.of, event.status, event.text)
            for event in self.events
            if isinstance(event, BuildStep) and event.status != "output"
        ]

    def close(self) -> None:
        for key in reversed(self.engine.kept):
            with contextlib.suppress(docker.errors.ImageNotFound):
                docker_images.remove(self.client, tag(key))
        docker_images.remove_made_by(self.client, [self.mark], dangling=True, label=f"{ROLE}=image")
        self.engine.close()


@pytest.fixture
def site(need_docker: docker.DockerClient) -> Iterator[Site]:
    site = Site(Watched(), need_docker)
    yield site
    site.close()


@pytest.fixture
def recipe(site: Site) -> Image:
    """A recipe that no other test has."""
    return Image.debian_slim().run_commands(f"echo recipe > /ran; true {site.mark}")


def one_hook(image: Image, constant: int = 1, **build: Any) -> ClassSpec:
    class Model:
        @hooks.build(**build)
        def bake(self) -> int:
            return constant

        @hooks.method()
        def predict(self) -> None: ...

    return read_class(Model, Options(image=image))


def two_hooks(image: Image, constant: int = 1) -> ClassSpec:
    class Model:
        @hooks.build()
        def first(self) -> int:
            return constant

        @hooks.build()
        def second(self) -> None: ...

        @hooks.method()
        def predict(self) -> None: ...

    return read_class(Model, Options(image=image))


def no_hook(image: Image) -> ClassSpec:
    class Plain:
        @hooks.method()
        def predict(self) -> None: ...

    return read_class(Plain, Options(image=image))


def test_hooks_run_in_order_each_in_the_layer_of_the_one_before(site: Site, recipe: Image) -> None:
    built = site.ensure(two_hooks(recipe))
    assert site.read(built.image, "/ran") == "recipe\nfirst\nsecond\n"
    assert not built.cached
    assert site.engine.find(built.key) == built.image


def test_every_step_and_hook_is_told_with_its_time(site: Site, recipe: Image) -> None:
    site.ensure(two_hooks(recipe))
    (step,) = (step.title() for step in recipe.steps)
    assert site.told() == [
        (number, 3, status, text)
        for number, text in ((1, step), (2, "first()"), (3, "second()"))
        for status in ("running", "done")
    ]
    steps = [event for event in site.events if isinstance(event, BuildStep)]
    assert {event.cls for event in steps} == {"Model"}
    assert all((event.seconds is not None) == (event.status == "done") for event in steps)


def test_what_is_there_costs_two_questions_and_no_word(site: Site, recipe: Image) -> None:
    first = site.ensure(two_hooks(recipe))
    again = site.ensure(two_hooks(recipe))
    assert (again.image, again.key, again.cached) == (first.image, first.key, True)
    assert site.engine.asked == ["base_id", "find"]
    assert site.events == []


def test_a_class_without_hooks_is_its_recipe(site: Site, recipe: Image) -> None:
    built = site.ensure(no_hook(recipe))
    assert built.key == recipe.key(site.engine.base_id(recipe))
    assert site.ran == []


def test_a_changed_constant_runs_the_hook_again_and_changing_it_back_does_not(
    site: Site, recipe: Image
) -> None:
    first = site.ensure(two_hooks(recipe, constant=1))
    changed = site.ensure(two_hooks(recipe, constant=2))
    assert site.ran == ["first", "second"]
    assert "build" not in site.engine.asked
    assert changed.image != first.image
    back = site.ensure(two_hooks(recipe, constant=1))
    assert site.ran == []
    assert back.image == first.image


def test_only_what_lies_above_a_missing_layer_is_made(site: Site, recipe: Image) -> None:
    site.ensure(no_hook(recipe))
    site.ensure(two_hooks(recipe))
    assert site.ran == ["first", "second"]
    assert site.engine.asked.count("build") == 0


def test_force_runs_the_hooks_again_on_the_same_recipe(site: Site, recipe: Image) -> None:
    first = site.ensure(two_hooks(recipe))
    again = site.ensure(two_hooks(recipe), force=True)
    assert site.ran == ["first", "second"]
    assert "build" not in site.engine.asked
    assert again.key == first.key
    assert site.engine.find(again.key) == again.image != first.image
    assert site.read(again.image, "/ran") == "recipe\nfirst\nsecond\n"


def test_a_hook_marked_with_force_runs_every_time(site: Site, recipe: Image) -> None:
    for _ in range(2):
        site.ensure(one_hook(recipe, force=True))
        assert site.ran == ["bake"]
    assert "build" not in site.engine.asked


def test_a_hook_that_raises_is_named_and_keeps_nothing(site: Site, recipe: Image) -> None:
    site.commands["second"] = "echo no such weights; exit 1"
    with pytest.raises(BuildError, match=r"Model: .*@build hook second\(\).*no such w") as caught:
        site.ensure(two_hooks(recipe))
    assert isinstance(caught.value.__cause__, ValueError)
    assert site.told()[-1] == (3, 3, "failed", "second()")
    del site.commands["second"]
    built = site.ensure(two_hooks(recipe))
    assert site.ran == ["second"]
    assert site.read(built.image, "/ran") == "recipe\nfirst\nsecond\n"


def test_what_a_hook_printed_is_told_as_it_comes_and_ends_its_failure(
    site: Site, recipe: Image
) -> None:
    site.commands["bake"] = "seq 30; exit 1"
    with pytest.raises(BuildError, match=r"bake\(\) failed") as caught:
        site.ensure(one_hook(recipe))
    assert "\n  11\n" in str(caught.value)
    assert "\n  10\n" not in str(caught.value)
    steps = [event for event in site.events if isinstance(event, BuildStep) and event.step == 2]
    assert [step.status for step in steps] == ["running", "output", "failed"]
    assert steps[1].text.startswith("1\n2\n")


def test_the_whole_output_of_the_last_build_is_kept_and_named_where_it_failed(
    site: Site, recipe: Image
) -> None:
    image = recipe.run_commands("seq 500")
    site.ensure(two_hooks(image))
    path = build_log.find("Model")
    assert path is not None
    text = build_log.read(path)
    assert text.count("--- done after") == 4
    assert "\n".join(map(str, range(1, 501))) in text
    site.ensure(two_hooks(image))  # all of it is there: nothing new to tell
    assert build_log.read(path) == text
    site.commands["bake"] = "echo no luck; exit 1"
    with pytest.raises(BuildError) as caught:
        site.ensure(one_hook(image))
    assert str(path) in str(caught.value)
    assert "%lifecycle logs Model --build" in str(caught.value)
    text = build_log.read(path)
    assert "no luck\n--- failed after" in text
    assert "500" not in text  # of an earlier build
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_recipe_that_fails_names_the_class(site: Site) -> None:
    with pytest.raises(BuildError, match=r"^Plain: .*step 1 of 1 failed: exit 3 \(exit code 3\)"):
        site.ensure(no_hook(Image.debian_slim().run_commands("exit 3")))


def test_a_base_that_does_not_exist_names_the_class(site: Site) -> None:
    with pytest.raises(BuildError, match=r"^Plain: .*lifecycle-magic-missing/image:1"):
        site.ensure(no_hook(Image.from_registry("lifecycle-magic-missing/image:1")))


@pytest.mark.parametrize("error", [EngineError("the engine is gone"), KeyboardInterrupt()])
def test_what_is_no_failure_of_the_hook_comes_as_it_is(
    site: Site, recipe: Image, error: BaseException
) -> None:
    @contextlib.contextmanager
    def run_hook(image: str, hook: str, printed: Callable[[str], None]) -> Iterator[str]:
        for one in [error]:
            raise one
        yield image

    spec = one_hook(recipe)
    with pytest.raises(type(error)) as caught:
        builder.ensure(spec, site.engine, run_hook, site.events.append)
    assert caught.value is error
    assert site.told()[-1][2:] == ("failed", "bake()")


def test_two_that_want_the_same_image_make_it_once(site: Site, recipe: Image) -> None:
    spec = one_hook(recipe)
    entered, go_on = threading.Event(), threading.Event()
    told: list[Event] = []
    built: list[BuiltImage] = []

    @contextlib.contextmanager
    def slow(image: str, hook: str, printed: Callable[[str], None]) -> Iterator[str]:
        entered.set()
        assert go_on.wait(60)
        with site.run_hook(image, hook, printed) as container:
            yield container

    def publish(event: Event) -> None:
        told.append(event)
        if isinstance(event, Notice) and "waiting" in event.text:
            go_on.set()  # the second waits, so the first may end

    def build(run_hook: Callable[..., Any], publish: Callable[[Event], None]) -> None:
        built.append(builder.ensure(spec, site.engine, run_hook, publish))

    first = threading.Thread(target=build, args=(slow, site.events.append))
    first.start()
    assert entered.wait(60)
    second = threading.Thread(target=build, args=(site.run_hook, publish))
    second.start()
    first.join(60)
    second.join(60)
    assert site.ran == ["bake"]
    assert len({one.image for one in built}) == 1
    notices = [event.text for event in told if isinstance(event, Notice)]
    assert "Model: waiting for another kernel that builds the same image" in notices


def test_locks_are_private_and_below_the_state_root(
    site: Site, recipe: Image, state_dir: Path
) -> None:
    built = site.ensure(no_hook(recipe))
    assert (state_dir / "locks").stat().st_mode & 0o777 == 0o700
    assert (state_dir / "locks" / f"docker-{built.key[:40]}").stat().st_size == 0
