"""Names and options of Modal: those that work, those that do nothing, those that are refused."""

from __future__ import annotations

import importlib
import stat
import warnings
from pathlib import Path
from typing import Any

import pytest
from handle_state import spec_of

import lifecycle_magic as lm
from lifecycle_magic import modal_modules
from lifecycle_magic.decorators.parameters import parameter
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host import secret_store
from lifecycle_magic.modal_api import table
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.ui.cli.main import main


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize("name", sorted(modal_modules.MODULES))
def test_a_module_of_modal_is_imported_by_its_path(name: str) -> None:
    module = importlib.import_module(f"lifecycle_magic.{name}")
    assert getattr(lm, name) is module
    for inner in {*module.__all__} & {*lm.__all__}:
        assert getattr(module, inner) is getattr(lm, inner)
    with pytest.raises(AttributeError, match=rf"Modal has {name}.nonsense.*Fix: "):
        module.nonsense  # noqa: B018
    with pytest.raises(ImportError, match=rf"Modal has {name}.nonsense.*Fix: "):
        exec(f"from lifecycle_magic.{name} import nonsense")
    assert not hasattr(module, "__wrapped__")


def test_names_of_modules_that_are_here_are_the_same_objects() -> None:
    space: dict[str, Any] = {}
    exec(
        "from lifecycle_magic.functions import FunctionCall\n"
        "from lifecycle_magic.image import Image\n"
        "from lifecycle_magic.cls import parameter\n"
        "from lifecycle_magic.partial_function import method\n"
        "from lifecycle_magic.app import App\n"
        "from lifecycle_magic.sandbox import __doc__\n",
        space,
    )
    assert space["FunctionCall"] is lm.FunctionCall
    assert (space["Image"], space["App"]) == (lm.Image, lm.App)
    assert (space["parameter"], space["method"]) == (lm.parameter, lm.method)
    exec("from lifecycle_magic.sandbox import Sandbox", space)
    assert space["Sandbox"] is lm.Sandbox  # type: ignore[attr-defined]
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lifecycle_magic\.nonsense'"):
        importlib.import_module("lifecycle_magic.nonsense")


def test_the_old_objects_for_gpus_are_strings() -> None:
    gpu: Any = importlib.import_module("lifecycle_magic.gpu")
    assert (gpu.A100(), gpu.Any(count=2)) == ("A100", "any:2")
    assert gpu.A100(size="80GB", count=4) == gpu.A100(memory=80, count=4) == "A100-80GB:4"
    assert Options.make("Model", gpu=gpu.H100(count=2)).gpu == "H100:2"


def test_a_name_that_no_app_has_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="'App' object has no attribute 'nonsense'"):
        lm.App().nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_a_name_of_nobody_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        lm.nonsense  # noqa: B018
    assert not hasattr(lm, "__wrapped__")


@pytest.mark.parametrize("name", sorted(table.notes("options", "ignored")))
def test_an_option_without_meaning_is_named_once_and_ignored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_noticed", set())
    with pytest.warns(UserWarning, match=f"{name}= does nothing here: ") as told:
        app = lm.App(**{name: "us-east"})  # type: ignore[arg-type]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @app.cls(**{name: "us-east"})  # type: ignore[call-overload]
        class Model:
            @lm.method()
            def get(self) -> int:
                return 1

        assert Options.make("Model", **{name: None}) == Options()
        assert Options.make("Model", **{name: "x"}) == Options()


@pytest.mark.parametrize(
    ("option", "value", "fix"),
    [
        ("schedule", "daily", "lifecycle-magic run script.py"),
        ("proxy", "mine", "HTTPS_PROXY"),
    ],
)
def test_an_option_that_can_not_work_says_what_to_write(
    option: str, value: object, fix: str
) -> None:
    with pytest.raises(InvalidError) as raised:
        Options.make("Model", **{option: value})
    assert fix in str(raised.value)
    assert Options.make("Model", **{option: None}) == Options()


