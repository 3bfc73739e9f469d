"""This package's own objects under names of Modal's, beside those in the list of names."""

from __future__ import annotations

import inspect
from typing import Any

import lifecycle_magic
from lifecycle_magic.ui.modal_check.kinds import PACKAGES

__all__ = ["has_name", "has_parameter", "is_callable", "is_class"]


def is_class(name: str) -> bool:
    """Return whether this package has a class of that name."""
    return isinstance(_value(name), type)


def has_name(owner: str, name: str) -> bool:
    """Return whether ``owner``, a class or a module of Modal's, has the name here."""
    if owner in ("modal", *PACKAGES):
        return name in lifecycle_magic.__all__
    return hasattr(_value(owner), name)


def has_parameter(where: str, name: str) -> bool:
    """Return whether the function ``where`` takes the keyword by itself.

    >>> has_parameter("Image.pip_install", "index_url"), has_parameter("App", "no_such_option")
    (True, False)
    """
    try:
        parameter = inspect.signature(_function(where)).parameters.get(name)
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind is not parameter.VAR_KEYWORD


def is_callable(where: str) -> bool:
    """Return whether this package has a function or method of that name."""
    return callable(_function(where))


def _function(where: str) -> Any:
    owner, _, name = where.partition(".")
    found = _value(owner)
    return getattr(found, name, None) if name else found


def _value(name: str) -> Any:
    known = name in lifecycle_magic.__all__ or name in lifecycle_magic._OLD
    return getattr(lifecycle_magic, name, None) if known else None
