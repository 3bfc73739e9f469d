"""Values that containers get as environment variables and that nothing else may show.

They travel over the wire after the container has proved itself: they are in no image, no label, no
engine's record of a container, no log and no error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle_magic.checks import check_variables
from lifecycle_magic.exception import InvalidError

__all__ = ["Secret"]


@dataclass(frozen=True, repr=False)
class Secret:
    """Environment variables for a class's hooks and methods: ``secrets=[Secret.from_dict({...})]``.

    Its repr has the names, never the values.
    """

    _pairs: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None]) -> Secret:
        """The given names and values; a value of None is left out.

        >>> Secret.from_dict({"API_TOKEN": "..."})
        Secret(API_TOKEN)
        """
        given: object = env_dict
        if not isinstance(given, Mapping):
            raise InvalidError(
                f"Secret.from_dict takes a dict of texts, not {type(given).__name__}: "
                "write Secret.from_dict({'API_TOKEN': '...'})"
            )
        kept = tuple((name, value) for name, value in given.items() if value is not None)
        check_variables("Secret", kept)
        return cls(tuple(sorted(kept)))

    @classmethod
    def from_dotenv(
        cls, path: str | os.PathLike[str] | None = None, *, filename: str = ".env"
    ) -> Secret:
        """The variables of a ``.env`` file.

        ``path`` is the file itself, or where to look for ``filename``: there and in the folders
        above it. Without it the search starts at the current folder.
        """
        start = Path.cwd() if path is None else Path(path).expanduser().absolute()
        found = _find_dotenv(start, filename)
        if found is None:
            raise InvalidError(
                f"Secret.from_dotenv: no {filename} in {str(start)!r} or in a folder above it: "
                "make the file, or name another with Secret.from_dotenv(path)"
            )
        try:
            from dotenv import dotenv_values
        except ImportError:
            raise InvalidError(
                "Secret.from_dotenv needs the package python-dotenv: pip install python-dotenv"
            ) from None
        return cls.from_dict(dotenv_values(found))

    @classmethod
    def from_local_environ(cls, env_keys: Iterable[str]) -> Secret:
        """The named variables of this process, with the values they have now.

        >>> Secret.from_local_environ(["PATH"])
        Secret(PATH)
        """
        if isinstance(env_keys, str):
            raise InvalidError(
                "Secret.from_local_environ takes a list of names: "
                f"write from_local_environ([{env_keys!r}])"
            )
        names = list(env_keys)
        if missing := [name for name in names if name not in os.environ]:
            raise InvalidError(
                f"Secret.from_local_environ: not set here: {', '.join(missing)}: set them "
                "before the kernel starts, or with os.environ, or leave them out"
            )
        return cls.from_dict({name: os.environ[name] for name in names})

    @classmethod
    def from_name(cls, name: str, **_options: object) -> Secret:
        """Refused: there is no store of named secrets here."""
        raise InvalidError(
            f"Secret.from_name({name!r}): there is no store of secrets to look names up in: use "
            "Secret.from_local_environ(['NAME']), Secret.from_dotenv() or Secret.from_dict({...})"
        )

    def values(self) -> dict[str, str]:
        """The names and values, for the wire alone."""
        return dict(self._pairs)

    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(name for name, _ in self._pairs)

    def __repr__(self) -> str:
        return f"Secret({', '.join(self.names())})"


def _find_dotenv(start: Path, filename: str) -> Path | None:
    if start.is_file() and start.name.startswith(".env"):
        return start
    if start.is_file() and start.suffix == ".env":
        return start
    folder = start if start.is_dir() else start.parent
    return next((f / filename for f in (folder, *folder.parents) if (f / filename).is_file()), None)
