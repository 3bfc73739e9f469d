from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli import script
from lifecycle_magic.ui.cli.entry_options import parse
from lifecycle_magic.ui.cli.main_module import run_as_main

pytestmark = pytest.mark.every_python


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """`run_as_main` takes the place of ``__main__``, of the path and of the arguments."""
    main, path, arguments = sys.modules["__main__"], list(sys.path), list(sys.argv)
    yield
    sys.modules["__main__"], sys.path[:], sys.argv[:] = main, path, arguments


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
    assert script.entrypoint(run_as_main(write(tmp_path, ONE)), None).__name__ == "main"


def test_one_of_several_is_named(tmp_path: Path):
    module = run_as_main(write(tmp_path, TWO))
    assert script.entrypoint(module, "other").__name__ == "other"


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("x = 1", None, "put @app.local_entrypoint() above"),
        ("x = 1", "main", "no entry point 'main': it has none"),
        (TWO, None, "Fix: name one of script.py::main, script.py::other"),
        (TWO, "nope", "it has main, other"),
    ],
)
def test_an_unknown_entry_point_is_a_clear_error(
    tmp_path: Path, text: str, name: str | None, told: str
):
    module = run_as_main(write(tmp_path, text))
    with pytest.raises(InvalidError) as raised:
        script.entrypoint(module, name)
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

    def takes_list(names: list[str]): ...

    def takes_any(*names: str): ...

    with pytest.raises(InvalidError, match="parameter names is a list"):
        parse(takes_list, [], "run")
    with pytest.raises(InvalidError, match=r"\*names can't be written"):
        parse(takes_any, [], "run")


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
