"""The list of Modal's API, walked: each name looked up, each keyword given, each verdict held."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import io
import json
import pickle
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from handle_state import spec_of

import lifecycle_magic as lm
from lifecycle_magic import modal_modules
from lifecycle_magic.callers import many_calls as maps
from lifecycle_magic.decorators.http_server import http_server
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.modal_api import names, table
from lifecycle_magic.modal_api.entries import ApiEntry, Verdict
from lifecycle_magic.spec.options import Options
from lifecycle_magic.ui.cli.main import _parser
from lifecycle_magic.ui.cli.run_options import notice_ignored

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "guides" / "modal.md"
BEGIN, END = "<!-- the table of modal_api -->\n", "<!-- end of the table -->\n"
SHOWN = {
    "runs": "runs",
    "renamed": "runs, with one warning",
    "ignored": "does nothing",
    "refused": "refused",
}

ENTRIES = [one for part in table.sections() for one in part.entries]
COMMANDS = ("lifecycle-magic", "run", "serve", "deploy", "shell", "app", "app logs", "secret")
COMMANDS = (*COMMANDS, "volume", "queue", "dict")

app = lm.App("walked", tags={"team": "a"})


@app.cls()
class Model:
    @lm.method()
    def get(self) -> int:
        return 1


@app.function()
def double(x: int) -> int:
    return 2 * x


def call() -> lm.FunctionCall[int]:
    done: Future[int] = Future()
    done.set_result(1)
    return lm.FunctionCall(done, "double")


def of_old(name: str, *args: Any) -> Any:
    """Return an object of a class that Modal had before, which warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(lm, name)
        return found(*args) if args else found


IMAGE = lm.Image.debian_slim()
OBJECTS: dict[str, Any] = {
    "App": app,
    "Cls": Model,
    "Obj": Model(),
    "Server": lm.Server,
    "Function": double,
    "FunctionCall": call(),
    "Image": IMAGE,
    "Mount": of_old("Mount"),
    "NetworkFileSystem": of_old("NetworkFileSystem"),
    "Stub": of_old("Stub", "walked"),
    "Volume": lm.Volume.from_name("walked"),
    "Secret": lm.Secret.from_name("walked"),
    "Queue": lm.Queue.from_name("walked"),
    "Dict": lm.Dict.from_name("walked"),
}


def above(decorator: Callable[..., Any]) -> Callable[..., Any]:
    def declare(**given: Any) -> None:
        def method(self: Any) -> None: ...

        def factory() -> None: ...

        is_factory = decorator in (lm.asgi_app, lm.wsgi_app, serve)
        decorator(**given)(factory if is_factory else method)

    return declare


def declare(**options: Any) -> None:
    class Declared:
        @lm.method()
        def get(self) -> int:
            return 1

    lm.App().cls(**options)(Declared)


def serve(**given: Any) -> Any:
    return lm.web_server(**{"port": 80} | given)


def create_volume(**given: Any) -> None:
    with contextlib.suppress(InvalidError):  # of the name: no volume is made
        lm.Volume.objects.create("", **given)


def project() -> str:
    return str(HERE / "modal_project")


