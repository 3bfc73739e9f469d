"""Where the requests of an endpoint go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle_magic.marks import WebMarks

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool


@dataclass(frozen=True)
class Target:
    """A web method, named for people by ``where``, and the containers that answer for it.

    ``find`` may take as long as an image takes to build; ``ready`` returns the pool if finding it
    takes no time. ``show`` gets what the method prints: stream and text.
    """

    where: str
    method: str
    marks: WebMarks
    find: Callable[[], Pool]
    ready: Callable[[], Pool | None]
    show: Callable[[str, str], None]
