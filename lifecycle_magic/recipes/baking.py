"""A function of the user's as a step of an image: it runs once, and the files it writes stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType
from typing import Any

from lifecycle_magic.checks import pairs
from lifecycle_magic.digests import fingerprint
from lifecycle_magic.digests.fingerprint import Fingerprint
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.secret import Secret

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
        call = f"Image.run_function({self.name})"
        secrets, volumes = self.options.get("secrets") or [], self.options.get("volumes") or {}
        if not isinstance(secrets, (list, tuple)) or not all(
            isinstance(one, Secret) for one in secrets
        ):
            raise InvalidError(f"{call}: secrets must be a list: secrets=[Secret.from_dict(...)]")
        if not isinstance(volumes, Mapping):
            raise InvalidError(
                f"{call}: volumes must be a dict: volumes={{'/data': Volume.from_name('data')}}"
            )
        pairs(f"{call}, env", dict(self.options.get("env") or {}))
        told = fingerprint.of_value([list(self.args), dict(self.kwargs)], label="an argument")
        if told.unreadable:
            raise InvalidError(
                f"{call}: an argument can't travel to a container: make it in the function"
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
        """The same, and what of its options its files may depend on, by names for people.

        Of secrets only their names: a value may be renewed any day, and must not be guessed from
        what is kept. Of volumes where they are mounted: their content is nobody's to follow.
        """
        names = [one.names() for one in self.options.get("secrets") or ()]
        told = {
            "its arguments": [list(self.args), dict(self.kwargs)],
            "its env": dict(self.options.get("env") or {}),
            "its secrets": sorted(name for found in names for name in found),
            "its volumes": sorted(map(str, self.options.get("volumes") or ())),
            "its gpu": self.options.get("gpu"),
        }
        given = {name: fingerprint.of_value(value).digest for name, value in told.items()}
        return {**self.print.parts, **given}

    def key(self, below: str) -> str:
        """The key of the layer that it makes on top of the one with the key ``below``."""
        return fingerprint.of_value(["run_function", below, self.print.digest, self.parts]).digest

    def written(self) -> str:
        """The call on `Image` that makes it."""
        return f"run_function({self.name})"
