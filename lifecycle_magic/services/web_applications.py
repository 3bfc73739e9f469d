"""Web applications that travel as objects with a class, and the libraries they come from."""

from __future__ import annotations

import _thread
import sys
import threading
import types
from typing import Any

from lifecycle_magic.fingerprint.origin import is_installed, is_ours
from lifecycle_magic.guest import library_versions

__all__ = ["ApplicationReleases", "is_application", "reduce_with_new_locks"]

# The top-level package of an application's class, and the distributions that shape its objects.
_LIBRARIES = {
    "aiohttp": ("aiohttp",),
    "bottle": ("bottle",),
    "dash": ("dash", "flask"),
    "falcon": ("falcon",),
    "fastapi": ("fastapi", "starlette", "pydantic"),
    "flask": ("flask", "werkzeug"),
    "gradio": ("gradio",),
    "litestar": ("litestar",),
    "quart": ("quart", "flask", "werkzeug"),
    "sanic": ("sanic",),
    "starlette": ("starlette",),
}
_ROUTES = ("routes", "router", "_router", "url_map", "deferred_functions")


def is_application(value: Any) -> bool:
    """Return whether a value is an application or a part of one that has routes."""
    if not _packages(type(value)):
        return False
    attributes = getattr(value, "__dict__", {})
    return any(name in attributes for name in _ROUTES)


def _packages(kind: type) -> list[str]:
    tops = (str(base.__module__).partition(".")[0] for base in kind.__mro__)
    return [top for top in tops if top in _LIBRARIES]


_LOCKS: dict[Any, Any] = {_thread.LockType: threading.Lock, _thread.RLock: threading.RLock}


class _NewLock:
    """A lock of a library's object; it is pickled as a new lock of the same kind."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return _LOCKS[self._kind], ()


def reduce_with_new_locks(value: Any) -> tuple[Any, ...] | None:
    """Return the reduced form of a library's object that holds locks; None for other objects.

    Routers of FastAPI hold a lock that guards what they compute from their routes.
    """
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict) or not _packages(type(value)):
        return None
    if not any(type(one) in _LOCKS for one in attributes.values()):
        return None
    state = {
        name: _NewLock(type(one)) if type(one) in _LOCKS else one
        for name, one in attributes.items()
    }
    return object.__new__, (type(value),), state


class ApplicationReleases:
    """The library releases that applications and other objects of libraries were created with.

    Unpickled in a container, it compares them with the image's releases. ``otherwise`` is the
    stream for an image with other releases, in which the objects called ``names`` are made again;
    None if there is none.
    """

    def __init__(self) -> None:
        self._needed: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self.names: dict[str, None] = {}
        self.otherwise: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self._needed or self._known)

    def add(self, value: Any, name: str | None) -> None:
        """Record an application that travels; ``name`` is the global that leads to it."""
        for package in _packages(type(value)):
            for distribution in _LIBRARIES[package]:
                release = library_versions.installed(distribution)
                if release is not None:
                    self._needed[distribution] = release
        self.names[name or type(value).__name__] = None

    def add_plain(self, value: Any, name: str) -> None:
        """Record another object of a library if it travels as the attributes that it has here."""
        kind = type(value)
        top = str(kind.__module__).partition(".")[0]
        if name in self.names or not _travels_as_attributes(kind, value) or not _is_library(top):
            return
        release = library_versions.installed(top)
        if release is not None:
            self._known[top] = release
            self.names[name] = None

    def __reduce__(self) -> tuple[Any, ...]:
        given = self._needed, tuple(self.names), self._known, self.otherwise
        return library_versions.check, given


def _is_library(top: str) -> bool:
    return top not in sys.stdlib_module_names and not is_ours(top) and is_installed(top)


def _travels_as_attributes(kind: type, value: Any) -> bool:
    """Return whether pickle copies the attributes, without a method of the library's own."""
    if isinstance(value, (type, types.FunctionType, types.ModuleType)):
        return False
    if not hasattr(value, "__dict__"):
        return False
    own = ("__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
    names = ("__reduce_ex__", "__reduce__", *own)
    return all(getattr(kind, name, None) is getattr(object, name, None) for name in names)
