"""Images that this state folder pushed to registries, so that `prune` can remove it again.

A registry is shared: only images that were pushed from here are removed, and a node that misses one
has it pushed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lifecycle_magic.host.paths import private_folder, state_root
from lifecycle_magic.host.private_file import write_private

__all__ = ["note", "remove_unused"]

_SECONDS = 10.0
"""Seconds that a registry has for an answer."""


class Pushed(NamedTuple):
    """A pushed image: its id on the engine, and the reference by which nodes pull it."""

    record: Path
    image: str
    reference: str


def note(image: str, reference: str) -> None:
    """Record that the image with this id was pushed as ``reference``."""
    folder = private_folder(_folder())
    name = hashlib.sha256(reference.encode()).hexdigest()[:24]
    write_private(folder / f"{name}.json", json.dumps({"image": image, "reference": reference}))


def remove_unused(is_there: Callable[[str], bool]) -> list[str]:
    """Remove from registries the pushed images that ``is_there`` denies; return what was done.

    The records of images that a registry did not remove stay, for the next time.
    """
    removed = []
    for pushed in _all():
        if is_there(pushed.image):
            continue
        if failure := _delete(pushed.reference):
            removed.append(f"nothing of {pushed.reference}: {failure}")
            continue
        pushed.record.unlink(missing_ok=True)
        removed.append(f"image {pushed.reference} of the registry")
    return removed


def _folder() -> Path:
    return state_root() / "pushed"


def _all() -> Iterator[Pushed]:
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(_folder())):
            path = _folder() / name
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # half, or gone
                record = json.loads(path.read_text())
                yield Pushed(path, str(record["image"]), str(record["reference"]))


def _delete(reference: str) -> str:
    """Delete a manifest by its digest; return why that failed, empty if it is gone.

    https://distribution.github.io/distribution/spec/api/#deleting-an-image
    """
    import docker.auth
    import docker.errors
    import requests

    repository, _, digest = reference.partition("@")
    host, _, path = repository.partition("/")
    try:
        known = docker.auth.load_config().resolve_authconfig(host) or {}
    except docker.errors.DockerException:  # a credential helper that fails
        known = {}
    password = (known.get("username") or "", known.get("password") or "")
    failure = ""
    # As an engine does: TLS first. No password goes over a connection without it.
    for scheme, login in (("https", password if any(password) else None), ("http", None)):
        try:
            answer = requests.delete(
                f"{scheme}://{host}/v2/{path}/manifests/{digest}",
                auth=login,
                timeout=_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            failure = failure or f"the registry at {host} did not answer ({type(error).__name__})"
            continue
        if answer.status_code in (202, 404):
            return ""
        if answer.status_code == 405:
            return (
                f"the registry at {host} allows no deletion. Fix: start it with "
                "REGISTRY_STORAGE_DELETE_ENABLED=true"
            )
        return f"the registry at {host} answered {answer.status_code} {answer.reason}"
    return failure
