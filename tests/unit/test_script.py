"""Scripts for ``lifecycle-magic run``: what they run, their options, their errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli import script
from lifecycle_magic.ui.cli.entry_options import EntryArguments, parameters_of
from lifecycle_magic.ui.cli.entry_options import parse as parse_words
from lifecycle_magic.ui.cli.main_module import run_as_main, run_module_as_main
from lifecycle_magic.ui.cli.runnable import find

pytestmark = pytest.mark.every_python


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """`run_as_main` takes the place of ``__main__``, of the path and of the arguments."""
    main, path, arguments = sys.modules["__main__"], list(sys.path), list(sys.argv)
    yield
    sys.modules["__main__"], sys.path[:], sys.argv[:] = main, path, arguments


def parse(function: Callable[..., Any], words: list[str], prog: str) -> dict[str, Any]:
    return parse_words(parameters_of(function), words, prog).kwargs


def write(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


ONE = """
import lifecycle_magic as lm
app = lm.App()

@app.local_entrypoint()
def main(): ...
"""
TWO = ONE + "@app.local_entrypoint()\ndef other(): ...\n"


def test_a_script_runs_as_main_with_its_folder_first_on_the_path(tmp_path: Path):
    (tmp_path / "beside.py").write_text("value = 3")
    path = write(tmp_path, "import sys, beside\nname, arguments = __name__, list(sys.argv)")
    module = run_as_main(path, ["--x", "1"])
    assert module.name == "__main__"
    assert module.arguments == [str(path), "--x", "1"]
    assert sys.path[0] == str(tmp_path)
    assert sys.modules["__main__"] is module
    del sys.modules["beside"]


def test_a_missing_script_is_named():
    with pytest.raises(InvalidError, match=r"nope\.py is not a file"):
        run_as_main(Path("nope.py"))


def test_the_only_entry_point_needs_no_name(tmp_path: Path):
    assert find(run_as_main(write(tmp_path, ONE)), None).name == "main"


def test_one_of_several_is_named(tmp_path: Path):
    module = run_as_main(write(tmp_path, TWO))
    assert find(module, "other").name == "other"
    assert find(module, "app.other").name == "other"


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("x = 1", None, "put @app.local_entrypoint() above"),
        ("x = 1", "main", "no entry point 'main'; it has none"),
        (TWO, None, "Fix: name one of script.py::main, script.py::other"),
        (TWO, "nope", "it has main, other"),
    ],
)
def test_an_unknown_entry_point_is_a_clear_error(
    tmp_path: Path, text: str, name: str | None, told: str
):
    module = run_as_main(write(tmp_path, text))
    with pytest.raises(InvalidError) as raised:
        find(module, name)
    assert told in str(raised.value)


def entry(
    count: int,
    rate: float = 0.5,
    name: str = "a",
    loud: bool = False,
    out_dir: Path | None = None,
    untyped=None,
): ...


def test_parameters_are_options_of_their_type():
    words = ["--count", "3", "--rate=2", "--loud", "--out-dir", "/tmp", "--untyped", "x"]
    assert parse(entry, words, "run") == {
        "count": 3,
        "rate": 2.0,
        "name": "a",
        "loud": True,
        "out_dir": Path("/tmp"),
        "untyped": "x",
    }
    assert parse(entry, ["--count=1", "--no-loud", "--out_dir=x"], "run")["loud"] is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--count"),
        (["--count", "many"], "invalid int value: 'many'"),
        (["--count", "1", "--nope"], "unknown option --nope: it takes --help, --count"),
        (["--count", "1", "--out-dri=x"], "unknown option --out-dri: did you mean --out-dir?"),
        (["--count", "1", "--lou"], "unknown option --lou: did you mean --loud?"),
        (["--count", "1", "word"], "unexpected argument 'word'"),
    ],
)
def test_a_wrong_command_line_ends_with_a_message(words: list[str], told: str, capsys):
    with pytest.raises(SystemExit) as left:
        parse(entry, words, "run")
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_help_lists_the_options_with_their_types(capsys):
    with pytest.raises(SystemExit) as left:
        parse(entry, ["--help"], "run")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "--count COUNT" in shown
    assert "int, required" in shown
    assert "float, default: 0.5" in shown


def test_a_parameter_without_annotation_has_the_type_of_its_default():
    def main(count=3, name="a", loud=False, where=Path("x"), help=1, nothing=None): ...

    words = ["--count=4", "--name=5", "--loud", "--where=y", "--help=2", "--nothing=6"]
    assert parse(main, words, "run") == {
        "count": 4,
        "name": "5",
        "loud": True,
        "where": Path("y"),
        "help": 2,
        "nothing": "6",
    }


def test_each_annotation_counts_for_itself():
    def main(x: int, y: NotDefined = None): ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidError, match="parameter y is annotated with 'NotDefined'"):
        parse(main, ["--x=1"], "run")


def test_parameters_that_no_command_line_can_give_are_refused():
    def twice(x: bool, no_x: int): ...

    def by_place(x: int, /): ...

    with pytest.raises(InvalidError, match="parameter no_x has the same option as another one"):
        parse(twice, [], "run")
    with pytest.raises(InvalidError, match="x is positional-only"):
        parse(by_place, [], "run")

    def takes_dict(names: dict[str, int]): ...

    def takes_pair(names: tuple[int, str]): ...

    def takes_any(**names: str): ...

    def takes_both(first: str, *rest: str): ...

    for function in (takes_dict, takes_pair):
        with pytest.raises(InvalidError, match=r"parameter names is a (dict|tuple)\["):
            parse(function, [], "run")
    with pytest.raises(InvalidError, match=r"\*\*names can't be written"):
        parse(takes_any, [], "run")
    with pytest.raises(InvalidError, match=r"\*rest can't have others beside it"):
        parse(takes_both, [], "run")


def typed(
    mode: Literal["fast", "slow"] = "fast",
    level: Literal[1, 2] = 1,
    at: datetime | None = None,
    day: date = date(2024, 1, 1),
    names: list[str] | None = None,
    sizes: tuple[int, ...] = (1,),
    rates: Sequence[float] = (),
    maybe: Optional[int] = None,  # noqa: UP045
    words=["a"],  # noqa: B006
): ...


def test_options_of_more_types():
    words = "--mode slow --level=2 --at 2024-05-06T07:08 --day 2024-02-03 --maybe 3"
    words += " --names a --names=b --sizes 2 --sizes 3 --rates 0.5 --words x"
    assert parse(typed, words.split(), "run") == {
        "mode": "slow",
        "level": 2,
        "at": datetime(2024, 5, 6, 7, 8),
        "day": date(2024, 2, 3),
        "names": ["a", "b"],
        "sizes": (2, 3),
        "rates": [0.5],
        "maybe": 3,
        "words": ["x"],
    }
    defaults = parse(typed, ["--at", "2024-05-06"], "run")
    assert defaults.pop("at") == datetime(2024, 5, 6)
    assert list(defaults.values()) == ["fast", 1, date(2024, 1, 1), None, (1,), (), None, ["a"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mode", "quick"], "'quick' is none of fast, slow"),
        (["--level", "3"], "'3' is none of 1, 2"),
        (["--at", "noon"], "invalid datetime value: 'noon'"),
        (["--sizes", "x"], "invalid int value: 'x'"),
    ],
)
def test_a_wrong_value_names_the_right_ones(words: list[str], told: str, capsys):
    with pytest.raises(SystemExit) as left:
        parse(typed, words, "run")
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_variable_arguments_take_all_words(capsys):
    def main(*words): ...

    def numbers(*numbers: int): ...

    given = parse_words(parameters_of(main), ["a", "--b", "-c", "--help"], "run")
    assert given == EntryArguments(("a", "--b", "-c", "--help"), {})
    assert parse_words(parameters_of(numbers), ["1", "-2"], "run").args == (1, -2)
    with pytest.raises(SystemExit):
        parse_words(parameters_of(numbers), ["1", "x"], "run")
    assert "invalid int value: 'x'" in capsys.readouterr().err


# --- what can be run -----------------------------------------------------------------------------

MANY = """
import lifecycle_magic as lm
app, other = lm.App("one"), lm.App("two")

