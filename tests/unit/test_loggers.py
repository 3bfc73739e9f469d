"""Loggers of the notebook in a container: what travels, and what is said to stay."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_magic.guest.user_code import UserCode
from lifecycle_magic.services import packing
from lifecycle_magic.wire import loggers

pytestmark = pytest.mark.every_python

CLASS = """
class M:
    def go(self):
        logging.getLogger("notebook.x").warning("said")
"""
SILENT = """
class M:
    def go(self): return 1
"""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    manager: Any = logging.root.manager
    before = dict(manager.loggerDict)
    settings = logging.root.handlers[:], logging.root.filters[:], logging.root.level
    yield
    manager.loggerDict.clear()
    manager.loggerDict.update(before)
    logging.root.handlers[:], logging.root.filters[:], _ = settings
    logging.root.setLevel(settings[2])
    for table in (loggers._levels, loggers._arrived):
        table.clear()
    loggers._levels["root"] = logging.WARNING
    loggers._installed_handlers.clear()
    loggers._installed_filters.clear()


def pack(text: str) -> packing.Packed:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("import logging, sys, threading\n" + text, space)
    return packing.pack(space["M"])


def left_behind(packed: packing.Packed) -> list[str]:
    """Return what is said of loggers, without the handlers that pytest adds to the root."""
    return [one for one in packed.left_behind if "'root'" not in one]


def load(packed: packing.Packed) -> Any:
    """Load a class as its container does, where nothing is set up yet."""
    for one in logging.root.manager.loggerDict.values():
        if isinstance(one, logging.Logger) and one.name.startswith(("notebook", "library")):
            one.handlers[:], one.filters[:] = [], []
            one.setLevel(logging.NOTSET)
            one.propagate, one.disabled = True, False
    code = UserCode()
    code.spaces["__main__"] = {"__name__": "__main__"}
    return code.load(packed.data)()


def test_a_filter_that_cannot_travel_is_named_and_left_out() -> None:
    above = """
lock = threading.Lock()
def locked(record):
    with lock: return True
logging.getLogger("notebook.x").addFilter(locked)
"""
    packed = pack(above + CLASS)
    [sentence] = left_behind(packed)
    assert sentence.startswith("locked of the logger 'notebook.x' stays in the notebook")
    load(packed).go()
    assert logging.getLogger("notebook.x").filters == []


def test_a_class_without_loggers_reports_none() -> None:
    above = "logging.getLogger('notebook.x').handlers[:] = [logging.FileHandler('x', delay=True)]"
    assert pack(above + SILENT).left_behind == ()
    [sentence] = left_behind(pack(above + CLASS))
    assert "FileHandler of the logger 'notebook.x'" in sentence


def test_a_librarys_logger_with_a_lock_in_its_filter_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("library")
    exec(
        "import logging, threading\n"
        "class Locked(logging.Filter):\n"
        "    def __init__(self): self.lock = threading.Lock()\n"
        "logging.getLogger('library.a').addFilter(Locked())\n",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "library", module)
    packed = pack(CLASS)
    assert not left_behind(packed)
    load(packed).go()


def test_a_formatter_of_a_library_that_the_image_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("library_of_formats")
    exec("import logging\nclass Json(logging.Formatter): pass\n", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    packed = pack(
        "import library_of_formats\n"
        "handler = logging.StreamHandler(sys.stderr)\n"
        "handler.setFormatter(library_of_formats.Json())\n"
        "logging.getLogger('notebook.x').addHandler(handler)\n" + CLASS
    )
    assert not left_behind(packed)
    monkeypatch.delitem(sys.modules, module.__name__)
    load(packed)
    said = capsys.readouterr().err
    assert "a filter, formatter or handler of the logger 'notebook.x' can't be made here" in said
    assert "library_of_formats" in said


def test_the_logger_of_the_program_that_runs_the_cells_stays() -> None:
    """Its formatter is made by traitlets, which few images have."""
    config = pytest.importorskip("traitlets.config")
    terminal = type("ATerminal", (config.Application,), {})
    try:
        assert terminal.instance().log.handlers
        assert b"ATerminal" not in pack(CLASS).data
    finally:
        terminal.clear_instance()


def test_what_code_in_the_container_sets_stays() -> None:
    packed = pack("logging.getLogger('notebook.x').setLevel(10)\n" + CLASS)
    load(packed)
    logger = logging.getLogger("notebook.x")
    own = logging.NullHandler()
    logger.addHandler(own)
    logger.setLevel(40)
    code = UserCode()
    code.spaces["__main__"] = {"__name__": "__main__"}
    code.load(packed.data)
    assert (logger.handlers, logger.level) == ([own], 40)
