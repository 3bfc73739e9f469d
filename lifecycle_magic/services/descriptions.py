"""The description of a class for callers that only know its name."""

from __future__ import annotations

import inspect

from lifecycle_magic.named.description import Description, MethodFacts, facts_of
from lifecycle_magic.spec.class_spec import ClassSpec

__all__ = ["description_of"]


def description_of(spec: ClassSpec, session: str) -> Description:
    """Return what a declaration is. ``session`` says in words which session serves it."""
    return Description(
        spec.name,
        spec.is_function,
        tuple(
            MethodFacts(one.name, one.is_async, one.is_generator, facts_of(one.signature), one.doc)
            for one in spec.methods.values()
        ),
        facts_of(spec.constructor.signature),
        inspect.getdoc(spec.cls),
        session,
    )
