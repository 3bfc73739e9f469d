"""Options of Modal that are accepted and do nothing here, each with one notice per process."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = ["IGNORED", "ignore"]

_PACKAGE = str(Path(__file__).parents[1])

IGNORED = {
    "cloud": "containers run on your own machine",
    "enable_memory_snapshot": "containers are kept warm, and spares have run enter before",
    "ephemeral_disk": "a container may use the disk of its engine",
    "experimental_options": "they are for Modal's cloud",
    "i6pn": "containers run on your own machine",
    "include_source": "the code that a class needs always travels with it",
    "nonpreemptible": "nothing preempts containers here",
    "region": "containers run on your own machine",
    "routing_region": "containers run on your own machine",
    "restrict_modal_access": "containers reach the classes of your own session only",
    "scheduler_placement": "containers run on your own machine",
    "serialized": "the code that a class needs always travels with it",
}
"""Names of the options, and why each does nothing."""

_told: set[str] = set()


def ignore(name: str) -> None:
    """Warn, the first time in this process, that an option does nothing here."""
    if name not in _told:
        _told.add(name)
        warnings.warn(f"{name}= does nothing here: {IGNORED[name]}", stacklevel=_depth())


def _depth() -> int:
    """Return the stack level of the user's line."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    return depth
