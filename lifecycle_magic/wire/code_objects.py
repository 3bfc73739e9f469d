"""Code objects and what is nested in them: functions, classes, lambdas and comprehensions.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType

__all__ = ["nested_codes", "with_nested_codes"]


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code nested in ``code``, at any depth: each before what is nested in it.

    >>> [one.co_name for one in nested_codes((lambda: [lambda: 1, lambda: 2]).__code__)]
    ['<lambda>', '<lambda>']
    """
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from with_nested_codes(one)


def with_nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield ``code``, then the code nested in it: see `nested_codes`."""
    yield code
    yield from nested_codes(code)
