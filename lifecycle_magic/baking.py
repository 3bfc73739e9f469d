"""A function of the user's as a step of an image: it runs once, and the files it writes stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType
from typing import Any

from lifecycle_magic import fingerprint
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import Fingerprint

__all__ = ["RunFunction"]


@dataclass(frozen=True, eq=False)
class RunFunction:
    """``function(*args, **kwargs)``, run in a container of the image so far.

    ``options`` are those of ``@app.function`` that make sense here; ``timeout`` is seconds.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.function, FunctionType) or self.function.__name__ == "<lambda>":
            raise InvalidError(
                f"Image.run_function takes a function written with def, not {self.function!r}"
            )
        told = fingerprint.of_value([list(self.args), dict(self.kwargs)], label="an argument")
        if told.unreadable:
            raise InvalidError(
                f"Image.run_function({self.name}): an argument can't travel to a container: make "
                "it in the function"
            )

    @property
    def name(self) -> str:
        """What it is called in the card."""
        return str(self.function.__name__)

    @cached_property
    def print(self) -> Fingerprint:
        """What the function and its arguments are made of; computed once."""
        return fingerprint.of_function(self.function)

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """The same, by names for people."""
        given = fingerprint.of_value([list(self.args), dict(self.kwargs)]).digest
        return {**self.print.parts, "its arguments": given}

    def key(self, below: str) -> str:
        """The key of the layer that it makes on top of the one with the key ``below``."""
        return fingerprint.of_value(["run_function", below, self.print.digest, self.parts]).digest

    def written(self) -> str:
        """The call on `Image` that makes it."""
        return f"run_function({self.name})"