@app.function()
def double(x: int) -> int: return 2 * x

@app.function(name="renamed")
def variable(): ...

@app.function()
def items():
    yield 1

@app.cls()
class Model:
    size: int = lm.parameter(default=1)
    name: "str" = lm.parameter()
    @lm.method()
    def get(self, count: int = 2): ...
    @lm.method()
    def put(self, size: int): ...
    @lm.asgi_app()
    def page(self): ...

@other.cls()
class Single:
    def __init__(self, size: float = 1): ...
    @lm.method()
    def only(self): "What it does."
"""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("double", ["x"]),
        ("app.double", ["x"]),
        ("renamed", []),
        ("variable", []),
        ("Model.get", ["size", "name", "count"]),
        ("app.Model.get", ["size", "name", "count"]),
        ("Single", ["size"]),
        ("Single.only", ["size"]),
        ("other", ["size"]),
        ("other.Single.only", ["size"]),
    ],
)
def test_functions_and_methods_are_found_by_name(tmp_path: Path, name: str, parameters: list[str]):
    found = find(run_as_main(write(tmp_path, MANY)), name)
    assert [one.parameter.name for one in found.parameters] == parameters
    if name == "Model.get":
        given = parse_words(found.parameters, ["--size=3", "--name", "4"], "run").kwargs
        assert given == {"size": 3, "name": "4", "count": 2}
    if name == "Single":
        assert found.about == "What it does."
        assert type(parse_words(found.parameters, ["--size=3"], "run").kwargs["size"]) is float


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (None, "several functions and no entry point. Fix: name one of script.py::double, "),
        ("Model", "the class Model has several methods. Fix: name one of script.py::Model.get"),
        ("Model.nope", "no entry point 'Model.nope'; it has double, renamed, items, Model.get"),
        ("other.double", "no entry point 'other.double'; it has Single.only"),
        ("items", "items yields its values"),
        ("Model.page", "Model.page answers HTTP, and is not called. Fix: lifecycle-magic serve"),
    ],
)
def test_what_can_not_be_run_is_a_clear_error(tmp_path: Path, name: str | None, told: str):
    module = run_as_main(write(tmp_path, MANY))
    with pytest.raises(InvalidError) as raised:
        find(module, name)
    assert told in str(raised.value)


def test_the_fix_names_a_module_as_it_was_named(tmp_path: Path):
    module = run_as_main(write(tmp_path, MANY))
    with pytest.raises(InvalidError, match=r"name one of -m pkg\.mod::double, "):
        find(module, None, "-m pkg.mod")


def test_arguments_of_the_constructor_and_of_the_method_may_not_share_a_name(tmp_path: Path):
    found = find(run_as_main(write(tmp_path, MANY)), "Model.put")
    with pytest.raises(InvalidError, match="size has the same option as another one"):
        parse_words(found.parameters, [], "run")


def test_the_only_function_needs_no_name(tmp_path: Path):
    text = "import lifecycle_magic as lm\napp = lm.App()\n@app.function()\ndef one(): ...\n"
    assert find(run_as_main(write(tmp_path, text)), None).name == "one"


def test_a_module_runs_as_main_with_its_relative_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "package_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text("value = 3")
    text = "import sys\nfrom .beside import value\nname, words = __name__, sys.argv[1:]"
    (package / "inner.py").write_text(text)
    (package / "__main__.py").write_text("whole = True")
    (package / "broken.py").write_text("import no_such_module")
    monkeypatch.chdir(tmp_path)
    module = run_module_as_main("package_of_a_test.inner", ["--x"])
    assert (module.name, module.value, module.words) == ("__main__", 3, ["--x"])
    assert module.__file__ == str(package / "inner.py")
    assert run_module_as_main("package_of_a_test").whole
    for name in ("package_of_a_test.nope", "no_such_package.inner", "..", "package_of_a_test."):
        with pytest.raises(InvalidError, match="no module named"):
            run_module_as_main(name)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        run_module_as_main("package_of_a_test.broken")
    for name in [name for name in sys.modules if name.startswith("package_of_a_test")]:
        del sys.modules[name]


def test_a_report_begins_at_the_script(tmp_path: Path):
    path = write(tmp_path, "def inner():\n    return 1 / 0\n\ninner()\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run_as_main(path)
    told = script.report(raised.value, path)
    files = [line.split('"')[1] for line in told.splitlines() if line.lstrip().startswith("File")]
    assert set(files) == {str(path)}
    assert "return 1 / 0" in told
    assert told.rstrip().endswith("ZeroDivisionError: division by zero")


def test_a_syntax_error_in_the_script_shows_its_line(tmp_path: Path):
    path = write(tmp_path, "x = (1\n")
    with pytest.raises(SyntaxError) as raised:
        run_as_main(path)
    told = script.report(raised.value, path)
    assert f'File "{path}", line 1' in told
    assert "lifecycle_magic" not in told


def test_our_own_error_in_no_line_of_the_script_is_one_line():
    assert script.report(InvalidError("no file"), Path("x.py")) == "lifecycle-magic: no file\n"
