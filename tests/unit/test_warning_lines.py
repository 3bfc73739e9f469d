"""Warnings in a container are shown with a line of the user's code."""

from __future__ import annotations

import linecache
import warnings
from typing import Any

import pytest

from lifecycle_magic.guest import warning_lines

pytestmark = pytest.mark.every_python

CELL = """\
import warnings
def go():
    helper()
def helper():
    warnings.warn("careful", stacklevel=3)
"""


def test_a_warning_about_the_caller_of_a_method_shows_the_methods_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    module: Any = warnings
    monkeypatch.setattr(module, "_formatwarnmsg_impl", module._formatwarnmsg_impl)
    show = lambda message: shown.append(module._formatwarnmsg(message))  # noqa: E731
    monkeypatch.setattr(module, "_showwarnmsg_impl", show)  # pytest has its own
    monkeypatch.setitem(linecache.cache, "cell-1", (len(CELL), None, CELL.splitlines(True), "c"))
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, "cell-1", "exec"), cell)
    lane: dict[str, Any] = {"__name__": "lane"}
    source = "def call(method): method()\n"
    exec(compile(source, warning_lines._FOLDER + "guest/lane.py", "exec"), lane)
    warning_lines.install()
    warning_lines.install()  # once is enough
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        lane["call"](cell["go"])
    assert shown == ["cell-1:3: UserWarning: careful\n  helper()\n"]
