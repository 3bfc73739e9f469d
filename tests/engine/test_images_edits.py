"""Which edit of a cell runs which step of its image again, through the real build and real hooks.

Each case edits one cell, and afterwards takes the edit back. What ran is known from two sides:
from the steps that were told, and from what the hooks wrote into the image, which a method reads.
"""

from __future__ import annotations

import ast
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from engine import docker_images
from kernel.harness import event_loop_of_this_thread, own_kernel

import lifecycle_magic as lm
from lifecycle_magic.building import rebuild_reasons as builds
from lifecycle_magic.lifecycle.states import BuildStep, Event, Notice
from lifecycle_magic.session import session

CELL = """
import os
from pathlib import Path

import lifecycle_magic as lm

LIMIT = 3
TABLE = {"b": [1, 2], "a": (3,)}
UNUSED = 1

def outer(x):
    return inner(x) + 1

def inner(x, step=1):
    return x * step

def not_reached(x):
    return -x

class Tool:
    factor = 2

    def apply(self, x):
        return x * self.factor

def closing_over(n):
    def closed():
        return n
    return closed

closed = closing_over(5)
shrink = lambda x: x - 1

class Base:
    @lm.build()
    def first(self):
        Path("first").write_text("written first")

class Model(Base):
    depth = 4
    width: int = 7
    shown = 1

    def __init__(self):
        self.made = 1

    @lm.build()
    def fetch(self):
        values = (LIMIT, sorted(TABLE.items()), outer(2), Tool().apply(3), closed(), shrink(9))
        self.keep("fetch", values)

    @lm.build()
    def prepare(self):
        self.keep("prepare", (self.depth, self.made))

    def keep(self, name, values):
        Path(name).write_text(repr(values))

    @lm.enter()
    def load(self):
        self.entered = True

    @lm.method()
    def baked(self):
        return [Path(name).read_text() for name in ("first", "fetch", "prepare")] * self.shown

    @lm.exit()
    def close(self):
        pass
"""


NOTHING: tuple[str, ...] = ()
TOP = ("prepare()",)
UPPER = ("fetch()", "prepare()")
HOOKS = ("first()", "fetch()", "prepare()")
ALL = ("recipe", *HOOKS)

# What is edited, the text, what takes its place, and what runs again.
EDITS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("nothing at all", "", "", NOTHING),
    ("a comment in a hook", "        values = (", "        # all\n        values = (", NOTHING),
    ("the layout of a hook", '"fetch", values)', '\n "fetch",\n values,\n )', NOTHING),
    ("a docstring of a hook", "prepare(self):", "prepare(self):\n        'Prepares.'", NOTHING),
    ("empty lines above everything", "import os", "\n\n\n\nimport os", NOTHING),
    ("a method", "return [Path", "print('reading'); return [Path", NOTHING),
    ("an enter hook", "self.entered = True", "self.entered = 1", NOTHING),
    ("an exit hook", "        pass\n", "        print('bye')\n", NOTHING),
    ("a new method", "    @lm.exit", "    @lm.method()\n    def x(self): 1\n    @lm.exit", NOTHING),
    ("a function that no hook reaches", "return -x", "return -2 * x", NOTHING),
    ("a constant that no hook reads", "UNUSED = 1", "UNUSED = 2", NOTHING),
    ("a class variable that only a method reads", "shown = 1", "shown = 2", NOTHING),
    ("the order of a dict", '{"b": [1, 2], "a": (3,)}', '{"a": (3,), "b": [1, 2]}', UPPER),
    ("an equal value written in another way", "LIMIT = 3", "LIMIT = 1 + 2", NOTHING),
    ("a constant", "LIMIT = 3", "LIMIT = 4", UPPER),
    ("the type of a constant", "LIMIT = 3", "LIMIT = 3.0", UPPER),
    ("a value deep in a constant", "[1, 2]", "[1, 5]", UPPER),
    ("a function that a hook calls", "inner(x) + 1", "inner(x) + 2", UPPER),
    ("a function that such a function calls", "x * step", "x + step", UPPER),
    ("a default of such a function", "step=1", "step=2", UPPER),
    ("a lambda", "x: x - 1", "x: x - 2", UPPER),
    ("a method of a class that a hook uses", "x * self.factor", "x + self.factor", UPPER),
    ("a variable of such a class", "factor = 2", "factor = 3", UPPER),
    ("a closed-over value", "closing_over(5)", "closing_over(6)", UPPER),
    ("a method that hooks call", "repr(values)", "repr(values) + '.'", UPPER),
    ("the source of a hook", "self.made))", "self.made, 0))", TOP),
    ("a class variable that a hook reads", "depth = 4", "depth = 5", TOP),
    ("a hook of the base class", "written first", "written 1st", HOOKS),
    ("the constructor", "self.made = 1", "self.made = 2", HOOKS),
    ("an annotation of the class", "width: int", "width: float", HOOKS),
    ("a new hook on top", "    @lm.enter", "    @lm.build()\n    def x(self): 1\n\n    @lm.enter",
     ("x()",)),
    ("a hook that is no build hook any more", "    @lm.build()\n    def first",
     "    @lm.enter()\n    def first", UPPER),
]  # fmt: skip


