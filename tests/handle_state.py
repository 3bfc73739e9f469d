"""The declaration and the pool behind a handle, whose public names are Modal's and the user's."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.spec.class_spec import ClassSpec


def spec_of(cls: Any) -> ClassSpec:
    """Return the declaration that the handle of a class stands for."""
    spec: ClassSpec = cls._spec
    return spec


def pool_of(method: Any) -> Pool:
    """Return the pool that the calls of a method of an instance go to."""
    pool: Pool = method._pool()
    return pool
