"""The fingerprint of a build hook: its code, and the environment variables that it can read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import MappingProxyType

from lifecycle_magic.fingerprint import fingerprint
from lifecycle_magic.fingerprint.fingerprint import Fingerprint
from lifecycle_magic.spec.options import Options

__all__ = ["of_hook"]


def of_hook(cls: type, members: Iterable[str], options: Options) -> Fingerprint:
    """Return the fingerprint of these members of ``cls``: the hook and the constructor.

    It covers the values of ``env`` and the names of secrets.
    """
    code = fingerprint.of_members(cls, members, variables=options.variables)
    around = _environment(options)
    if not around:
        return code
    digest = fingerprint.of_value([code.digest, *around.values()]).digest
    return dataclasses.replace(
        code, digest=digest, parts=MappingProxyType({**code.parts, **around})
    )


def _environment(options: Options) -> dict[str, str]:
    """Return what a hook sees in ``os.environ``, as parts; values of secrets are not included."""
    names = sorted(name for secret in options.secrets for name in secret.values())
    seen = {f"{name} (env)": value for name, value in sorted(options.env.items())}
    if names:
        seen["secrets (option)"] = " ".join(names)
    return {part: fingerprint.of_value([part, value]).digest for part, value in seen.items()}
