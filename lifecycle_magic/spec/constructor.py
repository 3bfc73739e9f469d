"""The arguments of a class: checked, and given a key that distinguishes them from others.

They are values of `parameter` fields if a class has any, otherwise arguments of its
``__init__`` or ``__new__``. No instance is created here: the signature shows what the container can
create.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.decorators.parameters import MISSING, Parameter, parameters_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import fingerprint
from lifecycle_magic.spec.class_checks import annotation_of, check_type
from lifecycle_magic.wire.unpicklable import explain_argument

__all__ = ["Arguments", "Constructor", "signature_without_self"]

_ANY_ARGUMENTS = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


@dataclass(frozen=True)
class Arguments:
    """The arguments of an instance; equal ``key`` means that a warm container can be shared."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Constructor:
    """The constructor of the class ``name``; created by `of`.

    ``types`` are the annotations of its `parameter` fields, by name; empty if the class has
    an ``__init__`` of its own or takes no arguments.
    """

    name: str
    signature: inspect.Signature
    types: Mapping[str, str]

    @classmethod
    def of(cls, made: type) -> Constructor:
        """Return the constructor of a class; raises `InvalidError` for a field without a type."""
        fields = parameters_of(made)
        types = {name: annotation_of(made, name) for name in fields}
        if fields:
            return cls(made.__name__, _signature_of(fields), types)
        for name in ("__init__", "__new__"):
            function = getattr(made, name)
            if function is not getattr(object, name):
                return cls(made.__name__, signature_without_self(function), types)
        return cls(made.__name__, inspect.Signature(), types)

    @property
    def uses_parameters(self) -> bool:
        """Return whether arguments are `parameter` fields rather than arguments of
        ``__init__``.
        """
        return bool(self.types)

    def needed(self) -> list[str]:
        """Return the names of the arguments that have no default."""
        return [
            parameter.name
            for parameter in self.signature.parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each parameter, defaults included; the arguments were checked."""
        bound = self.signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in self.types:
                bound.arguments[name] = check_type(self.name, name, value, self.types[name])
        bound.apply_defaults()
        return dict(bound.arguments)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """Check the arguments of a caller and give them a key.

        An omitted default has the key of the same default given. Raises `InvalidError` for
        arguments that the constructor would refuse, and for a value that can't be distinguished
        from others.
        """
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidError(f"{self.name}(...): {error}; {self._takes()}") from None
        if self.uses_parameters:
            for name, value in bound.arguments.items():
                bound.arguments[name] = check_type(self.name, name, value, self.types[name])
        given_args, given_kwargs = bound.args, bound.kwargs
        bound.apply_defaults()
        found = fingerprint.of_value(self._in_order(bound), label=f"{self.name}(...)")
        if found.unreadable:
            raise self._unreadable(bound.arguments, found.unreadable)
        return Arguments(given_args, given_kwargs, found.digest)

    def _in_order(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        """Return the arguments by parameter. Keywords that ``**`` takes count in any order."""
        found = dict(bound.arguments)
        for parameter in self.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                found[parameter.name] = dict(sorted(found[parameter.name].items()))
        return found

    def _unreadable(self, given: Mapping[str, Any], unreadable: tuple[str, ...]) -> InvalidError:
        """Return an error that names the argument of which no digest can be made, and why."""
        from lifecycle_magic.wire.pickling import dumps  # cloudpickle takes a while to import

        what = explain_argument((), given, dumps) or next(
            (
                f"argument {name}=, a {type(value).__name__}, can't be compared with others"
                for name, value in given.items()
                if fingerprint.of_value(value).unreadable
            ),
            f"{', '.join(unreadable)} can't be compared with others",
        )
        return InvalidError(
            f"{self.name}(...): {what}. Fix: pass plain data, or create it in an @enter method"
        )

    def _takes(self) -> str:
        kind = "takes keyword arguments" if self.uses_parameters else "takes"
        return f"{self.name} {kind} {self.signature}"


def signature_without_self(function: Any) -> inspect.Signature:
    """Return the signature of a method as callers see it; C code without one takes anything."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return _ANY_ARGUMENTS
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


def _signature_of(fields: Mapping[str, Parameter]) -> inspect.Signature:
    """Return the signature of a class with `parameter` fields, which are given by name."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
            )
            for name, field in fields.items()
            if field.init
        ]
    )
