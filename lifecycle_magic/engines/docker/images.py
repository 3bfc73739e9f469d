"""Images of a Docker engine: the base a recipe starts from, and the recipe built on it.

A build is parted at the steps that install Python packages and at those that see secrets or
volumes. The former are done by the host's uv (`uv_install`) where it can, the latter in a container
of their own (`container_step`), everything between them by the engine's classic build API. On
Podman all commands run in containers of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Sequence

from lifecycle_magic.engines.base import OnStep, StepOutput
from lifecycle_magic.engines.docker import (
    added_python,
    build_context,
    container_step,
    host_settings,
    image_python,
    uv_install,
)
from lifecycle_magic.engines.docker import progress as docker_progress
from lifecycle_magic.engines.docker.api import image_id, inspect_image, tag_image
from lifecycle_magic.engines.docker.client import Clients, message_of
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.names import tag
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images.dockerfiles import PRIVATE_DOCKERFILE, Dockerfile
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.package_steps import PipInstall
from lifecycle_magic.images.steps import FileDigests


class DockerImages:
    """The images of the engine that ``clients`` talk to. What it learns of a base it remembers."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._pythons: dict[str, int | None] = {}  # base image id → its Python 3's minor
        self._users: dict[str, str] = {}  # image id → its USER

    def find(self, key: str) -> str | None:
        """Return the id of the image that was kept under ``key``, or None."""
        return image_id(self._clients, tag(key))

    def user(self, image: str) -> str:
        """Return the ``USER`` of an image by its id, empty for none or if the image was removed."""
        import docker.errors

        if image not in self._users:
            with self._clients.use(f"describe the image {image[:19]}") as api:
                try:
                    config = inspect_image(api, image)["Config"] or {}
                except docker.errors.NotFound:
                    return ""  # the launch says so
                self._users[image] = config.get("User") or ""
        return self._users[image]

    # --- where a recipe starts -------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """Return the id of the recipe's base; pull it if it is missing, and report to ``on_step``.

        ``anew`` builds a Dockerfile again, without the engine's cache. Raises `BuildError` if there
        is no such image.
        """
        if image.source is not None:
            base = self._from_dockerfile(image.source, on_step, anew)
        else:
            base = self._present(image.reference, on_step)
        version = image.added_python
        if version is None:
            return base
        reporter = StepReporter(on_step, f"add Python {version}", 0, len(image.steps))
        return added_python.add(self._clients, base, version, self.find, reporter)

    def known_base(self, image: Image) -> str | None:
        """Return the same id, or None if something would have to be pulled or built for it."""
        if image.source is None:
            base = image_id(self._clients, image.reference)
        else:
            below = [image_id(self._clients, reference) for reference in image.source.images()]
            base = None if None in below else self.find(_key_of(image.source.key(), below))
        if base is None or image.added_python is None:
            return base
        key = added_python.key_of(base, image.added_python)
        return None if key is None else self.find(key)

    def _present(self, reference: str, on_step: OnStep | None) -> str:
        """Return the id of an image; pull it if it is missing."""
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
                docker_progress.follow_pull(stream, reference, on_step)
            except docker.errors.APIError as error:
                raise docker_progress.no_such_base(reference, message_of(error)) from None
        found = image_id(self._clients, reference)
        if found is None:
            raise docker_progress.no_such_base(reference, "it was pulled, but no longer exists")
        return found

    def _from_dockerfile(self, source: Dockerfile, on_step: OnStep | None, anew: bool) -> str:
        below = [self._present(reference, on_step) for reference in source.images()]
        source_key = source.key()
        key = _key_of(source_key, below)
        if not anew and (found := self.find(key)) is not None:
            return found
        with (
            tempfile.TemporaryFile() as context,
            self._clients.use(f"build {source.path}") as api,
        ):
            build_context.of_dockerfile(source, context)
            if source.key() != source_key:
                raise BuildError(
                    f"build {source.path.name}: files of {source.context} changed while they were "
                    "read, so nothing was built. Fix: run the cell again when they are complete"
                )
            stream = api.build(
                fileobj=context,
                custom_context=True,
                dockerfile=PRIVATE_DOCKERFILE,
                buildargs={**host_settings.of_build()[0], **dict(source.args)},
                tag=tag(key),
                nocache=anew,
                rm=True,
                forcerm=True,
                decode=True,
            )
            return docker_progress.follow_build(stream, f"build {source.path.name}", on_step)

    # --- a recipe --------------------------------------------------------------------------

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None,
        facts: Facts,
        below: str | None = None,
        *,
        shares_files: bool = True,
    ) -> str:
        """Build the recipe, keep it under ``key``, return its id.

        An engine that does not ``shares_files`` with this process gets no uv of this machine.
        It is built on top of the image ``below``, or else of the recipe's base.
        ``files`` are the digests that went into the key: what is sent is checked against them.
        An exception in the calling thread, an interrupt too, ends the build and leaves no
        container; the steps that were done stay in the engine's cache. Raises `BuildError`.
        """
        steps = image.plain_steps()
        of = len(steps)
        made = self.base_id(image) if below is None else below
        if below is None:
            self._check_base(image, made, facts)
        done = 0
        anew = image.force
        for number, step in enumerate(steps):
            # Podman's builder goes on with a command whose build was interrupted.
            alone = bool(step.access) or (facts.is_podman and container_step.can_run(step))
            if not isinstance(step, PipInstall) and not alone:
                continue
            if done < number:
                made = self._build(image, done, number, made, on_step, files)
                anew = anew or any(one.force for one in steps[done:number])
                done = number
            anew = anew or step.force
            reporter = StepReporter(on_step, step.title(), number + 1, of)
            apart = None
            if isinstance(step, PipInstall):
                apart = uv_install.install(
                    self._clients,
                    facts,
                    step,
                    made,
                    reporter,
                    anew=anew,
                    shares_files=shares_files,
                )
            if apart is None and alone:
                apart = container_step.run(self._clients, facts, step, made, reporter, anew=anew)
            if apart is not None:
                made, done = apart, number + 1
        if done < of or not steps:
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
        """Let the engine build the steps from ``first`` up to ``end`` on top of ``base``."""
        steps = image.plain_steps()[first:end]
        part = dataclasses.replace(image, steps=steps, force=image.force and first == 0)
        titles = [step.title() for step in steps]
        progress = docker_progress.BuildProgress(titles, on_step, before=first, of=len(image.steps))
        proxies, withheld = host_settings.of_build()
        for text in withheld if steps else ():
            on_step(StepOutput(first + 1, len(image.steps), "output", f"{text}\n"))
        with tempfile.TemporaryFile() as context:
            build_context.of_recipe(part, base, context, files[first:end] if files else None)
            with self._clients.use("build the image") as api:
                for message in api.build(
                    fileobj=context,
                    custom_context=True,
                    buildargs=proxies,
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    progress.feed(message)
        return progress.image()

    def _check_base(self, image: Image, base: str, facts: Facts) -> None:
        """Raise `BuildError` for a base that can't run a class; each base is tried once."""
        with self._clients.use(f"try the Python of {image.reference}") as api:
            arch = inspect_image(api, base).get("Architecture") or ""
            if image.python is not None and arch == facts.arch:
                return  # Python's own image
            if base not in self._pythons:
                self._pythons[base] = image_python.python_minor(api, base)
        image_python.check_base(image, self._pythons[base], arch, facts.arch)


def _key_of(source: str, below: Sequence[str | None]) -> str:
    """Return the key of a Dockerfile's image, from the key of its text and files, and its bases."""
    return hashlib.sha256(json.dumps([source, below]).encode()).hexdigest()
