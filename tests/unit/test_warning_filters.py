"""Filters of warnings that a notebook sets, and those that libraries set while it runs."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.compilerop import CachingCompiler

from lifecycle_magic.fingerprint import warning_filters


class Model:
    """A class of this file."""


class _Cells:
    """The cells of a notebook. Each one runs a function."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]

    def run(self, text: str, filters: str = "") -> None:
        self.texts.append(text)
        if filters:
            warnings.filterwarnings("ignore", message=filters)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A notebook that has run nothing yet. The modules of tests are not next to it."""
    made = warning_filters._Notebook()
    made._note_modules()
    made._sources.clear()
    monkeypatch.setattr(warning_filters, "_notebook", made)
    with warnings.catch_warnings():
        yield


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch, notebook: None) -> _Cells:
    made = _Cells()
    monkeypatch.setitem(vars(sys.modules["__main__"]), "In", made.texts)
    return made


def _import_library(monkeypatch: pytest.MonkeyPatch) -> None:
    made = types.ModuleType("library")
    made.__file__ = f"{Path(pytest.__file__).parents[1]}/library.py"
    monkeypatch.setitem(sys.modules, "library", made)


def test_a_notebook_that_sets_no_filters_has_none(cells: _Cells) -> None:
    cells.run("import library", filters="of the library")
    assert warning_filters.filters(Model) is None
    assert warning_filters.content(Model) is None


def test_what_a_library_adds_at_its_import_does_not_count(
    cells: _Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells.run("warnings.filterwarnings('ignore', message='mine')", filters="mine")
    cells.run("class Model: ...")
    before = warning_filters.content(Model)
    cells.run("import library", filters="of the library")
    _import_library(monkeypatch)
    assert warning_filters.content(Model) == before
    assert len(warning_filters.filters(Model) or ()) == len(warnings.filters)


def test_another_filter_of_the_notebook_counts(cells: _Cells) -> None:
    cells.run("import library", filters="of the library")
    assert warning_filters.content(Model) is None
    cells.run("warnings.simplefilter('ignore')", filters="mine")
    one = warning_filters.content(Model)
    cells.run("warnings.simplefilter('ignore')", filters="another one")
    assert one is not None
    assert warning_filters.content(Model) != one


def test_filters_that_are_set_after_the_class_in_its_cell_count(cells: _Cells) -> None:
    cells.run("import warnings\nclass Model: ...\nwarnings.simplefilter('ignore')")
    one = warning_filters.content(Model)
    warnings.filterwarnings("ignore", message="mine")
    warning_filters.take_note()
    assert warning_filters.content(Model) != one


def test_what_is_imported_to_start_a_container_does_not_count(
    cells: _Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import warnings\nwarnings.simplefilter('ignore')\nclass Model:\n    def go(self):\n"
    text += "        warnings.simplefilter('error')\n"
    text = f"get_ipython().run_cell_magic('lifecycle_cls', '', {text!r})\n"
    cells.run(text)
    one = warning_filters.content(Model)
    warnings.filterwarnings("ignore", message="of an engine")
    _import_library(monkeypatch)
    warning_filters.take_note()
    cells.run(text)
    assert warning_filters.content(Model) == one


def test_resetting_the_filters_counts(cells: _Cells) -> None:
    assert warning_filters.content(Model) is None
    cells.run("warnings.resetwarnings()")
    warnings.resetwarnings()
    assert warning_filters.filters(Model) == []


def test_a_script_sets_filters_if_its_text_says_so(
    monkeypatch: pytest.MonkeyPatch, notebook: None
) -> None:
    monkeypatch.delitem(vars(sys.modules["__main__"]), "In", raising=False)
    assert warning_filters.filters(Model) == list(warnings.filters)  # as this file does
    assert warning_filters.filters(dict) is None


def test_a_function_that_was_defined_before_sets_filters(cells: _Cells) -> None:
    cells.run("def quiet(): warnings.simplefilter('ignore')")
    before = warning_filters.content(Model)
    cells.run("quiet()", filters="mine")
    assert warning_filters.content(Model) != before


@pytest.mark.parametrize(
    "text", ["%run quiet.py -v", "%run -t quiet", "exec(open('quiet.py').read())"]
)
def test_files_that_a_cell_runs_set_filters(
    text: str, cells: _Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quiet.py").write_text("exec(open('inner.py').read())")
    Path("inner.py").write_text("import warnings\nwarnings.simplefilter('ignore')\n")
    cells.run(text, filters="mine")
    assert warning_filters.filters(Model) == list(warnings.filters)


def test_a_magic_in_the_history_is_a_call(
    cells: _Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quiet.py").write_text("import warnings\nwarnings.simplefilter('ignore')\n")
    cells.run("get_ipython().run_line_magic('run', 'quiet')\n", filters="mine")
    assert warning_filters.filters(Model) == list(warnings.filters)


def test_a_module_next_to_the_notebook_sets_filters_also_after_an_edit(
    cells: _Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = types.ModuleType("helper")
    helper.__file__ = str(tmp_path / "helper.py")
    Path(helper.__file__).write_text("LIMIT = 1\n")
    monkeypatch.setitem(sys.modules, "helper", helper)
    cells.run("import helper")
    assert warning_filters.filters(Model) is None
    Path(helper.__file__).write_text("import warnings\nwarnings.simplefilter('ignore')\n")
    cells.run("importlib.reload(helper)", filters="mine")
    assert warning_filters.filters(Model) == list(warnings.filters)


class _Shell:
    """A shell that keeps no history."""

    def __init__(self) -> None:
        self.compile = CachingCompiler()

    def get_ipython(self) -> _Shell:
        return self


def test_cells_without_history_set_filters(cells: _Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = _Shell()
    monkeypatch.setitem(vars(sys.modules["__main__"]), "get_ipython", shell.get_ipython)
    shell.compile.cache("x = 1")
    assert warning_filters.filters(Model) is None
    shell.compile.cache("warnings.simplefilter('ignore')")
    warnings.filterwarnings("ignore", message="mine")
    assert warning_filters.filters(Model) == list(warnings.filters)
