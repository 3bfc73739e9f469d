"""Looking inside of decorators runs no code of the values that a class holds."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from lifecycle_magic.decorators.classes import unbound, unwrapped

pytestmark = pytest.mark.every_python


class Items(dict[str, Any]):
    """A dict that gives its items as attributes."""

    __getattr__ = dict.__getitem__


def plain(self: Any) -> int:
    return 1


def test_the_function_of_a_method_is_found() -> None:
    class Some:
        static = staticmethod(plain)
        by_class = classmethod(plain)
        cached = functools.lru_cache(plain)

    assert unbound(vars(Some)["static"]) is unbound(vars(Some)["by_class"]) is plain
    assert unwrapped(Some.by_class) is unwrapped(vars(Some)["cached"]) is plain
    assert unwrapped(Some.cached, lambda value: value is Some.cached) is Some.cached


def test_attributes_that_a_class_makes_up_are_not_asked() -> None:
    items = Items(a=1)
    assert unbound(items) is items
    assert unwrapped(items) is items
