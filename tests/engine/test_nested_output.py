"""The order of what a method prints and of what the methods that it calls print."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from engine.nested_printing import declare
from engine.other_process import OtherApp
from engine.work import Site

FORMS = ["remote", "spawn", "map", "items", "thread", "deep"]

BETWEEN = {
    "items": ["inner 0", "got 0", "inner 1", "got 1"],
    "deep": ["middle x", "inner x", "end of middle x"],
}


@pytest.mark.parametrize("form", FORMS)
def test_output_waits_for_what_its_caller_printed_before(
    site_on_each: Site, capsys: Any, form: str
) -> None:
    outer = declare(site_on_each.app, site_on_each.folder.path).Outer()
    items = outer.unread.remote_gen(form)
    assert next(items) == 0
    site_on_each.folder.wait(f"called-{form}")
    assert list(items) == [1]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["before", *BETWEEN.get(form, ["inner x"]), "after"]


def test_output_waits_for_that_of_a_child_process(site_on_each: Site, capsys: Any) -> None:
    declare(site_on_each.app, site_on_each.folder.path).Outer().with_child.remote()
    assert capsys.readouterr().out.splitlines() == ["a child", "inner x"]


def test_lines_stay_in_order_around_hundreds_of_nested_calls(
    site_on_each: Site, capsys: Any
) -> None:
    outer = declare(site_on_each.app, site_on_each.folder.path).Outer()
    expected = [
        line
        for number in range(300)
        for line in (f"before {number}", f"inner {number}", f"after {number}")
    ]
    outer.many.remote(300)
    assert capsys.readouterr().out.splitlines() == expected
    outer.many_aio.remote(300)
    assert capsys.readouterr().out.splitlines() == expected
    asyncio.run(outer.many.remote.aio(300))
    assert capsys.readouterr().out.splitlines() == expected
    outer.many.spawn(300).get()
    assert capsys.readouterr().out.splitlines() == expected
    assert list(outer.many.map([300])) == [None]
    assert capsys.readouterr().out.splitlines() == expected
    outer.many_items.remote(300)
    assert capsys.readouterr().out.splitlines() == [
        line for number in range(300) for line in (f"inner {number}", f"got {number}")
    ]


CODE = """
import lifecycle_magic as lm
from engine.nested_printing import declare

classes = declare(lm.App(NAME), PLACE)

from lifecycle_magic.session import session
session.current()
"""


def test_lines_stay_in_order_between_two_sessions(
    site_on_each: Site, tmp_path: Path, capsys: Any
) -> None:
    with OtherApp(tmp_path / "far", CODE) as far:
        far.cls("Outer")().many.remote(100)
        assert capsys.readouterr().out.splitlines() == [
            line
            for number in range(100)
            for line in (f"before {number}", f"inner {number}", f"after {number}")
        ]
        outer = declare(site_on_each.app, site_on_each.folder.path).Outer()
        items = outer.unread.remote_gen(far.name)
        assert next(items) == 0
        site_on_each.folder.wait(f"called-{far.name}")
        assert list(items) == [1]
        assert capsys.readouterr().out.splitlines() == ["before", "inner x", "after"]
