"""A user's function as a step of an image: it runs once, and the files it writes stay in the
image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType
from typing import Any

from lifecycle_magic.checks import pairs
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import fingerprint
from lifecycle_magic.fingerprint.fingerprint import Fingerprint
from lifecycle_magic.images.local_files import LocalFile
from lifecycle_magic.secret import Secret
from lifecycle_magic.wire.pickling import dumps
from lifecycle_magic.wire.unpicklable import explain_argument

__all__ = ["RunFunction"]


@dataclass(frozen=True, eq=False)
class RunFunction:
    """A call ``function(*args, **kwargs)`` that runs in a container of the image so far.

    ``options`` are those of ``@app.function`` that apply here; ``timeout`` is in seconds.
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
            raise InvalidError(
                f"{call}: secrets must be a list. Fix: secrets=[Secret.from_dict(...)]"
            )
        if not isinstance(volumes, Mapping):
            raise InvalidError(
                f"{call}: volumes must be a dict. "
                f"Fix: volumes={{'/data': Volume.from_name('data')}}"
            )
        pairs(f"{call}, env", dict(self.options.get("env") or {}))
        parts = fingerprint.of_value([list(self.args), dict(self.kwargs)], label="an argument")
        if parts.unreadable:
            what = explain_argument(self.args, self.kwargs, dumps)
            what = what or "an argument can't be compared with others"
            raise InvalidError(f"{call}: {what}. Fix: make it in the function")

    @property
    def name(self) -> str:
        """Return the function's name, which the card shows."""
        return str(self.function.__name__)

    @cached_property
    def print(self) -> Fingerprint:
        """Return the fingerprint of the function; computed once."""
        return fingerprint.of_function(self.function)

    @cached_property
    def parts(self) -> Mapping[str, str]:
        """Return digests of the function and of its options, by human-readable names.

        Of secrets only the names count: values may be renewed at any time, and must not be
        guessable from the stored digests. Of volumes only the mount paths count: their content
        can't be followed.
        """
        names = [one.names() for one in self.options.get("secrets") or ()]
        parts = {
            "its arguments": [list(self.args), dict(self.kwargs)],
            "its env": dict(self.options.get("env") or {}),
            "its secrets": sorted(name for found in names for name in found),
            "its volumes": sorted(map(str, self.options.get("volumes") or ())),
            "its gpu": self.options.get("gpu"),
        }
        given = {name: fingerprint.of_value(value).digest for name, value in parts.items()}
        return {**self.print.parts, **given}

    def key(self, below: str) -> str:
        """Return the key of the layer that the function makes on top of the layer with the key
        ``below``.
        """
        return fingerprint.of_value(["run_function", below, self.print.digest, self.parts]).digest

    def title(self) -> str:
        """Return a human-readable name of one line."""
        return f"{self.name}()"

    def files(self) -> Iterator[LocalFile]:
        """Yield nothing: what the function reads of this host travels with it."""
        return iter(())

    def written(self) -> str:
        """Return the call on `Image` that creates the step."""
        return f"run_function({self.name})"
