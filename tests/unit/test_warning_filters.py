"""Filters of warnings that a notebook sets, and those that libraries set while it runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import pytest

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
def cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Cells]:
    made = _Cells()
    monkeypatch.setattr(warning_filters, "_notebook", warning_filters._Notebook())
    monkeypatch.setitem(vars(sys.modules["__main__"]), "In", made.texts)
    with warnings.catch_warnings():
        yield made


def test_a_notebook_that_sets_no_filters_has_none(cells: _Cells) -> None:
    cells.run("import library", filters="of the library")
    assert warning_filters.filters(Model) is None
    assert warning_filters.content(Model) is None


def test_what_a_library_adds_at_its_import_does_not_count(cells: _Cells) -> None:
    cells.run("warnings.filterwarnings('ignore', message='mine')", filters="mine")
    cells.run("class Model: ...")
    before = warning_filters.content(Model)
    cells.run("import library", filters="of the library")
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


def test_what_is_imported_to_start_a_container_does_not_count(cells: _Cells) -> None:
    text = "import warnings\nwarnings.simplefilter('ignore')\nclass Model:\n    def go(self):\n"
    text += "        warnings.simplefilter('error')\n"
    text = f"get_ipython().run_cell_magic('lifecycle_cls', '', {text!r})\n"
    cells.run(text)
    one = warning_filters.content(Model)
    warnings.filterwarnings("ignore", message="of an engine")
    warning_filters.take_note()
    cells.run(text)
    assert warning_filters.content(Model) == one


def test_resetting_the_filters_counts(cells: _Cells) -> None:
    assert warning_filters.content(Model) is None
    cells.run("warnings.resetwarnings()")
    warnings.resetwarnings()
    assert warning_filters.filters(Model) == []


def test_a_script_sets_filters_if_its_text_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(sys.modules["__main__"]), "In", raising=False)
    assert warning_filters.filters(Model) == list(warnings.filters)  # as this file does
    assert warning_filters.filters(dict) is None