@pytest.mark.parametrize(
    ("use", "result"),
    [
        ("Stub('x').name", "x"),
        ("isinstance(Stub('x'), App)", True),
        ("Volume.lookup('data')", lm.Volume.from_name("data")),
        ("Volume.persisted('data')", lm.Volume.from_name("data")),
        ("NetworkFileSystem.from_name('data')", lm.Volume.from_name("data")),
        ("NetworkFileSystem.persisted('data').name", "data"),
        ("repr(Secret.lookup('token'))", "Secret.from_name('token')"),
        ("Queue.lookup('q', create_if_missing=True)", lm.Queue.from_name("q")),
        ("repr(Dict.new())", "Dict.ephemeral()"),
        ("Mount.from_local_file('/a/b').add_local_file('/c').steps[1][1][1]", "/root/c"),
    ],
)
def test_an_old_name_runs_and_warns_once(
    use: str, result: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_noticed", set())
    names = ("Stub", "App", "Volume", "NetworkFileSystem", "Secret", "Queue", "Dict", "Mount")
    space = {name: getattr(lm, name) for name in names}
    with pytest.warns(UserWarning, match=r" is an old spelling: write ") as told:
        assert [eval(use, space) for _ in range(2)] == [result, result]
    assert len(told) == 1


def test_a_server_under_its_old_name_is_a_server() -> None:
    app = lm.App()
    with pytest.warns(UserWarning, match=r"write @app\.server\(port=\.\.\.\)"):

        @app._experimental_server(port=8000)
        class Files:
            @lm.enter()
            def start(self) -> None: ...

    assert app.registered_web_endpoints


def test_a_class_that_no_session_serves_is_not_found_by_its_old_name() -> None:
    for kind in (lm.Cls, lm.Function):
        with (
            pytest.warns(UserWarning, match=r"lookup is an old spelling"),
            pytest.raises(NotFoundError),
        ):
            kind.lookup("no-app", "Nothing")  # type: ignore[attr-defined]


def test_alternative_gpus_keep_their_order() -> None:
    assert Options.make("Model", gpu=["A100:2", "any"]).gpu == ("A100:2", "any")
    with pytest.raises(InvalidError, match="gpu"):
        Options.make("Model", gpu=["A100", 0])
    with pytest.raises(InvalidError, match="gpu"):
        Options.make("Model", gpu=[])


def test_target_inputs_alone_is_the_limit_too() -> None:
    @lm.concurrent(target_inputs=3)
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

    assert read_class(Model).max_inputs == 3


def test_enter_hooks_of_a_snapshot_run_first() -> None:
    class Model:
        size: str = parameter(default="s")

        @lm.enter()
        def second(self) -> None: ...

        @lm.enter(snap=True)
        def first(self) -> None: ...

        @lm.enter(snap=False)
        def third(self) -> None: ...

        @lm.method()
        def get(self) -> int:
            return 1

    assert read_class(Model).enter == ("first", "second", "third")


def test_an_app_has_tags_an_image_and_what_it_includes() -> None:
    image = lm.Image.debian_slim().env({"A": "1"})
    app, other = lm.App("one", tags={"team": "a"}), lm.App("two")
    app.image = image

    @app.function()
    def first() -> int:
        return 1

    @other.function()
    def second() -> int:
        return 2

    @other.local_entrypoint(name="start")
    def main() -> None: ...

    assert app.tags == {"team": "a"}
    assert app.image is image
    assert app.include(other) is app
    assert app.registered_entrypoints == {"start": main}
    declared = {name: spec_of(one) for name, one in app.registered_functions.items()}
    assert declared["first"].options.image is image
    assert declared["second"].options.image is None
    with pytest.raises(InvalidError, match="image"):
        app.image = "python:3.11"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Error", "Error"),
        ("InvalidError", "InvalidError"),
        ("NotFoundError", "NotFoundError"),
        ("RemoteError", "RemoteError"),
        ("FunctionTimeoutError", "MethodTimeout"),
        ("ExecutionError", "ContainerDied"),
        ("DeserializationError", "SerializationError"),
        ("InputCancellation", "InputCancelled"),
        ("ConnectionError", "EngineUnavailable"),
        ("ImageBuildError", "BuildError"),
    ],
)
def test_a_handler_for_an_exception_of_modal_catches_ours(theirs: str, ours: str) -> None:
    kind = getattr(lm.exception, theirs)
    with pytest.raises(kind):
        raise getattr(lm.exception, ours)("it happened")


