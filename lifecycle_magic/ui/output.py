"""`enable_output`, where a session runs."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator

__all__ = ["enable_output"]


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Show the progress of containers and what they print while they exit, until the block ends.

    What a method prints is always shown where it is called. In a script this also prints build
    steps, starts and ends on ``sys.stderr``, without ``show_progress`` only failures. In a notebook
    the cards do so.

    >>> with enable_output(show_progress=False):
    ...     print("here")
    here
    """
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.cli import reporter

    if reporter.is_reporting():  # by the command that runs this script
        yield
        return
    bus = session.current().bus
    if _in_notebook():
        end = bus.subscribe(reporter.ExitOutput(_shown_here()).take)
    else:
        end = reporter.report(bus, sys.stderr, quiet=not show_progress)
    try:
        yield
    finally:
        end()


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython.core.getipython")
    return shell is not None and shell.get_ipython() is not None


def _shown_here() -> Callable[[str, str], object]:
    """Return what shows output in the cell that runs now, on any thread."""
    from lifecycle_magic.pool import printing

    context = contextvars.copy_context()
    return lambda stream, text: context.copy().run(printing.show, stream, text)
