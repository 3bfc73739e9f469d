"""`enable_output`, which Modal's programs call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["enable_output"]


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Do nothing: progress and output of containers are always shown here.

    >>> with enable_output():
    ...     pass
    """
    yield
