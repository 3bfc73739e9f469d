"""What stands behind a handle, whose public names are Modal's and the user's."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.handles.function import Function
from lifecycle_magic.handles.obj import Obj
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.services.service import Service
from lifecycle_magic.spec.class_spec import ClassSpec


def spec_of(handle: Any) -> ClassSpec:
    """Return the declaration that the handle of a class, an instance or a function stands for."""
    named = handle._cls if isinstance(handle, (Function, Obj)) else handle
    spec: ClassSpec = named._spec
    return spec


def service_of(cls: Any) -> Service:
    """Return the service that runs the class of a handle."""
    service: Service = cls._entry.service()
    return service


def pool_of(method: Any) -> Pool:
    """Return the pool that the calls of a method of an instance go to."""
    pool: Pool = method._pool()
    return pool
