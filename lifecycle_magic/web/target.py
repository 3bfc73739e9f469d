"""The method and the pool that answer the requests of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle_magic.decorators.marks import WebMarks

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool


class TooManyInstances(Exception):
    """The error of a request for one more instance than an address may have running."""


@dataclass(frozen=True, eq=False)
class Target:
    """A web method, called ``where`` in messages, and the pool that answers its requests.

    ``find`` returns the pool, and may have to build an image first. ``ready`` returns the pool if
    it is available at once, otherwise None. ``show`` gets the method's output: the name of the
    stream and the text. ``choose`` returns the target that answers a request with this query, this
    one or another instance of the class; it raises `InvalidError` for a query that is refused, and
    `TooManyInstances`. ``instance`` is the key of that instance's arguments, empty for the
    address's own.
    """

    where: str
    method: str
    marks: WebMarks
    find: Callable[[], Pool]
    ready: Callable[[], Pool | None]
    show: Callable[[str, str], None]
    choose: Callable[[str], Target] | None = None
    instance: str = ""
