"""Options of Modal's images that do nothing here or are refused: the list is in `modal_api`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lifecycle_magic.modal_api.table import check_keywords, find, notice

__all__ = ["decline", "ignore_options"]


def decline(method: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Check keywords that ``method`` of `Image` lacks: one of Modal's is ignored with a notice or
    raises `InvalidError`, and so does an unknown one; false values pass.
    """
    known = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    check_keywords(f"Image.{method.__name__}", given, known)


def ignore_options(method: str, **options: object) -> None:
    """Warn, once in this process, of given options of Modal's that have no effect on a step."""
    where = f"Image.{method}"
    for name, value in options.items():
        entry = find(where, f"{name}=")
        if value and entry is not None:
            notice(where, name, entry.note)
