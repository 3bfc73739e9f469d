"""`enable_output` and `interact`, which Modal's programs call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["enable_output", "interact"]


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Do nothing: progress and output of containers are always shown here.

    >>> with enable_output():
    ...     pass
    """
    yield


def interact() -> None:
    """Do nothing: ``breakpoint()`` and ``input()`` in a method ask where its call is waited for.

    >>> interact()
    """