# Where a keyword is given: the function, with the arguments that it needs besides.
CALLS: dict[str, Callable[..., Any]] = {
    "options": lambda **k: declare(**k),
    "*": lambda **k: lm.Volume.from_name("walked", **k),
    "enter": above(lm.enter),
    "method": above(lm.method),
    "batched": above(lambda **k: lm.batched(**{"max_batch_size": 2, "wait_ms": 1} | k)),
    "concurrent": above(lambda **k: lm.concurrent(**{"max_inputs": 2} | k)),
    "parameter": lambda **k: lm.parameter(**k),
    "build": above(lm.build),
    "fastapi_endpoint": above(lm.fastapi_endpoint),
    "asgi_app": above(lm.asgi_app),
    "wsgi_app": above(lm.wsgi_app),
    "web_server": above(serve),
    "http_server": lambda **k: http_server(8000, **k),
    "App.run": lambda **k: app.run(**k),
    "App.include": lambda **k: lm.App().include(lm.App(), **k),
    "App.server": lambda **k: app.server(**k),
    "Cls.from_name": lambda **k: lm.Cls.from_name("walked", "Model", **k),
    "Cls.with_batching": lambda **k: Model.with_batching(  # type: ignore[attr-defined]
        **{"max_batch_size": 2, "wait_ms": 1} | k
    ),
    "Cls.with_concurrency": lambda **k: Model.with_concurrency(  # type: ignore[attr-defined]
        **{"max_inputs": 2} | k
    ),
    "Function.from_name": lambda **k: lm.Function.from_name("walked", "double", **k),
    "Function.map": lambda **k: maps._map([], **k),
    "Function.starmap": lambda **k: maps._starmap([], **k),
    "FunctionCall.get": lambda **k: call().get(**k),
    "FunctionCall.cancel": lambda **k: call().cancel(**k),
    "Volume.from_name": lambda **k: lm.Volume.from_name("walked", **k),
    "Volume.with_mount_options": lambda **k: lm.Volume.ephemeral().with_mount_options(**k),
    "Volume.ephemeral": lambda **k: lm.Volume.ephemeral(**k),
    "Volume.read_file_into_fileobj": lambda **k: lm.Volume.from_path(HERE).read_file_into_fileobj(
        "modal_1_6.json", io.BytesIO(), **k
    ),
    "Secret.objects.list": lambda **k: lm.Secret.objects.list(**k),
    "Volume.objects.create": lambda **k: create_volume(**k),
    "Volume.objects.list": lambda **k: lm.Volume.objects.list(**k),
    "Secret.from_name": lambda **k: lm.Secret.from_name("walked", **k),
    "Queue.objects.list": lambda **k: lm.Queue.objects.list(**k),
    "Dict.objects.list": lambda **k: lm.Dict.objects.list(**k),
    "Queue.from_name": lambda **k: lm.Queue.from_name("walked", **k),
    "Dict.from_name": lambda **k: lm.Dict.from_name("walked", **k),
    "Image.debian_slim": lambda **k: lm.Image.debian_slim(**k),
    "Image.from_registry": lambda **k: lm.Image.from_registry("debian", **k),
    "Image.from_dockerfile": lambda **k: lm.Image.from_dockerfile(f"{project()}/Dockerfile", **k),
    "Image.pip_install": lambda **k: IMAGE.pip_install("six", **k),
    "Image.uv_pip_install": lambda **k: IMAGE.uv_pip_install("six", **k),
    "Image.pip_install_from_requirements": lambda **k: IMAGE.pip_install_from_requirements(
        f"{project()}/requirements.txt", **k
    ),
    "Image.pip_install_from_pyproject": lambda **k: IMAGE.pip_install_from_pyproject(
        f"{project()}/pyproject.toml", **k
    ),
    "Image.uv_sync": lambda **k: IMAGE.uv_sync(**{"uv_project_dir": project()} | k),
    "Image.poetry_install_from_file": lambda **k: IMAGE.poetry_install_from_file(
        f"{project()}/pyproject.toml", **{"ignore_lockfile": True} | k
    ),
    "Image.apt_install": lambda **k: IMAGE.apt_install("git", **k),
    "Image.run_commands": lambda **k: IMAGE.run_commands("true", **k),
    "Image.run_function": lambda **k: IMAGE.run_function(project, **k),
    "Image.dockerfile_commands": lambda **k: IMAGE.dockerfile_commands("RUN true", **k),
    "Image.micromamba_install": lambda **k: IMAGE.micromamba_install("six", **k),
    "Image.add_local_dir": lambda **k: IMAGE.add_local_dir(project(), "/data", **k),
    "Image.add_local_file": lambda **k: IMAGE.add_local_file(__file__, "/data/x", **k),
    "Image.add_local_python_source": lambda **k: IMAGE.add_local_python_source("json", **k),
    "Image.*": lambda **k: table.check_keywords("Image.env", k),
}

