"""The decorators of methods that answer HTTP, under Modal's names.

    @fastapi_endpoint()    the method answers one path, as a FastAPI route does
    @asgi_app()            the method returns an ASGI application: FastAPI, Starlette, ...
    @wsgi_app()            the method returns a WSGI application: Flask, Django, ...
    @web_server(8000)      the method starts a server of its own, which listens on that port

The last three are *factories*: they run once in each container, after ``enter``. Their application
or server gets requests as other methods get calls; so does the method of the first.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, overload

from lifecycle_magic.decorators.hooks import decorate, is_positive, mark, refuse_options
from lifecycle_magic.decorators.marks import WebMarks, marks_of, where_of
from lifecycle_magic.exception import InvalidError

__all__ = ["asgi_app", "fastapi_endpoint", "web_endpoint", "web_server", "wsgi_app"]

Decorator = Callable[[Callable[..., Any]], Any]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_COMMON = ("label", "requires_proxy_auth", "cors")


@overload
def fastapi_endpoint(fn: Callable[..., Any], /) -> Any: ...
@overload
def fastapi_endpoint(
    *,
    method: str = "GET",
    docs: bool = False,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Decorator: ...
def fastapi_endpoint(
    fn: Any = None,
    /,
    *,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Any:
    """Answer HTTP requests with this method, as a FastAPI route at ``/`` does.

    Its parameters are read from the query, and with ``method="POST"`` and a pydantic model from the
    body; ``request: fastapi.Request`` gets the whole request. ``docs`` serves ``/docs`` and
    ``/openapi.json``. ``label`` names the address (default: class and method);
    ``requires_proxy_auth`` asks for a bearer token; ``cors`` lists the origins whose pages may send
    requests and read the answers (``"*"``: all). The image needs fastapi. Raises `InvalidError` for
    what can't work.

    >>> class Model:
    ...     @fastapi_endpoint()
    ...     def predict(self, x: int): return {"y": 2 * x}
    """
    name = "fastapi_endpoint"
    _refuse_options(name, unknown, "method", "docs", *_COMMON)
    if str(method).upper() not in METHODS:
        raise InvalidError(f"@{name}: method={method!r} must be one of {', '.join(METHODS)}")
    return _web(fn, name, label, requires_proxy_auth, cors, method=method.upper(), docs=bool(docs))


web_endpoint = fastapi_endpoint
"""The former name of `fastapi_endpoint`."""


@overload
def asgi_app(fn: Callable[..., Any], /) -> Any: ...
@overload
def asgi_app(
    *,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Decorator: ...
def asgi_app(
    fn: Any = None,
    /,
    *,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Any:
    """Answer HTTP and WebSockets with the ASGI application that this method returns.

    The method runs once in each container, after ``enter``; then the application's lifespan startup
    runs. If that fails, ``enter`` has failed. The options are those of `fastapi_endpoint`. Raises
    `InvalidError` for what can't work.

    >>> class Model:
    ...     @asgi_app()
    ...     def serve(self):
    ...         from fastapi import FastAPI
    ...         return FastAPI()
    """
    _refuse_options("asgi_app", unknown, *_COMMON)
    return _web(fn, "asgi_app", label, requires_proxy_auth, cors)


@overload
def wsgi_app(fn: Callable[..., Any], /) -> Any: ...
@overload
def wsgi_app(
    *,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Decorator: ...
def wsgi_app(
    fn: Any = None,
    /,
    *,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Any:
    """Answer HTTP with the WSGI application that this method returns, once in each container.

    The options are those of `fastapi_endpoint`. Raises `InvalidError` for what can't work.

    >>> class Model:
    ...     @wsgi_app()
    ...     def serve(self):
    ...         from flask import Flask
    ...         return Flask("model")
    """
    _refuse_options("wsgi_app", unknown, *_COMMON)
    return _web(fn, "wsgi_app", label, requires_proxy_auth, cors)


def web_server(
    port: int,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    cors: str | Sequence[str] = (),
    **unknown: object,
) -> Decorator:
    """Forward HTTP and WebSockets to the server that this method starts, which listens on ``port``.

    The method runs once in each container, after ``enter``; it starts the server, as a process or
    on a thread, and returns. If the server does not listen within ``startup_timeout`` seconds,
    ``enter`` has failed. The port is one inside of the container; none is opened outside. Raises
    `InvalidError` for what can't work.

    >>> class Files:
    ...     @web_server(8000)
    ...     def serve(self):
    ...         import subprocess
    ...         subprocess.Popen(["python3", "-m", "http.server", "8000"])
    """
    _refuse_options("web_server", unknown, "port", "startup_timeout", *_COMMON)
    if callable(port):
        raise InvalidError("@web_server needs the port. Fix: write @web_server(8000)")
    if type(port) is not int or not 0 < port < 65536:
        raise InvalidError(
            f"@web_server({port!r}): the port must be a whole number from 1 to 65535. "
            "Fix: write @web_server(8000)"
        )
    if not is_positive(startup_timeout):
        raise InvalidError(
            f"@web_server: startup_timeout={startup_timeout!r} must be a number of seconds above 0"
        )
    settings = {"port": port, "startup_timeout": float(startup_timeout)}
    made: Decorator = _web(None, "web_server", label, requires_proxy_auth, cors, **settings)
    return made


def _refuse_options(name: str, unknown: dict[str, object], *known: str) -> None:
    """Do what `refuse_options` does. Requests wait, so ``wait_for_response`` may be true only."""
    if unknown.pop("wait_for_response", True) is False:
        refuse_options(name, {"wait_for_response": "False"}, *known)
    refuse_options(name, unknown, *known)


def _web(
    fn: Any, kind: str, label: object, auth: object, cors: str | Sequence[str], **settings: Any
) -> Any:
    if label is not None and not (isinstance(label, str) and _LABEL.fullmatch(label)):
        raise InvalidError(
            f"@{kind}: label={label!r} must be at most 63 small letters, digits and "
            'inner hyphens. Fix: write label="my-model"'
        )
    origins = (cors,) if isinstance(cors, str) else tuple(cors)
    for origin in origins:
        if not re.fullmatch(r"\*|https?://[^/\s]+", str(origin)):
            raise InvalidError(
                f'@{kind}: cors={origin!r} is no origin. Fix: write "https://example.org", without '
                'a path, or "*" for every page'
            )
    marks = WebMarks(kind, label=label, requires_proxy_auth=bool(auth), cors=origins, **settings)
    return decorate(kind, fn, lambda target: _mark(target, marks))


def _mark(fn: Any, marks: WebMarks) -> Any:
    before = marks_of(fn)
    if before is not None and before.web is not None:
        raise InvalidError(
            f"{where_of(fn)}: @{marks.kind} and @{before.web.kind} exclude each other: a method "
            "answers in one way. Fix: write two methods that share the code"
        )
    return mark(fn, web=marks)
