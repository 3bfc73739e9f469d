"""The names that annotations of web methods mention as texts, on every Python."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from lifecycle_magic.wire import annotations

pytestmark = pytest.mark.every_python

FUTURE = "from __future__ import annotations\n"


def names(body: str, head: str = "") -> set[str]:
    """The names in a web method with this body."""
    text = f"{head}import lifecycle_magic as lm\n@lm.asgi_app()\ndef answer():\n"
    space: dict[str, Any] = {"__name__": "__main__", "Seen": int}
    exec(compile(text + textwrap.indent(body, "    "), "<cell>", "exec", dont_inherit=True), space)
    return annotations.names(space["answer"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def route(x: Item, *rest: Rest, y: list[Other] = ()) -> Out: ...", "Item Rest Other Out"),
        ("cell = 1\ndef route(x: Item): return cell", "Item"),
        ("async def route(x: Item | None): ...", "Item"),
        ("def outer():\n    def route(x: Item): ...", "Item"),
        ("class Body(Base):\n    item: Item\n    more: dict[str, Other]", "Item Other"),
        ("def route(x: 'list[Item]'): ...", "Item"),
        ("def route(item: Item, other: item): ...", "Item item"),
    ],
)
def test_with_postponed_annotations_every_one_is_a_text(body: str, expected: str) -> None:
    assert names(body, FUTURE) - {"list", "dict", "str"} == set(expected.split())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def route(x: 'Item', y: 'Other') -> 'Out': ...", "Item Other Out"),
        ("def route(x: Seen, y: 'Item' = 1, *, z: list['Other']): ...", "Item Other"),
        ("cell = 1\ndef route(x: Seen, y: 'Item'): return cell", "Item"),
        (
            "class B(Base):\n    first: Seen\n    item: 'Item'\n    more: list['Other']",
            "Item Other",
        ),
    ],
)
def test_a_quoted_annotation_is_a_text(body: str, expected: str) -> None:
    assert names(body) - {"list"} == set(expected.split())


def test_no_other_text_of_a_method_counts() -> None:
    body = """
        'Item'
        def route(x: int, y: str = "Item"):
            return {"Item": "Item"}
        return route, ("first", "Item"), "Item"
    """
    assert names(textwrap.dedent(body), FUTURE) <= {"int", "str"}
    assert names(textwrap.dedent(body)) == set()