def test_a_handler_for_an_error_that_only_a_cloud_has_never_runs() -> None:
    kind: Any = lm.exception.AuthError  # type: ignore[attr-defined]
    assert issubclass(kind, lm.Error)
    assert kind is lm.exception.AuthError  # type: ignore[attr-defined]
    for ours in lm.exception.__all__:
        assert not issubclass(getattr(lm.exception, ours), kind)


def test_time_limits_are_caught_by_the_name_of_modal() -> None:
    for ours in (lm.exception.MethodTimeout, lm.exception.StartTimeout):
        with pytest.raises(lm.exception.TimeoutError):
            raise ours("too long")


def test_the_base_of_all_errors_has_its_name_of_modal() -> None:
    assert lm.Error is lm.exception.Error


# --- secrets ---------------------------------------------------------------------------------


def test_a_stored_secret_is_read_when_a_container_starts(state: Path) -> None:
    secret = lm.Secret.from_name("hugging-face", required_keys=["HF_TOKEN"])
    assert repr(secret) == "Secret.from_name('hugging-face')"
    with pytest.raises(NotFoundError, match="secret create hugging-face HF_TOKEN="):
        secret.values()
    before = Options.make("Model", secrets=[secret]).key()
    secret_store.create("hugging-face", {"HF_TOKEN": "hunter2", "MORE": "x"})
    assert secret.values() == {"HF_TOKEN": "hunter2", "MORE": "x"}
    assert secret.names() == ("HF_TOKEN", "MORE")
    assert Options.make("Model", secrets=[secret]).key() != before
    [file] = (state / "secrets").glob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_stored_secret_without_a_required_key_is_refused() -> None:
    secret_store.create("token", {"A": "1"})
    secret = lm.Secret.from_name("token", required_keys=["A", "B"])
    with pytest.raises(NotFoundError, match="has no B"):
        secret.values()


def test_required_keys_of_a_secret_that_is_not_stored_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONLY_HERE", "7")
    with pytest.warns(UserWarning, match="none'. is not stored here: ONLY_HERE of this process"):
        lm.Secret.from_name("none", required_keys=["ONLY_HERE"]).values()
    assert lm.Secret.from_name("none", required_keys=["ONLY_HERE"]).values() == {"ONLY_HERE": "7"}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, 7])
def test_a_name_leads_to_no_other_file(name: str) -> None:
    with pytest.raises(InvalidError, match="can't be the name of a secret"):
        lm.Secret.from_name(name)


def test_secrets_are_made_listed_and_removed_in_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dotenv = tmp_path / "my.env"
    dotenv.write_text("C=3\n")
    assert main(["secret", "create", "token", "A=1", "B=x=y", "--from-dotenv", str(dotenv)]) == 0
    assert secret_store.read("token") == {"A": "1", "B": "x=y", "C": "3"}
    assert main(["secret", "list"]) == 0
    assert main(["secret", "create", "token", "A=hunter2"]) == 1
    assert main(["secret", "create", "token", "hunter2", "--force"]) == 1
    assert main(["secret", "create", "token", "A=2", "--force"]) == 0
    assert secret_store.read("token") == {"A": "2"}
    assert main(["secret", "delete", "token"]) == 0
    assert main(["secret", "delete", "token"]) == 1
    told = capsys.readouterr()
    assert "token  A, B, C" in told.out
    assert "hunter2" not in told.out + told.err
    assert "x=y" not in told.out + told.err


def test_a_damaged_secret_is_named(state: Path) -> None:
    secret_store.create("token", {"A": "1"})
    [file] = (state / "secrets").glob("*.json")
    file.write_text("[1]")
    with pytest.raises(InvalidError, match="the stored secret token is damaged"):
        lm.Secret.from_name("token").values()
