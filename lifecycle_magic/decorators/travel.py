"""Handles that arrive in a process by pickle, and whether that process is a container.

A pickled handle names the plain class or function, and the key of its declaration. In the kernel
that made the declaration it becomes the handle again, in another container a handle that calls that
kernel, and everywhere else the plain class or function.

This module travels into containers: the standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from lifecycle_magic.decorators.parameters import instantiate

__all__ = [
    "TRAVELS",
    "container_handles",
    "far_session",
    "find_handles_by",
    "is_local",
    "make_handles_by",
    "travel",
    "travel_class",
    "travel_function",
    "travel_object",
    "travel_own",
]

T = TypeVar("T")

_handles: Any = None  # in a container, the module `guest.handles`
_find_handle: Callable[[str], Any] | None = None  # in a kernel, from the key of a declaration

far_session: ContextVar[Callable[[str, bool], Any] | None] = ContextVar("far", default=None)
"""While a value of another session is read, what returns a handle by its key there, and whether it
is that of a function.
"""


def is_local() -> bool:
    """Return whether this code runs outside of a container.

    >>> is_local()
    True
    """
    if _handles is not None:
        return False
    from lifecycle_magic.decorators import asked_lines

    asked_lines.note(sys._getframe(1))
    return True


def make_handles_by(handles: Any) -> None:
    """Note that this process is a container's worker, in which the module ``handles`` makes them.

    The worker calls this before it loads the user's class.
    """
    global _handles
    _handles = handles


def container_handles() -> Any:
    """Return the module `guest.handles` in a container, None outside."""
    return _handles


def find_handles_by(find: Callable[[str], Any]) -> None:
    """Let ``find`` return the handle of a class by its key, or None. The kernel's registry calls
    this.
    """
    global _find_handle
    _find_handle = find


def travel(plain: T) -> T:
    """Return ``plain``: what an attribute of a handle unpickles as."""
    return plain


def travel_class(plain: type, key: str = "") -> Any:
    """Return what the handle of a class unpickles as: a handle in other containers than its own.

    In the kernel that declared the class under ``key`` it is the handle, elsewhere the plain class.
    """
    if _handles is not None:
        return _handles.handle_of(plain, key)
    if (far := far_session.get()) is not None:
        return far(key, False)
    found = _find_handle(key) if _find_handle is not None else None
    return plain if found is None else found


def travel_function(plain: Callable[..., Any], key: str = "") -> Any:
    """Return what the handle of a function unpickles as: a handle in a container."""
    if _handles is not None:
        return _handles.ForeignFunction(plain, key)
    if (far := far_session.get()) is not None:
        return far(key, True)
    return plain


def travel_own(plain: T, key: str) -> T | Any:
    """Return what the handle of a container's own class or function unpickles as: that itself.

    ``key`` is that of the handle's declaration. With other options it is a handle.
    """
    return plain if _handles is None else _handles.own_of(plain, key)


def travel_object(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: str = "") -> Any:
    """Return what the handle of an instance unpickles as: a handle in a container."""
    if _handles is not None:
        return _handles.ForeignObject(_handles.ForeignClass(cls, key), args, kwargs)
    if (far := far_session.get()) is not None:
        return far(key, False)(*args, **kwargs)
    found = _find_handle(key) if _find_handle is not None else None
    return instantiate(cls, args, kwargs) if found is None else found(*args, **kwargs)


TRAVELS = (travel, travel_class, travel_function)
"""What handles reduce to, with the plain class or function as the one argument."""
