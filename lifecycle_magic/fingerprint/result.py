"""What reading code returns: digests by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Fingerprint"]


@dataclass(frozen=True)
class Fingerprint:
    """The digest (hex), the parts that it consists of, and what could not be read.

    ``parts`` maps a human-readable name (``"LIMIT (constant)"``, ``"helper() (function)"``) to the
    digest of that part. ``members`` are the names on the class (``within``) that were reached,
    ``modules`` the files of the modules next to the notebook, by name.
    """

    digest: str
    parts: Mapping[str, str]
    unreadable: tuple[str, ...]
    members: frozenset[str] = frozenset()
    modules: Mapping[str, str] = field(default_factory=dict)
