"""Values that containers get as environment variables and that appear nowhere else.

They travel over the connection after the container has authenticated itself: they are in no image,
no label, no engine's record of a container, no log and no error.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from lifecycle_magic.callers.methods_with_aio import with_aio
from lifecycle_magic.checks import check_variables, host_path
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host import secret_store
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import check_keywords, refuse_members

__all__ = ["Secret"]


@dataclass(frozen=True, repr=False)
class Secret:
    """Environment variables for a class's hooks and methods: ``secrets=[Secret.from_dict({...})]``.

    Its repr shows the names, never the values.

    >>> Secret.from_dict({"API_TOKEN": "..."})
    Secret(API_TOKEN)
    """

    _pairs: tuple[tuple[str, str], ...] = field(default=())
    _name: str | None = None  # in the store
    _required: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None] = MappingProxyType({})) -> Secret:
        """Return a secret of the given names and values; a value of None is omitted.

        Raises `InvalidError` for names and values that no environment variable can have.

        >>> Secret.from_dict({"API_TOKEN": "..."})
        Secret(API_TOKEN)
        """
        given: object = env_dict
        if not isinstance(given, Mapping):
            raise InvalidError(
                f"Secret.from_dict takes a dict of strings, not {type(given).__name__}. "
                "Fix: write Secret.from_dict({'API_TOKEN': '...'})"
            )
        kept = tuple((name, value) for name, value in given.items() if value is not None)
        check_variables("Secret", kept)
        return cls(tuple(sorted(kept)))

    @classmethod
    def from_dotenv(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        filename: str = ".env",
        **of_modal: object,
    ) -> Secret:
        """Return a secret of the variables in a ``.env`` file.

        ``path`` is the file itself, or the folder where the search for ``filename`` starts: it goes
        on in the folders above. Without ``path`` the search starts at the current folder. Raises
        `InvalidError` if there is no such file.

        >>> Secret.from_dotenv()  # doctest: +SKIP
        Secret(API_TOKEN)
        """
        check_keywords("Secret.from_dotenv", of_modal, ("path", "filename"))
        start = Path.cwd() if path is None else host_path("Secret.from_dotenv", path)
        found = _find_dotenv(start, filename)
        if found is None:
            raise InvalidError(
                f"Secret.from_dotenv: no {filename} in {str(start)!r} or in a folder above it. "
                "Fix: create the file, or name another with Secret.from_dotenv(path)"
            )
        try:
            from dotenv import dotenv_values
        except ImportError:
            raise InvalidError(
                "Secret.from_dotenv needs the package python-dotenv. Fix: pip install python-dotenv"
            ) from None
        return cls.from_dict(dotenv_values(found))

    @classmethod
    def from_local_environ(cls, env_keys: Iterable[str]) -> Secret:
        """Return a secret of the named variables of this process, with their current values.

        Raises `InvalidError` if one of them is not set.

        >>> Secret.from_local_environ(["PATH"])
        Secret(PATH)
        """
        if isinstance(env_keys, str):
            raise InvalidError(
                "Secret.from_local_environ takes a list of names. "
                f"Fix: write from_local_environ([{env_keys!r}])"
            )
        names = list(env_keys)
        if missing := [name for name in names if name not in os.environ]:
            raise InvalidError(
                f"Secret.from_local_environ: not set here: {', '.join(missing)}. Fix: set them "
                "before the kernel starts, or with os.environ, or omit them"
            )
        return cls.from_dict({name: os.environ[name] for name in names})

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        required_keys: Iterable[str] = (),
        **of_modal: object,
    ) -> Secret:
        """Return the secret that ``lifecycle-magic secret create`` stored under ``name``.

        It is read when a container starts. Where nothing is stored, the variables
        ``required_keys`` are taken from this process's environment; if one is missing, the first
        call raises `NotFoundError` with the command that stores the secret. Raises
        `InvalidError` for a name that can't be one.

        >>> Secret.from_name("huggingface", required_keys=["HF_TOKEN"])
        Secret.from_name('huggingface')
        """
        check_keywords("Secret.from_name", of_modal, ("required_keys",))
        if isinstance(required_keys, str):
            raise InvalidError(
                "Secret.from_name takes a list of names as required_keys. "
                f"Fix: write required_keys=[{required_keys!r}]"
            )
        return cls((), secret_store.check_name(name), tuple(required_keys))

    def values(self) -> dict[str, str]:
        """Return the names and values. Only the connection to a container uses it.

        Raises `NotFoundError` for a named secret that is not stored, or lacks a required key.
        """
        if self._name is None:
            return dict(self._pairs)
        stored = secret_store.read(self._name)
        found = stored
        if found is None and self._required:
            found = {key: os.environ[key] for key in self._required if key in os.environ}
            _warn_once(self._name, found)
        missing = [key for key in self._required if key not in (found or {})]
        if found is None or missing:
            lacks = f" has no {', '.join(missing)}" if stored is not None else " is not stored here"
            keys = " ".join(f"{key}=..." for key in missing) or "KEY=VALUE"
            raise NotFoundError(
                f"Secret.from_name({self._name!r}): the secret{lacks}. "
                f"Fix: lifecycle-magic secret create {self._name} {keys}"
            )
        return found

    def is_stored(self) -> bool:
        """Return whether `values` can be read now."""
        try:
            self.values()
        except NotFoundError:
            return False
        return True

    def names(self) -> tuple[str, ...]:
        """Return the names, sorted; of a named secret that can't be read the required ones."""
        if self._name is None:
            return tuple(name for name, _ in self._pairs)
        return tuple(sorted(self.values() if self.is_stored() else self._required))

    @property
    def name(self) -> str | None:
        """The name of a stored secret, None for another one."""
        return self._name

    @with_aio
    def hydrate(self, client: object = None) -> Secret:
        """Return the secret: a stored one is read when a container starts."""
        return self

    lookup = OldMember(looks_up)
    objects: ClassVar[SecretObjects]

    def __repr__(self) -> str:
        if self._name is not None:
            return f"Secret.from_name({self._name!r})"
        return f"Secret({', '.join(self.names())})"