@dataclass
class Notebook:
    """Runs cells as a notebook does, and notes which steps of images run."""

    app: lm.App
    options: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)  # of the cells before this one

    def run(self, cell: str, image: lm.Image | None = None, **options: Any) -> list[str]:
        """What the image that the cell asks for has in its files; `ran` says what was done."""
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(cell, namespace)
        self.notices += [one for one in self.events if isinstance(one, Notice)]
        self.events.clear()
        model = self.app.cls(**self.options, image=image, **options)(namespace["Model"])
        baked: list[str] = model().baked.remote()
        return baked

    @property
    def ran(self) -> tuple[str, ...]:
        """The hooks that ran, after ``recipe`` if any step of it was done anew."""
        steps = [one for one in self.events if isinstance(one, BuildStep) and one.status == "done"]
        hooks = tuple(one.text for one in steps if one.text.endswith("()"))
        return hooks if len(hooks) == len(steps) else ("recipe", *hooks)


def open_notebook(name: str, engine: str) -> Iterator[Notebook]:
    app = lm.App(name, engine=engine)
    notebook = Notebook(app)
    unsubscribe = session.current().bus.subscribe(notebook.events.append)
    with app.run():
        yield notebook
    unsubscribe()


@pytest.fixture
def notebook(request: pytest.FixtureRequest) -> Iterator[Notebook]:
    yield from open_notebook(request.node.name, "process")


@pytest.fixture
def docker_notebook(
    request: pytest.FixtureRequest, need_docker: docker.DockerClient
) -> Iterator[Notebook]:
    yield from open_notebook(request.node.name, "docker")


def expected(cell: str, folder: Path) -> list[str]:
    """What the hooks of ``cell`` write, found by running them here."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(cell, namespace)
    before = os.getcwd()
    os.chdir(folder)
    try:
        model = namespace["Model"]()
        for hook in ("first", "fetch", "prepare"):
            getattr(model, hook)()
        written: list[str] = model.baked()
        return written
    finally:
        os.chdir(before)


def edited(old: str, new: str) -> str:
    assert CELL.count(old) == 1 or not old
    return CELL.replace(old, new, 1)


@pytest.mark.process
@pytest.mark.parametrize(("old", "new", "again"), [pytest.param(*e[1:], id=e[0]) for e in EDITS])
def test_an_edit_runs_again_what_depends_on_it_and_no_more(
    notebook: Notebook, old: str, new: str, again: tuple[str, ...], tmp_path: Path
) -> None:
    before = notebook.run(CELL)
    baked = notebook.run(edited(old, new))
    assert notebook.ran == again
    assert baked == expected(edited(old, new), tmp_path)
    assert notebook.run(CELL) == before
    assert notebook.ran == NOTHING


RECIPES: list[tuple[str, Callable[[lm.Image], lm.Image], tuple[str, ...]]] = [
    ("a command", lambda image: image.run_commands("echo 2 > made"), ALL),
    ("one more step", lambda image: image.run_commands("echo 1 > made").workdir("/w"), ALL),
    ("a variable", lambda image: image.run_commands("echo 1 > made").env({"A": "1"}), ALL),
    ("the same recipe again", lambda image: image.run_commands(["echo 1 > made"]), NOTHING),
]


@pytest.mark.process
@pytest.mark.parametrize(("recipe", "again"), [pytest.param(*r[1:], id=r[0]) for r in RECIPES])
def test_an_edit_of_the_recipe_runs_everything_above_it_again(
    notebook: Notebook, recipe: Callable[[lm.Image], lm.Image], again: tuple[str, ...]
) -> None:
    image = lm.Image.debian_slim()
    notebook.run(CELL, image.run_commands("echo 1 > made"))
    notebook.run(CELL, recipe(image))
    assert notebook.ran == again
    notebook.run(CELL, image.run_commands("echo 1 > made"))
    assert notebook.ran == NOTHING


@pytest.mark.process
@pytest.mark.usefixtures("need_mounts")
def test_an_added_file_counts_by_its_content(notebook: Notebook, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("1")
    image = lm.Image.debian_slim().add_local_file(file, "/data")
    notebook.run(CELL, image)
    os.utime(file, (1, 1))
    notebook.run(CELL, image)
    assert notebook.ran == NOTHING
    file.write_text("2")
    notebook.run(CELL, image)
    assert notebook.ran == ALL


@pytest.mark.process
@pytest.mark.parametrize(
    "options",
    [{"cpu": 1}, {"exit_grace": 3}, {"timeout": 100}],
    ids=lambda options: next(iter(options)),
)
def test_other_options_of_the_class_build_nothing(
    notebook: Notebook, options: dict[str, Any]
) -> None:
    notebook.run(CELL)
    notebook.run(CELL, **options)
    assert notebook.ran == NOTHING


@pytest.mark.process
def test_variables_and_names_of_secrets_run_the_hooks_again(notebook: Notebook) -> None:
    def token(value: str) -> list[lm.Secret]:
        return [lm.Secret.from_dict({"TOKEN": value})]

    notebook.run(CELL, env={"MODE": "1"})
    notebook.run(CELL, env={"MODE": "2"})
    assert notebook.ran == HOOKS
    notebook.run(CELL, env={"MODE": "1"})
    assert notebook.ran == NOTHING
    notebook.run(CELL, secrets=token("1"))
    assert notebook.ran == HOOKS
    notebook.run(CELL, secrets=token("2"))
    assert notebook.ran == NOTHING


FORCED = """
from pathlib import Path
from uuid import uuid4
import lifecycle_magic as lm
class Model:
    @lm.build()
    def bake(self):
        Path("baked").write_text(str(uuid4()))
    @lm.method()
    def baked(self):
        return [Path(name).read_text() for name in ("one", "two", "three", "baked")]
