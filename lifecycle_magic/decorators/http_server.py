"""`http_server`: a class whose ``enter`` starts a server, as ``modal.experimental.http_server``.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lifecycle_magic.decorators.endpoints import web_server
from lifecycle_magic.decorators.hooks import refuse_options
from lifecycle_magic.decorators.marks import ATTRIBUTE, marks_of
from lifecycle_magic.exception import InvalidError

__all__ = ["ADDRESS_FORMS", "SERVE", "http_server"]

T = TypeVar("T", bound=type)

SERVE = "http_server"
"""The name of the method that such a class gets, and that has the address."""


def http_server(
    port: int = 8000,
    *,
    startup_timeout: float = 30.0,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Callable[[T], T]:
    """Forward HTTP and WebSockets to the server that an ``@enter`` method of this class starts.

    It is ready when something listens on ``port`` of the container. ``Files.get_url()`` is where it
    answers. Put ``@concurrent`` below it for several requests at once. Raises `InvalidError` for
    what can't work.

    >>> @http_server(8000)
    ... class Files:
    ...     def start(self):  # with @enter()
    ...         import subprocess
    ...         subprocess.Popen(["python3", "-m", "http.server", "8000"])
    """
    refuse_options("http_server", unknown, "port", "startup_timeout", "requires_proxy_auth", "cors")
    if callable(port):
        raise InvalidError("@http_server needs the port. Fix: write @http_server(8000)")
    serve = web_server(
        port, startup_timeout=startup_timeout, requires_proxy_auth=requires_proxy_auth, cors=cors
    )

    def decorate(cls: T) -> T:
        if not isinstance(cls, type):
            raise InvalidError(f"@http_server goes above a class, not above {cls!r}")
        if SERVE in vars(cls):
            raise InvalidError(
                f"{cls.__name__}.{SERVE} is the name of what @http_server adds. Fix: rename it"
            )
        # A function of the class's own, which travels with it.
        made = types.FunctionType(_serve.__code__, {"__name__": cls.__module__}, SERVE)
        made.__module__, made.__qualname__ = cls.__module__, f"{cls.__qualname__}.{SERVE}"
        made.__doc__ = "Answer HTTP with the server that enter has started."
        function = serve(made)
        marks = marks_of(function)
        assert marks is not None
        assert marks.web is not None
        setattr(function, ATTRIBUTE, marks._replace(web=marks.web._replace(by_enter=True)))
        setattr(cls, SERVE, function)
        return cls

    return decorate


def _serve(self: Any) -> None:
    pass


class _Regions(dict[str, str]):
    """The address of a server by region: one on this machine answers for all."""

    def __missing__(self, region: str) -> str:
        return self["local"]


ADDRESS_FORMS: dict[str, Callable[[str], Any]] = {
    "get_url": lambda url: url,
    "get_urls": lambda url: _Regions(local=url),
    "_experimental_get_flash_urls": lambda url: [url],
}
"""What a class with ``@http_server`` answers to: the address of its server, in several forms."""
