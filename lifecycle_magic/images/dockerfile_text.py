"""A recipe as a Dockerfile and its context, in a folder for any engine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.recipe import Recipe, context_name, dockerfile
from lifecycle_magic.images.steps import SetEnv

__all__ = ["copy_files", "of_server"]

FOLDER = "/srv/app"
"""The folder of the server in the image."""


def of_server(image: Recipe, env: Mapping[str, str], port: int, *, builds: bool) -> str:
    """Return a Dockerfile that adds a server to the recipe.

    ``builds``: classes have build hooks. Raises `InvalidError` for a recipe that needs more than a
    Dockerfile.
    """
    _check(image)
    lines = [dockerfile(image, image.reference)]
    lines += [SetEnv(tuple(env.items())).instruction("")] if env else []
    lines += [f"COPY . {FOLDER}", "ENV PYTHONUNBUFFERED=1"]
    if builds:
        lines.append(f"RUN python3 {FOLDER}/server.py --build")
    lines += [f"EXPOSE {port}", f'CMD ["python3", "{FOLDER}/server.py"]']
    return "\n".join(lines) + "\n"


def copy_files(image: Recipe, folder: Path) -> None:
    """Copy the local files of the recipe's steps to where its Dockerfile expects them."""
    for index, step in enumerate(image.plain_steps()):
        for file in step.files():
            target = folder / context_name(index) / file.name if file.name else None
            target = target or folder / context_name(index)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                shutil.copy2(file.path, target)


def _check(image: Recipe) -> None:
    what = ""
    if image.source is not None:
        what = "starts from a Dockerfile of yours. Fix: add the server to that Dockerfile"
    elif image.functions:
        what = "runs functions (run_function). Fix: write them as @build hooks of the class"
    elif image.added_python is not None:
        what = "has add_python. Fix: start from an image that has Python"
    elif any(step.access.secrets or step.access.volumes for step in image.plain_steps()):
        what = "has steps that see secrets or volumes. Fix: export it without them"
    if what:
        raise InvalidError(f"the image {what}")