"""


@pytest.mark.docker
def test_a_forced_step_and_what_comes_after_it_run_again_with_every_build(
    docker_notebook: Notebook, need_docker: docker.DockerClient
) -> None:
    def command(name: str) -> str:
        return f"cat /proc/sys/kernel/random/uuid > {name}"

    mark = secrets.token_hex(8)
    name = f"lifecycle-magic-test/{mark}"
    a_base_with_the_label(need_docker, mark, "1").tag(name)
    base = lm.Image.from_registry(name).workdir("/w").run_commands(command("one"))
    plain = base.run_commands(command("two")).run_commands(command("three"))
    image = base.run_commands(command("two"), force_build=True).run_commands(command("three"))
    first = docker_notebook.run(FORCED, plain)
    second = docker_notebook.run(FORCED, image)
    assert docker_notebook.run(FORCED, image) == second  # it is at work: nothing is built
    third = docker_notebook.run(FORCED, image, cpu=1)
    for again in (second, third):
        assert again[0] == first[0]
        assert not {*again[1:]} & {*first[1:]}
    assert not {*second[1:]} & {*third[1:]}
    assert docker_notebook.run(FORCED, plain) == third
    docker_notebook.app.stop()
    remove_images(need_docker, mark)


@pytest.mark.docker
def test_a_forced_base_runs_every_step_again_and_a_forced_dockerfile_every_instruction(
    docker_notebook: Notebook, need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    made = "cat /proc/sys/kernel/random/uuid > one && cp one two && cp one three"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {lm.Image.debian_slim().reference}\nLABEL {mark}=1\nWORKDIR /w\nRUN {made}\n"
    )
    name = f"lifecycle-magic-test/{mark}"
    a_base_with_the_label(need_docker, mark, "1").tag(name)
    for image in (
        lm.Image.from_registry(name, force_build=True).workdir("/w").run_commands(made),
        lm.Image.from_dockerfile(tmp_path / "Dockerfile", force_build=True),
    ):
        first = docker_notebook.run(FORCED, image)
        assert docker_notebook.run(FORCED, image) == first
        second = docker_notebook.run(FORCED, image, cpu=1)
        assert not {*first} & {*second}
    docker_notebook.app.stop()
    remove_images(need_docker, mark)


@pytest.mark.docker
def test_another_base_image_runs_every_hook_again_and_the_former_one_none(
    docker_notebook: Notebook, need_docker: docker.DockerClient
) -> None:
    mark = secrets.token_hex(8)
    name = f"lifecycle-magic-test/{mark}"
    bases = [a_base_with_the_label(need_docker, mark, number) for number in "12"]
    try:
        bases[0].tag(name)
        docker_notebook.run(CELL, lm.Image.from_registry(name))
        assert docker_notebook.ran == HOOKS
        bases[1].tag(name)
        docker_notebook.run(CELL, lm.Image.from_registry(name))
        assert docker_notebook.ran == HOOKS
        bases[0].tag(name)
        docker_notebook.run(CELL, lm.Image.from_registry(name))
        assert docker_notebook.ran == NOTHING
    finally:
        docker_notebook.app.stop()
        remove_images(need_docker, mark)


ENTERS = """
from uuid import uuid4
import lifecycle_magic as lm
class Model:
    @lm.enter()
    def load(self):
        self.made = str(uuid4())
    @lm.method()
    def baked(self):
        return [self.made]
