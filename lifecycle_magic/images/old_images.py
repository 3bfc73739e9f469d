"""Functions that made images in Modal before `Image` had them as methods."""

from __future__ import annotations

import os
from typing import Any

from lifecycle_magic.images.image import Image
from lifecycle_magic.modal_api.table import old_spelling

__all__ = ["Conda", "DebianSlim", "DockerfileImage", "DockerhubImage"]


def _debian_slim(python_version: str | None = None) -> Image:
    """Do what `Image.debian_slim` does."""
    old_spelling("modal", "DebianSlim")
    return Image.debian_slim(python_version)


def _conda(python_version: str | None = None) -> Image:
    """Do what `Image.micromamba` does."""
    old_spelling("modal", "Conda")
    return Image.micromamba(python_version)


def _from_registry(tag: str, **options: Any) -> Image:
    """Do what `Image.from_registry` does."""
    old_spelling("modal", "DockerhubImage")
    return Image.from_registry(tag, **options)


def _from_dockerfile(path: str | os.PathLike[str], **options: Any) -> Image:
    """Do what `Image.from_dockerfile` does."""
    old_spelling("modal", "DockerfileImage")
    return Image.from_dockerfile(path, **options)


DebianSlim = _debian_slim
Conda = _conda
DockerhubImage = _from_registry
DockerfileImage = _from_dockerfile
