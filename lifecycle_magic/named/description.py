"""The description of a class that a session serves: enough to call its methods and to show help.

Values of the user's own types are described by their text, because the types may not exist where
the description is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["Description", "MethodFacts", "ParameterFacts", "facts_of", "signature_of"]


class ParameterFacts(NamedTuple):
    """One parameter: ``kind`` is that of `inspect.Parameter`, ``default`` and ``annotation`` are
    text, None if there is none.
    """

    name: str
    kind: int
    default: str | None
    annotation: str | None


class MethodFacts(NamedTuple):
    """One method that callers reach."""

    name: str
    is_async: bool
    is_generator: bool
    parameters: tuple[ParameterFacts, ...]
    doc: str | None


class Description(NamedTuple):
    """A class or function, as it is declared now. ``session`` says in words which one serves it."""

    name: str
    is_function: bool
    methods: tuple[MethodFacts, ...]
    constructor: tuple[ParameterFacts, ...]
    doc: str | None
    session: str

    def method(self, name: str) -> MethodFacts | None:
        """Return the facts of a method, None if there is no such method."""
        return next((one for one in self.methods if one.name == name), None)


class _Text:
    """A default or an annotation, which shows as the text that it has where it was written."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def facts_of(signature: inspect.Signature) -> tuple[ParameterFacts, ...]:
    """Return the parameters of a signature as plain values."""
    return tuple(
        ParameterFacts(
            one.name,
            int(one.kind),
            None if one.default is one.empty else _shown(one.default),
            None if one.annotation is one.empty else inspect.formatannotation(one.annotation),
        )
        for one in signature.parameters.values()
    )


def signature_of(parameters: Iterable[ParameterFacts]) -> inspect.Signature:
    """Return a signature that shows these parameters.

    >>> signature_of([ParameterFacts("x", 1, "3", "int")])
    <Signature (x: int = 3)>
    """
    kinds = list(inspect._ParameterKind)
    return inspect.Signature(
        [
            inspect.Parameter(
                one.name,
                kinds[one.kind],
                default=inspect.Parameter.empty if one.default is None else _Text(one.default),
                annotation=inspect.Parameter.empty
                if one.annotation is None
                else _Text(one.annotation),
            )
            for one in parameters
        ]
    )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."
