"""The parts of pydantic and FastAPI objects that the user declared."""

from __future__ import annotations

from typing import Any

__all__ = ["declared", "is_derived", "parameters_of"]

# Pydantic derives everything else that it keeps in a model from these.
_DECLARED = frozenset(
    {
        "__pydantic_computed_fields__",
        "__pydantic_config__",
        "__pydantic_decorators__",
        "__pydantic_extra_info__",
        "__pydantic_fields__",
    }
)

_APPLICATIONS = ("fastapi.applications", "starlette.applications")


def is_derived(name: str) -> bool:
    """Return whether pydantic derives a class's attribute of this name from other attributes."""
    return name.startswith("__pydantic_") and name not in _DECLARED


def declared(value: Any) -> Any:
    """Return what the user declared with an object of these libraries; None for any other object.

    Such objects also hold addresses, and values that the library computes later.
    """
    kind = type(value)
    if kind.__name__ in ("FastAPI", "Starlette") and kind.__module__ in _APPLICATIONS:
        return "application", {k: v for k, v in vars(value).items() if k != "middleware_stack"}
    if kind.__module__.partition(".")[0] != "pydantic":
        return None
    if kind.__name__ == "FieldInfo":
        given = value._attributes_set.items()
        return "field", {name: one for name, one in given if name != "annotation"}
    if kind.__name__ == "Decorator":
        return "decorator", [value.cls_var_name, value.info]
    if kind.__name__ == "ModelPrivateAttr":
        return "private", [value.default, value.default_factory]
    if kind.__name__ == "TypeAdapter":
        return "adapter", [value._type, value._config]
    return None


def parameters_of(cls: type) -> tuple[type | None, tuple[Any, ...]]:
    """Return the generic model and the arguments that produced ``cls``; no model for another
    class.
    """
    metadata = vars(cls).get("__pydantic_generic_metadata__") or {}
    return metadata.get("origin"), metadata.get("args", ())