# What a keyword is given; True for those that are not here.
VALUES: dict[str, Any] = {
    "name": "walked",
    "image": IMAGE,
    "env": {"A": "1"},
    "secrets": [lm.Secret.from_dict({"A": "1"})],
    "volumes": {"/data": lm.Volume.from_name("walked")},
    "cpu": 0.1,
    "memory": 16,
    "gpu": "any",
    "timeout": 9,
    "startup_timeout": 9,
    "retries": 1,
    "min_containers": 1,
    "max_containers": 1,
    "buffer_containers": 1,
    "scaledown_window": 9,
    "max_batch_size": 3,
    "wait_ms": 3,
    "max_inputs": 3,
    "max_objects": 3,
    "target_inputs": 2,
    "default": 3,
    "method": "POST",
    "label": "walked",
    "port": 81,
    "kwargs": {},
    "required_keys": ["A"],
    "python_version": "3.12",
    "add_python": "3.12",
    "context_dir": project(),
    "setup_dockerfile_commands": ["RUN true"],
    "build_args": {"A": "1"},
    "find_links": "https://example.org/links",
    "index_url": "https://example.org/simple",
    "extra_index_url": "https://example.org/simple",
    "extra_options": "--no-deps",
    "requirements": [f"{project()}/requirements.txt"],
    "optional_dependencies": ["more"],
    "uv_project_dir": project(),
    "groups": ["test"],
    "extras": ["more"],
    "args": (),
    "context_files": {},
    "ignore": ["*.tmp"],
    "spec_file": f"{project()}/requirements.txt",
    "channels": ["conda-forge"],
    "poetry_lockfile": f"{project()}/poetry.lock",
    "with_": ["test"],
    "without": ["test"],
    "only": ["test"],
    "poetry_version": "1.8",
    "wait_for_response": False,
    "keep_warm": True,
    "concurrency_limit": 2,
    "container_idle_timeout": 60,
    "mounts": [],
    "secret": lm.Secret.from_dict({"A": "1"}),
    "network_file_systems": {"/data": lm.Volume.from_name("walked")},
    "shared_volumes": {"/data": lm.Volume.from_name("walked")},
    "allow_concurrent_inputs": 3,
}
VALUES_OF = {
    ("options", "max_inputs"): 1,
    ("Image.run_function", "kwargs"): {},
    ("FunctionCall.get", "index"): 0,
    ("Image.run_function", "mounts"): [of_old("Mount")()],
    ("parameter", "init"): False,
}


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let each test get the notices that a process gets once, and a state folder of its own."""
    monkeypatch.setattr(table, "_noticed", set())
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))


def walked(of: str, *verdicts: Verdict) -> Any:
    """Parametrize a test with the keywords, attributes, module names or commands of the list."""

    def kind(one: ApiEntry) -> str:
        if one.owner in COMMANDS:
            return "commands"
        if one.name.endswith("="):
            return "keywords"
        return "modules" if one.owner.startswith("modal.") else "attributes"

    chosen = [one for one in ENTRIES if kind(one) == of and one.verdict in verdicts]
    assert chosen
    return pytest.mark.parametrize("entry", chosen, ids=lambda one: f"{one.owner}-{one.name}")


def holder(entry: ApiEntry) -> Any:
    """Return what has an attribute of the list."""
    return lm if entry.owner == "modal" else OBJECTS[entry.owner]


@walked("attributes", "runs", "renamed")
def test_a_name_that_runs_is_there(entry: ApiEntry) -> None:
    there = holder(entry)
    assert hasattr(type(there), entry.name) or hasattr(there, entry.name)


@walked("attributes", "refused")
def test_a_name_that_is_refused_says_what_to_write(entry: ApiEntry) -> None:
    if entry.owner == "modal":
        check_refused(getattr(lm, entry.name), entry.note)
        return
    assert not hasattr(holder(entry), entry.name)
    with pytest.raises(AttributeError) as raised:
        getattr(holder(entry), entry.name)
    said = str(raised.value)
    assert said.startswith("Modal has ")
    assert "Fix: " in said
    assert entry.note in said
    assert isinstance(raised.value, InvalidError)
    if entry.owner in lm.__all__ and entry.owner != "FunctionCall":
        with pytest.raises(InvalidError, match=re.escape(entry.note)):
            getattr(getattr(lm, entry.owner), entry.name)


@walked("modules", "runs", "renamed")
def test_a_name_of_a_module_that_runs_is_there(entry: ApiEntry) -> None:
    module = importlib.import_module(entry.owner.replace("modal", "lifecycle_magic", 1))
    assert hasattr(module, entry.name)
    exec(f"from {module.__name__} import {entry.name}")


@walked("modules", "refused")
def test_a_name_of_a_module_that_is_refused_says_what_to_write(entry: ApiEntry) -> None:
    module = importlib.import_module(entry.owner.replace("modal", "lifecycle_magic", 1))
    if entry.owner != "modal.exception":
        check_refused(getattr(module, entry.name), entry.note)
        return
    with pytest.raises(AttributeError, match=re.escape(entry.note)):
        getattr(module, entry.name)
    with pytest.raises(ImportError):
        exec(f"from {module.__name__} import {entry.name}")


def check_refused(there: Any, note: str) -> None:
    """Check what stands for a refused name: it can be imported and annotated with, and no more."""
    exec(f"from {there.__module__} import {there.__name__}")
    assert typing.get_type_hints(annotated(there)) == {"x": there, "y": there | None}
    assert pickle.loads(pickle.dumps(there)) is there
    assert not hasattr(there, "create")
    uses: list[Callable[[], object]] = [
        there,
        lambda: there.create,
        lambda: there["a"],
        lambda: list(there),
        lambda: there.__enter__(),
        lambda: type("Mine", (there,), {}),
    ]
    for use in uses:
        with pytest.raises(InvalidError, match=re.escape(note)) as raised:
            use()
        assert str(raised.value).startswith("Modal has ")
        assert "Fix: " in str(raised.value)


def annotated(there: Any) -> Callable[..., None]:
    def f(x: Any, y: Any) -> None: ...

    f.__annotations__ = {"x": there, "y": there | None}
    return f


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, some in names.OF_MODULE.items() for name in some.split()],
)
def test_a_name_for_annotations_of_a_module_with_nothing_here_can_be_imported(
    module: str, name: str
) -> None:
    found = getattr(importlib.import_module(f"lifecycle_magic.{module}"), name)
    entry = table.find("modal", name)
    check_refused(found, entry.note if entry is not None else names.INSTEAD_OF_MODULE[module])


@pytest.mark.parametrize("name", sorted(names.INSTEAD_OF_MODULE))
def test_any_name_of_a_module_with_nothing_here_says_what_to_write(name: str) -> None:
    module = importlib.import_module(f"lifecycle_magic.{name}")
    with pytest.raises(AttributeError, match=re.escape(names.INSTEAD_OF_MODULE[name])):
        module.anything  # noqa: B018


def give(entry: ApiEntry) -> list[str]:
    """Give a keyword twice, as one process does, and return the notices."""
    name = entry.name.removesuffix("=")
    value = VALUES_OF.get((entry.owner, name), VALUES.get(name, True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            CALLS[entry.owner](**{name: value})
    return [str(one.message) for one in caught]


@walked("keywords", "runs")
def test_a_keyword_that_runs_is_taken_without_a_notice(entry: ApiEntry) -> None:
    assert give(entry) == []


@walked("keywords", "renamed")
def test_an_old_keyword_runs_and_gives_one_warning(entry: ApiEntry) -> None:
    [said] = give(entry)
    said = said.removeprefix(f"{entry.owner}(").replace("=)", "=")
    assert said == f"{entry.name} is an old spelling: write {entry.note}"


@walked("keywords", "ignored")
def test_a_keyword_that_does_nothing_gives_one_notice(entry: ApiEntry) -> None:
    [said] = give(entry)
    assert entry.name[:-1] in said
    assert f"does nothing here: {entry.note}" in said


@walked("keywords", "refused")
def test_a_keyword_that_is_refused_says_what_to_write(entry: ApiEntry) -> None:
    with pytest.raises(InvalidError) as raised:
        give(entry)
    assert entry.note in str(raised.value)
    assert entry.name[:-1] in str(raised.value)


# --- the command line ----------------------------------------------------------------------------


def words(entry: ApiEntry) -> list[str]:
    """Return a command line that has an option or subcommand of the list."""
    if entry.owner == "lifecycle-magic":
        return [entry.name, "--help"]
    if not entry.name.startswith("-"):
        return [entry.owner, entry.name, "--help"]
    takes = ("-w", "--write-result", "-e", "--env", "--profile", "--name", "--tag", "--strategy")
    takes = (*takes, "-n", "--tail", "-c", "--cmd", "--timeout", "--image", "--add-python")
    takes = (*takes, "--volume", "--secret", "--cpu", "--memory", "--gpu")
    value = ["3"] if entry.name in takes else []
    return [*entry.owner.split(), entry.name, *value, "target"]


@walked("commands", "runs")
def test_a_command_or_option_that_runs_is_taken(
    entry: ApiEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    helps = words(entry)[-1] == "--help"
    with pytest.raises(SystemExit) if helps else contextlib.nullcontext() as left:
        notice_ignored(_parser().parse_args(words(entry)))
    told = capsys.readouterr()
    assert told.err == ""
    assert left is None or left.value.code == 0


@walked("commands", "ignored")
def test_an_option_that_does_nothing_gives_one_notice(
    entry: ApiEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    notice_ignored(_parser().parse_args(words(entry)))
    [said] = capsys.readouterr().err.splitlines()
    assert f"does nothing here: {entry.note}" in said


@walked("commands", "refused")
def test_a_command_that_is_refused_says_what_to_run(
    entry: ApiEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        _parser().parse_args(words(entry))
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "Modal has" in said
    assert entry.note in said


# --- completeness --------------------------------------------------------------------------------


def modal() -> Iterator[tuple[str, str]]:
    """Yield the owners and names of the public API of Modal 1.6, keywords with ``=``."""
    everything = json.loads((HERE / "modal_1_6.json").read_text())
    for name, members in everything.items():
        if name.startswith("__") or name in modal_modules.MODULES:
            continue
        yield "modal", name
        for member, keywords in members.items():
            if member:
                yield name, member
            where = f"{name}.{member}" if member else name
            where = "options" if member in ("cls", "function", "with_options") else where
            for keyword in keywords:
                yield where, f"{keyword}="


def test_every_name_of_modals_api_is_in_the_list() -> None:
    unknown = [pair for pair in modal() if not is_known(*pair)]
    assert unknown == []


def is_known(owner: str, name: str) -> bool:
    """Return whether a name is in the list, or a parameter of the function of the same name."""
    if table.find(owner, name) is not None:
        return True
    if owner == "App.server" and table.find("options", name) is not None:
        return True
    if not name.endswith("="):
        return False
    first, _, rest = owner.partition(".")
    entry = table.find(first, rest) if rest else table.find("modal", first)
    if entry is None or entry.verdict in ("refused", "renamed"):
        return entry is not None
    found: Any = getattr(OBJECTS[first], rest) if rest else getattr(lm, first)
    parameters = inspect.signature(found).parameters
    return name[:-1] in parameters or rest == "update_autoscaler"


def test_a_keyword_that_modal_has_not_either_is_an_error_with_the_nearest() -> None:
    with pytest.raises(InvalidError, match="did you mean create_if_missing"):
        lm.Volume.from_name("x", create_if_missin=True)
    with pytest.raises(InvalidError, match="has no option nonsense"):
        lm.Volume.ephemeral(nonsense=1)


def test_a_class_of_the_user_may_have_names_that_are_refused() -> None:
    @app.cls()
    class Own:
        lookup = 3
        stats = "own"

        @lm.method()
        def logs(self) -> int:
            return 1

        def keep_warm(self) -> int:
            return 2

    own: Any = Own
    assert (own.lookup, own.stats, own().stats) == (3, "own", "own")
    assert own().logs.remote is not None
    assert own().keep_warm.local() == 2


def is_explained(there: Any, name: str) -> bool:
    """Return whether an attribute is there, or its error says what to write instead."""
    try:
        getattr(there, name)
    except (AttributeError, lm.Error) as error:
        return "Fix: " in str(error)
    return True


@pytest.mark.parametrize(
    ("owner", "handle"),
    [
        ("Cls", lm.Cls.from_name("walked-elsewhere", "Model")),
        ("Function", lm.Function.from_name("walked-elsewhere", "double")),
        ("Function", lm.Cls.from_name("walked-elsewhere", "Model")().get),
    ],
    ids=["class", "function", "method"],
)
def test_a_handle_by_name_has_each_name_of_modal_or_says_what_to_write(
    owner: str, handle: Any
) -> None:
    for name in table.notes(owner, "runs", "renamed", "refused"):
        if name not in ("from_name", "lookup"):
            assert is_explained(handle, name), name


def test_options_of_an_instance_by_name_are_of_its_session() -> None:
    named = lm.Cls.from_name("walked-elsewhere", "Model")()
    with pytest.raises(InvalidError, match="the session that serves it chooses its options"):
        named.update_autoscaler(min_containers=1)


MEMBERS = json.loads((HERE / "modal_before.json").read_text())


@pytest.mark.parametrize("owner", sorted(MEMBERS))
def test_a_name_that_modal_had_before_is_here_or_says_what_to_write(owner: str) -> None:
    there = lm if owner == "modal" else OBJECTS[owner]
    for name in MEMBERS[owner]:
        assert is_explained(there, name), name


# --- old forms -----------------------------------------------------------------------------------


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
def test_a_stub_keeps_objects_as_attributes_and_items() -> None:
    jobs = lm.Queue.from_name("jobs")
    stub = of_old("Stub")("old", results=lm.Dict.from_name("results"))
    stub.jobs = jobs
    stub["more"] = jobs
    stub.image = IMAGE
    assert (stub["jobs"], stub.more, stub["image"]) == (jobs, jobs, IMAGE)
    assert stub["results"] == stub.results == lm.Dict.from_name("results")
    with pytest.raises(KeyError):
        stub["nothing"]
    with pytest.raises(InvalidError, match="a stub has a run of its own"):
        stub["run"] = jobs
    with pytest.raises(InvalidError, match="no option nonsense"):
        of_old("Stub")(nonsense=1)


@pytest.mark.usefixtures("quiet")
def test_a_stub_declares_endpoints_with_one_decorator() -> None:
    stub = of_old("Stub")("old")

    @stub.webhook(method="POST", cpu=2)
    def hook(x: int) -> int:
        return x

    @stub.webhook
    def plain() -> int:
        return 1

    @stub.asgi()
    def application() -> Any: ...

    @stub.wsgi(label="here")
    def other() -> Any: ...

    specs = {name: spec_of(one) for name, one in stub.registered_functions.items()}
    marks = {name: one.methods["call"].web for name, one in specs.items()}
    assert [(one.kind, one.label) for one in marks.values()] == [
        ("fastapi_endpoint", None),
        ("fastapi_endpoint", None),
        ("asgi_app", None),
        ("wsgi_app", "here"),
    ]
    assert (marks["hook"].method, specs["hook"].options.cpu) == ("POST", 2)


@pytest.mark.usefixtures("quiet")
def test_former_options_and_images_mean_the_current_ones() -> None:
    secret, volume = lm.Secret.from_name("walked"), lm.Volume.from_name("walked")
    assert of_old("DebianSlim", "3.12") == lm.Image.debian_slim("3.12")
    assert of_old("DockerhubImage", "debian") == lm.Image.from_registry("debian")
    before = IMAGE.run_function(project, secret=secret, shared_volumes={"/data": volume})
    [step] = before.steps
    assert step.options == {"secrets": [secret], "volumes": {"/data": volume}}  # type: ignore[attr-defined]

    @app.cls(gpu=True, allow_concurrent_inputs=True)
    class Old:
        @lm.enter(checkpoint=False)
        def last(self) -> None: ...

        @lm.enter(checkpoint=True)
        def first(self) -> None: ...

        @lm.method()
        def get(self) -> int:
            return 1

    spec = spec_of(Old)
    assert (spec.enter, spec.max_inputs) == (("first", "last"), 1)
    assert spec.options.gpu_requests() == Options.make("Old", gpu="any").gpu_requests()


def test_a_call_has_one_input() -> None:
    one = call()
    assert (one.num_inputs(), list(one.iter()), one.get(index=0)) == (1, [1], 1)
    assert list(one.iter(start=1)) == list(one.iter(start=0, end=0)) == []
    for wrong in (lambda: list(one.iter(end=2)), lambda: one.get(index=1)):
        with pytest.raises(ValueError, match="for 1 input"):
            wrong()

    async def use() -> list[int]:
        assert await one.num_inputs.aio() == 1
        assert await one.hydrate.aio() is one
        return [value async for value in one.iter.aio()]

    assert asyncio.run(use()) == [1]


def test_what_modal_has_for_coroutines_is_here_for_them() -> None:
    for owner, some in {
        "App": "lookup run stop get_tags set_tags",
        "Cls": "hydrate",
        "Obj": "update_autoscaler",
        "Function": "hydrate update_autoscaler get_web_url get_current_stats remote spawn_map",
        "FunctionCall": "get iter num_inputs cancel from_id gather hydrate",
        "Image": "build hydrate",
        "Volume": "hydrate commit reload listdir iterdir batch_upload rename",
        "Secret": "hydrate",
        "Queue": "hydrate put get len clear iterate",
        "Dict": "hydrate put get len clear keys",
    }.items():
        for name in some.split():
            assert hasattr(getattr(OBJECTS[owner], name), "aio"), (owner, name)
    for objects in (lm.Volume.objects, lm.Secret.objects, lm.Queue.objects, lm.Dict.objects):
        for name in ("list", "create", "delete"):
            assert hasattr(getattr(objects, name), "aio")


def test_a_server_by_name_asks_the_session_that_serves_it() -> None:
    server = lm.Server.from_name("walked-elsewhere", "Files")
    with pytest.raises(NotFoundError, match="no session of this user serves"):
        server.get_urls()


def test_former_ways_to_call_warn_when_they_are_called() -> None:
    @app.function()
    @lm.fastapi_endpoint()
    def page() -> int:
        return 1

    old: Any = page
    assert (old.call.__name__, old.submit.__name__) == ("call", "submit")
    with (
        pytest.warns(UserWarning, match=r"Function\.call is an old spelling: write \.remote"),
        pytest.raises(InvalidError, match="HTTP"),
    ):
        old.call()
    with pytest.warns(UserWarning, match=r"Cls\.remote is an old spelling: write Model"):
        assert repr(Model.remote()) == repr(Model())  # type: ignore[attr-defined]


def test_no_name_is_in_the_list_twice() -> None:
    pairs = [(one.owner, one.name) for one in ENTRIES]
    assert sorted(pairs) == sorted(set(pairs))


# --- what the list made possible -----------------------------------------------------------------


def test_secrets_are_listed_stored_and_removed_in_python() -> None:
    lm.Secret.objects.create("token", {"A": "1"})
    assert [one.name for one in lm.Secret.objects.list()] == ["token"]
    with pytest.raises(InvalidError, match="stored already"):
        lm.Secret.objects.create("token", {"A": "2"})
    lm.Secret.objects.create("token", {"A": "2"}, allow_existing=True)
    assert lm.Secret.from_name("token").values() == {"A": "1"}
    lm.Secret.objects.delete("token")
    lm.Secret.objects.delete("token", allow_missing=True)
    with pytest.raises(NotFoundError, match="no secret 'token'"):
        lm.Secret.objects.delete("token")


def test_tags_of_an_app_are_read_set_and_inherited() -> None:
    one, other = lm.App("one", tags={"team": "a"}), lm.App("other", tags={"team": "b", "x": "1"})
    assert one.include(other).get_tags() == {"team": "a", "x": "1"}
    one.set_tags({"y": "2"})
    assert one.include(other, inherit_tags=False).get_tags() == {"y": "2"}


def test_hydrate_returns_the_object() -> None:
    for name in OBJECTS.keys() - {"App", "Obj", "Mount", "NetworkFileSystem", "Server", "Stub"}:
        one = OBJECTS[name]
        assert one.hydrate() is one


# --- the page ------------------------------------------------------------------------------------


def rendered() -> str:
    """Return the tables of the guide, made from the list."""
    lines: list[str] = []
    for part in table.sections():
        rows: dict[tuple[str, str], list[str]] = {}
        for one in part.entries:
            rows.setdefault((one.verdict, one.note), []).append(f"`{one.shown}`")
        lines += ["", f"### {part.title}", "", "| Modal | here | note |", "| --- | --- | --- |"]
        for (verdict, note), shown in rows.items():
            lines.append(f"| {', '.join(shown)} | {SHOWN[verdict]} | {note} |")
    return "\n".join(lines).strip() + "\n"


def test_the_guide_has_the_list() -> None:
    text = GUIDE.read_text()
    between = text.partition(BEGIN)[2].partition(END)[0]
    assert between.strip() == rendered().strip(), "run: make modal-table"


def write() -> None:
    """Write the tables into the guide."""
    before, _, rest = GUIDE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    GUIDE.write_text(f"{before}{BEGIN}\n{rendered()}\n{END}{after}")


if __name__ == "__main__":
    write()