class SecretObjects:
    """The stored secrets of this user: `Secret.objects`."""

    @with_aio
    def list(self, /, *, max_objects: int | None = None, **of_modal: object) -> list[Secret]:
        """Return the stored secrets, at most ``max_objects``."""
        check_keywords("Secret.objects.list", of_modal, ("max_objects",))
        return [Secret.from_name(name) for name in secret_store.names()[:max_objects]]

    @with_aio
    def create(
        self,
        /,
        name: str,
        env_dict: Mapping[str, str],
        *,
        allow_existing: bool = False,
        **of_modal: object,
    ) -> None:
        """Store a secret. Raises `InvalidError` if there is one, unless ``allow_existing``, which
        keeps that one.
        """
        check_keywords("Secret.objects.create", of_modal, ("env_dict", "allow_existing"))
        values = Secret.from_dict(env_dict).values()
        if secret_store.read(name) is None:
            secret_store.create(name, values)
        elif not allow_existing:
            raise InvalidError(
                f"Secret.objects.create: a secret {name!r} is stored already. "
                "Fix: give another name, or allow_existing=True"
            )

    @with_aio
    def delete(self, /, name: str, *, allow_missing: bool = False, **of_modal: object) -> None:
        """Remove a stored secret. Raises `NotFoundError` if there is none, unless
        ``allow_missing``.
        """
        check_keywords("Secret.objects.delete", of_modal, ("allow_missing",))
        if not secret_store.delete(name) and not allow_missing:
            raise NotFoundError(
                f"Secret.objects.delete: no secret {name!r} is stored. "
                "Fix: check the name, or give allow_missing=True"
            )


Secret.objects = SecretObjects()
refuse_members(Secret)

_warned: set[str] = set()


def _warn_once(name: str, found: Mapping[str, str]) -> None:
    """Warn, once for each secret, that its variables are those of this process."""
    if found and name not in _warned:
        _warned.add(name)
        warnings.warn(
            f"Secret.from_name({name!r}) is not stored here: {', '.join(sorted(found))} of this "
            f"process's environment is used. lifecycle-magic secret create {name} stores it",
            stacklevel=2,
        )


def _find_dotenv(start: Path, filename: str) -> Path | None:
    if start.is_file() and start.name.startswith(".env"):
        return start
    if start.is_file() and start.suffix == ".env":
        return start
    folder = start if start.is_dir() else start.parent
    return next((f / filename for f in (folder, *folder.parents) if (f / filename).is_file()), None)
