"""Secrets and volumes of an image's step: the step has them while it runs, and no image keeps
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.checks import check_environment, check_mount_path
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.secret import Secret
from lifecycle_magic.volume import Volume

__all__ = ["NO_ACCESS", "StepAccess"]


@dataclass(frozen=True)
class StepAccess:
    """The secrets and the volumes, by their mount paths, that a step is given."""

    secrets: tuple[Secret, ...] = ()
    volumes: tuple[tuple[str, Volume], ...] = ()

    @classmethod
    def of(cls, call: str, secrets: Any = None, volumes: Any = None) -> StepAccess:
        """Return the access that a step's options ask for; raises `InvalidError`."""
        given = secrets if secrets is not None else []
        if not isinstance(given, list | tuple) or not all(isinstance(s, Secret) for s in given):
            raise InvalidError(
                f"{call}: secrets must be a list. Fix: secrets=[Secret.from_dict(...)]"
            )
        mounts = volumes if volumes is not None else {}
        if not isinstance(mounts, Mapping) or not all(
            isinstance(one, Volume) for one in mounts.values()
        ):
            raise InvalidError(
                f"{call}: volumes must be a dict. "
                f"Fix: volumes={{'/data': Volume.from_name('data')}}"
            )
        checked = {check_mount_path(path): volume for path, volume in mounts.items()}
        return cls(tuple(given), tuple(sorted(checked.items(), key=lambda one: one[0])))

    def __bool__(self) -> bool:
        return bool(self.secrets or self.volumes)

    def values(self) -> dict[str, str]:
        """Return the names and values of the secrets; raises `NotFoundError`."""
        found = {name: value for one in self.secrets for name, value in one.values().items()}
        check_environment("the secrets of a step", found)
        return found

    def parts(self) -> list[list[str]]:
        """Return what counts in a key: names of variables, and mount paths.

        Values may be renewed at any time and must not be guessable from a key; what a volume
        holds can't be followed.
        """
        names = sorted({name for one in self.secrets for name in one.names()})
        return [names, [path for path, _ in self.volumes]]

    def written(self) -> list[str]:
        """Return the options as they are written in a call; no value is shown."""
        found = [f"secrets={list(self.secrets)!r}"] if self.secrets else []
        return found + ([f"volumes={dict(self.volumes)!r}"] if self.volumes else [])


NO_ACCESS = StepAccess()
