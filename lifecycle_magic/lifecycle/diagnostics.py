"""The package's log of its own work, for a bug report.

Every module logs to the logger of its own name, below ``lifecycle_magic``: state changes of
containers, notices, requests to engines and decisions, all at level DEBUG, so that a cell that
configures `logging` for level INFO shows none of it. Nothing is logged on the way of a warm call,
and never a value of the user's: no argument, no environment variable, no secret.

``LIFECYCLE_MAGIC_LOG=debug`` writes these records to standard error, and
``LIFECYCLE_MAGIC_LOG=debug:/tmp/lm.log`` to a file. Programs that configure `logging` themselves
need no variable.
"""

from __future__ import annotations

import logging
import os
import sys

from lifecycle_magic.exception import InvalidError

__all__ = ["VARIABLE", "configure"]

VARIABLE = "LIFECYCLE_MAGIC_LOG"

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(threadName)s] %(message)s"
_LEVELS = {"debug": logging.DEBUG, "warning": logging.WARNING}


def configure() -> None:
    """Add the handler that ``LIFECYCLE_MAGIC_LOG`` asks for, once.

    Raises `InvalidError` for an unknown level and for a file that can't be opened.
    """
    wanted = os.environ.get(VARIABLE, "")
    logger = logging.getLogger("lifecycle_magic")
    if not wanted or any(isinstance(one, _Added) for one in logger.handlers):
        return
    level, _, path = wanted.partition(":")
    if level.lower() not in _LEVELS:
        raise InvalidError(
            f"{VARIABLE}={wanted}: unknown level. Fix: set it to debug or warning, "
            "or to debug:/path/of/a/file"
        )
    try:
        stream = open(path, "a", encoding="utf-8") if path else sys.stderr  # noqa: SIM115
    except OSError as error:
        raise InvalidError(f"{VARIABLE}={wanted}: {error}. Fix: name another file") from None
    handler = _Added(stream)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level.lower()])


class _Added(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that the variable asked for."""
