"""A failed deployment, kept so that the next call does not repeat a build that would fail again."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from lifecycle_magic.engines.base import Engine
from lifecycle_magic.errors.remote import alike
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images.image import Image
from lifecycle_magic.lifecycle.failed_classes import FailedClass
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.wire.exceptions import add_note

__all__ = ["FailedDeployment"]

RETRY_SECONDS = 60.0
"""Seconds after which a call builds again in a script, where no cell can be run again."""


@dataclass(frozen=True)
class FailedDeployment:
    """The declaration that failed, and its error.

    ``external_state`` is what the build depended on besides the declaration: local files and the
    base image. It is None for an error that is no failed build.
    """

    spec: ClassSpec
    error: Exception
    external_state: object
    failed_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, spec: ClassSpec, error: Exception, engine: Engine | None) -> FailedDeployment:
        """Return the failure of ``spec``, with the current state of the files that it reads."""
        external_state = None
        if isinstance(error, BuildError) and engine is not None:
            external_state = _read_external_state(spec, engine)
        return cls(spec, error, external_state)

    def record(self, service: str, engine: Engine | None) -> FailedClass:
        """Return what other processes may know of the failure; ``service`` is the class's key."""
        error = f"{type(self.error).__name__}: {self.error}"
        name = engine.name if engine is not None else ""
        return FailedClass(self.spec.name, service, name, time.time(), error)

    def would_fail_again(self, engine: Engine) -> bool:
        """Return whether a build failed and nothing that it depends on has changed since.

        A cause that passes by itself, such as a network failure, can't be detected here. Running
        the cell again builds again.
        """
        if self.external_state is None or (
            not _has_cells() and time.monotonic() - self.failed_at > RETRY_SECONDS
        ):
            return False
        return _read_external_state(self.spec, engine) == self.external_state

    def copy_error(self) -> BaseException:
        """Return a copy of the error for one more caller, with the way to build again."""
        error = alike(self.error)
        if isinstance(error, BuildError):
            seconds = time.monotonic() - self.failed_at
            wait = f"call again {RETRY_SECONDS:g} s after the failure"
            how = "run the cell again" if _has_cells() else wait
            add_note(error, f"This build failed {seconds:.0f} s ago. Fix: to retry it, {how}.")
        return error


def _read_external_state(spec: ClassSpec, engine: Engine) -> object:
    """Return the state of the files and the base image that a build of ``spec`` reads.

    Return None if they can't be read.
    """
    image = spec.options.image or Image.debian_slim()
    try:
        return (tuple(image.files()), engine.known_base(image))
    except Exception:  # a missing file, a stopped engine: the build itself reports it best
        return None


def _has_cells() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None
