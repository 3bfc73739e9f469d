"""Docker's contexts: engines that the user has given a name with ``docker context create``."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["config_folder", "endpoint", "tls_folder"]


def config_folder() -> Path:
    """Return the folder of the configuration of Docker's client."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def endpoint(name: str) -> dict[str, Any] | None:
    """Return the record of the engine of the context ``name``; None if there is no such context.

    Its ``Host`` is a string.
    """
    path = config_folder() / "contexts" / "meta" / _digest(name) / "meta.json"
    try:
        found = json.loads(path.read_text())["Endpoints"]["docker"]
        return dict(found) if isinstance(found["Host"], str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def tls_folder(name: str) -> Path:
    """Return the folder for the certificates of the context ``name``, which may be missing."""
    return config_folder() / "contexts" / "tls" / _digest(name) / "docker"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