"""


@pytest.mark.docker
def test_who_takes_back_another_base_that_did_not_come_up_finds_the_same_instance(
    docker_notebook: Notebook, need_docker: docker.DockerClient
) -> None:
    mark = secrets.token_hex(8)
    names = [f"lifecycle-magic-test/{mark}-{number}" for number in "12"]
    try:
        for name in names:
            a_base_with_the_label(need_docker, mark, name[-1]).tag(name)
        first = docker_notebook.run(ENTERS, lm.Image.from_registry(names[0]))
        failing = ENTERS.replace("str(uuid4())", "1 / 0")
        with pytest.raises(ZeroDivisionError):
            docker_notebook.run(failing, lm.Image.from_registry(names[1]))
        assert docker_notebook.run(ENTERS, lm.Image.from_registry(names[0])) == first
    finally:
        docker_notebook.app.stop()
        remove_images(need_docker, mark)


WHERE = """
import os
import lifecycle_magic as lm
class Model:
    @lm.method()
    def baked(self):
        return [os.environ["BASE"]]
"""


@pytest.mark.docker
def test_a_base_image_of_another_name_runs_in_new_containers_and_the_former_one_again(
    docker_notebook: Notebook, need_docker: docker.DockerClient
) -> None:
    mark = secrets.token_hex(8)
    # A patch release that there will never be.
    images = [
        lm.Image.from_registry(f"lifecycle-magic-test/{mark}-1"),
        lm.Image.from_registry(f"lifecycle-magic-test/{mark}-2"),
        lm.Image.debian_slim(f"{lm.Image.debian_slim().python}.{int(mark, 16)}"),
    ]
    try:
        for number, image in enumerate(images, 1):
            a_base_with_the_label(need_docker, mark, str(number)).tag(image.reference)
        for number in (1, 2, 3, 1):
            assert docker_notebook.run(WHERE, images[number - 1]) == [str(number)]
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(WHERE, namespace)
        model = docker_notebook.app.cls(image=images[0])(namespace["Model"])
        variants = [model.with_options(image=image) for image in images]
        assert [one().baked.remote() for one in variants] == [["1"], ["2"], ["3"]]
    finally:
        docker_notebook.app.stop()
        remove_images(need_docker, mark)


def a_base_with_the_label(client: docker.DockerClient, mark: str, number: str) -> Any:
    """An image like the default one; everything built on it has the label too."""
    container = client.containers.create(f"python:{lm.Image.debian_slim().python}-slim", ["true"])
    try:
        return container.commit(changes=[f"LABEL {mark}={number}", f"ENV BASE={number}"])
    finally:
        container.remove()


def remove_images(client: docker.DockerClient, label: str) -> None:
    """Remove the images with a label, those that others are built on last."""
    while found := docker_images.ids(client, all=True, label=label):
        for one in found:
            docker_images.remove(client, one)


@pytest.mark.kernel
def test_two_fresh_kernels_with_the_same_cell_build_it_once(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mark = secrets.token_hex(8)
    if engine_name == "docker":
        client = request.getfixturevalue("need_docker")
        base, name = a_base_with_the_label(client, mark, "1"), f"lifecycle-magic-test/{mark}"
        base.tag(name)
        request.addfinalizer(lambda: remove_images(client, mark))
        image = f"lm.Image.from_registry({name!r}).run_commands('echo {mark} > /made')"
    else:
        image = f"lm.Image.debian_slim().run_commands('echo {mark} > made')"
    run = f"""
        from lifecycle_magic.session import session
        from lifecycle_magic.lifecycle.states import BuildStep
        events = []
        session.current().bus.subscribe(events.append)
        Model = lm.App().cls(Model, image={image})
        print(Model().baked.remote())
        print([one.text for one in events if isinstance(one, BuildStep) and one.status == "done"])
        """
    with (
        event_loop_of_this_thread(),
        own_kernel(tmp_path / "1") as one,
        own_kernel(tmp_path / "2") as two,
    ):
        for kernel in (one, two):
            kernel.run(CELL)
        cells = [kernel.begin(run) for kernel in (one, two)]
        told = [
            kernel.outcome(cell).strip().splitlines()
            for kernel, cell in zip((one, two), cells, strict=True)
        ]
    (baked, steps), (also_baked, other_steps) = told
    assert baked == also_baked
    done = [*ast.literal_eval(steps), *ast.literal_eval(other_steps)]
    assert sorted(step for step in done if step.endswith("()")) == sorted(HOOKS)
    assert sum(mark in step for step in done) == 1


def why(notebook: Notebook, name: str = "Model") -> list[str]:
    """What ``%lifecycle why`` says, without its head."""
    services = [one for one in session.current().services.values() if one.name == name]
    return [line.strip() for line in services[-1].build_reason().splitlines()[1:]]


@pytest.mark.process
def test_why_names_what_changed_and_what_that_runs_again(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cell = CELL.replace("class Model", f"# {tmp_path}\nclass Model")
    notebook.run(cell, lm.Image.debian_slim().run_commands("true 1"))
    notebook.run(
        cell.replace("LIMIT = 3", "LIMIT = 30"), lm.Image.debian_slim().run_commands("true 1")
    )
    assert why(notebook) == [
        "fetch() runs again: LIMIT changed",
        "prepare() runs again: it is built on fetch()",
    ]
    told = [one.text for one in notebook.events if isinstance(one, Notice)]
    assert told == why(notebook)  # in the card, before it is done
    notebook.run(cell, lm.Image.debian_slim().run_commands("true 1"))
    assert why(notebook)[-1] == "all layers exist from an earlier build"
    notebook.run(cell, lm.Image.debian_slim().run_commands("true 2"))
    assert why(notebook)[0] == "the recipe runs again: step 1, true 2, step 1, true 1 changed"
    assert why(notebook)[-1] == "prepare() runs again: it is built on the recipe"


@pytest.fixture
def open_as(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Goes on as the notebook with this path, as Jupyter Server tells a kernel."""

    def become(path: str) -> None:
        monkeypatch.setenv("JPY_SESSION_NAME", path)
        builds.notebook.cache_clear()

    yield become
    builds.notebook.cache_clear()


