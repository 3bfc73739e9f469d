"""Images of a Docker engine: the base a recipe starts from, and the recipe built on it.

A build is parted at the steps that install Python packages. Those are done by the host's uv
(`docker_uv`) where it can, everything between them by the engine's classic build API.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Sequence

from lifecycle_magic.engines import docker_context, docker_progress, docker_python, docker_uv
from lifecycle_magic.engines.base import OnStep
from lifecycle_magic.engines.docker_api import image_id, inspect_image, tag_image
from lifecycle_magic.engines.docker_client import Clients, said
from lifecycle_magic.engines.docker_facts import Facts
from lifecycle_magic.engines.docker_names import tag
from lifecycle_magic.engines.telling import Told
from lifecycle_magic.exception import BuildError
from lifecycle_magic.image import Image
from lifecycle_magic.recipes.dockerfiles import PRIVATE_DOCKERFILE, Dockerfile
from lifecycle_magic.recipes.recipe import FileDigests, PipInstall


class Images:
    """The images of the engine that ``clients`` talk to. What it learns of a base it remembers."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._pythons: dict[str, int | None] = {}  # base image id → its Python 3's minor

    def find(self, key: str) -> str | None:
        """The id of the image that was kept under ``key``, or None."""
        return image_id(self._clients, tag(key))

    # --- where a recipe starts -------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """The id of the recipe's base; pulled if it is missing, with ``on_step`` told.

        ``anew`` builds a Dockerfile again, without the engine's cache. Raises `BuildError` if there
        is no such image.
        """
        if image.source is not None:
            return self._from_dockerfile(image.source, on_step, anew)
        return self._present(image.reference, on_step)

    def known_base(self, image: Image) -> str | None:
        """The same, or None if something would have to be pulled or built for it."""
        if image.source is None:
            return image_id(self._clients, image.reference)
        below = [image_id(self._clients, reference) for reference in image.source.images()]
        if None in below:
            return None
        return self.find(_key_of(image.source.key(), below))

    def _present(self, reference: str, on_step: OnStep | None) -> str:
        """The id of an image that is here, or is pulled now."""
        found = image_id(self._clients, reference)
        if found is not None:
            return found
        import docker.errors
        from docker.utils import parse_repository_tag

        if reference.startswith("sha256:"):
            raise docker_progress.no_such_base(reference, "an id can't be pulled")
        name, version = parse_repository_tag(reference)
        with self._clients.use(f"pull {reference}") as api:
            try:
                stream = api.pull(name, version or "latest", stream=True, decode=True)
                docker_progress.pulled(stream, reference, on_step)
            except docker.errors.APIError as error:
                raise docker_progress.no_such_base(reference, said(error)) from None
        found = image_id(self._clients, reference)
        if found is None:
            raise docker_progress.no_such_base(reference, "it was pulled, and is gone again")
        return found

    def _from_dockerfile(self, source: Dockerfile, on_step: OnStep | None, anew: bool) -> str:
        below = [self._present(reference, on_step) for reference in source.images()]
        told = source.key()
        key = _key_of(told, below)
        if not anew and (found := self.find(key)) is not None:
            return found
        with (
            tempfile.TemporaryFile() as context,
            self._clients.use(f"build {source.path}") as api,
        ):
            docker_context.of_dockerfile(source, context)
            if source.key() != told:
                raise BuildError(
                    f"build {source.path.name}: files of {source.context} changed while they were "
                    "read, so nothing was built: run it again when they are written"
                )
            stream = api.build(
                fileobj=context,
                custom_context=True,
                dockerfile=PRIVATE_DOCKERFILE,
                buildargs=dict(source.args),
                tag=tag(key),
                nocache=anew,
                rm=True,
                forcerm=True,
                decode=True,
            )
            return docker_progress.followed(stream, f"build {source.path.name}", on_step)

    # --- a recipe --------------------------------------------------------------------------

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None,
        facts: Facts,
    ) -> str:
        """Build the recipe, keep it under ``key``, return its id.

        ``files`` are the digests that went into the key: what is sent is checked against them.
        An exception in the calling thread, an interrupt too, ends the build and leaves no
        container; the steps that were done stay in the engine's cache. Raises `BuildError`.
        """
        of = len(image.steps)
        made = self.base_id(image)
        self._check_base(image, made, facts)
        done = 0
        anew = image.force
        for number, step in enumerate(image.steps):
            if not isinstance(step, PipInstall):
                continue
            if done < number:
                made = self._build(image, done, number, made, on_step, files)
                anew = anew or any(one.force for one in image.steps[done:number])
                done = number
            anew = anew or step.force
            told = Told(on_step, step.title(), number + 1, of)
            by_uv = docker_uv.install(self._clients, facts, step, made, told, anew=anew)
            if by_uv is not None:
                made, done = by_uv, number + 1
        if done < of or not image.steps:
            made = self._build(image, done, of, made, on_step, files)
        with self._clients.use("keep the image") as api:
            tag_image(api, made, tag(key))
        return made

    def _build(
        self,
        image: Image,
        first: int,
        end: int,
        base: str,
        on_step: OnStep,
        files: FileDigests | None,
    ) -> str:
        """Have the engine build the steps from ``first`` up to ``end`` on top of ``base``."""
        steps = image.steps[first:end]
        part = dataclasses.replace(image, steps=steps, force=image.force and first == 0)
        titles = [step.title() for step in steps]
        progress = docker_progress.Progress(titles, on_step, before=first, of=len(image.steps))
        with tempfile.TemporaryFile() as context:
            docker_context.of_recipe(part, base, context, files[first:end] if files else None)
            with self._clients.use("build the image") as api:
                for message in api.build(
                    fileobj=context, custom_context=True, rm=True, forcerm=True, decode=True
                ):
                    progress.feed(message)
        return progress.image()

    def _check_base(self, image: Image, base: str, facts: Facts) -> None:
        """Refuse a base that can't run a class; each is tried once."""
        with self._clients.use(f"try the Python of {image.reference}") as api:
            arch = inspect_image(api, base).get("Architecture") or ""
            if image.python is not None and arch == facts.arch:
                return  # Python's own image
            if base not in self._pythons:
                self._pythons[base] = docker_python.python_minor(api, base)
        docker_python.check_base(image, self._pythons[base], arch, facts.arch)


def _key_of(source: str, below: Sequence[str | None]) -> str:
    """The key of a Dockerfile's image, from the key of its text and files, and what is below."""
    return hashlib.sha256(json.dumps([source, below]).encode()).hexdigest()
