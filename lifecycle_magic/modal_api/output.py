"""`enable_output`, `interact` and `panel`, where they are called in a container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

from lifecycle_magic.exception import InvalidError

__all__ = ["enable_output", "interact", "panel"]


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Do nothing: the session that called this container shows what there is to show.

    >>> with enable_output():
    ...     pass
    """
    yield


def interact() -> None:
    """Do nothing: ``breakpoint()`` and ``input()`` in a method ask where its call is waited for.

    >>> interact()
    """


def panel() -> NoReturn:
    """Refuse to make a panel in a container, which has no front end.

    >>> panel()
    Traceback (most recent call last):
    lifecycle_magic.exception.InvalidError: panel() shows the session's containers. Fix: ...
    """
    raise InvalidError("panel() shows the session's containers. Fix: call it in the notebook")