@pytest.mark.process
def test_why_does_not_mix_up_classes_of_one_name_in_two_notebooks(
    notebook: Notebook, open_as: Callable[[str], None]
) -> None:
    open_as("one.ipynb")
    notebook.run(CELL)
    open_as("two.ipynb")
    other = WHERE.replace("def baked", "def other").replace("method", "build") + (
        "    @lm.method()\n    def baked(self): return []\n"
    )
    notebook.run(other.replace('os.environ["BASE"]', "1"))
    assert why(notebook)[0] == "this is its first build"
    open_as("one.ipynb")
    notebook.run(CELL.replace("LIMIT = 3", "LIMIT = 30"))
    assert why(notebook)[0] == "fetch() runs again: LIMIT changed"


@pytest.mark.docker
def test_why_only_looks(
    docker_notebook: Notebook, need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    name = f"lifecycle-magic-test/{mark}"
    base = a_base_with_the_label(need_docker, mark, "1")
    base.tag(name)
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM {name}\n")
    try:
        docker_notebook.run(WHERE, lm.Image.from_registry(name))
        need_docker.images.remove(name)
        assert why(docker_notebook) == [
            f"the base image {name} is pulled: this version is not here"
        ]
        base.tag(name)
        docker_notebook.run(WHERE, lm.Image.from_dockerfile(file))
        file.write_text(f"FROM {name}\nENV A=1\n")
        docker_notebook.events.clear()
        assert any("Dockerfile is built" in line for line in why(docker_notebook))
        assert not any(isinstance(event, BuildStep) for event in docker_notebook.events)
    finally:
        docker_notebook.app.stop()
        remove_images(need_docker, mark)


@pytest.mark.process
def test_what_can_not_be_fingerprinted_is_named_once(notebook: Notebook) -> None:
    cell = CELL.replace("UNUSED = 1", "TOO_LARGE = [(i, str(i)) for i in range(200_000)]")
    cell = cell.replace("(LIMIT,", "(LIMIT, len(TOO_LARGE), eval(str('LIMIT')),")
    notebook.run(cell)
    notebook.run(cell.replace("return [Path", "return 1 and [Path"))
    notebook.run(CELL)
    told = [one for one in notebook.notices if one.level == "warning"]
    assert [one.text.partition(" can't")[0] for one in told] == [
        "changes of what Model.fetch() reads with eval(), TOO_LARGE"
    ]
