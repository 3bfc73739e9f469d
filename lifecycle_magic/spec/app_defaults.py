"""Options of an app together with those of one of its classes or functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lifecycle_magic.spec import option_checks as checks

__all__ = ["with_defaults"]


def with_defaults(
    where: str, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of a class: ``given``, and the app's for those that are not.

    Secrets and volumes are those of the app and of the class; for the same variable or path the
    class's counts. An image of None is the app's.
    """
    found = {**defaults, **given}
    if given.get("image") is None and "image" in defaults:
        found["image"] = defaults["image"]
    if defaults.get("secrets") is not None:
        found["secrets"] = [
            *checks.secrets(f"{where}: secrets", defaults["secrets"]),
            *checks.secrets(f"{where}: secrets", given.get("secrets") or ()),
        ]
    if defaults.get("volumes") is not None:
        found["volumes"] = {
            **checks.volumes(f"{where}: volumes", defaults["volumes"]),
            **checks.volumes(f"{where}: volumes", given.get("volumes") or {}),
        }
    return found
