"""The process engine's images: a virtual environment and a snapshot folder for each."""

from __future__ import annotations

import dataclasses
import hashlib

from lifecycle_magic.engines.base import OnStep, VolumeMount
from lifecycle_magic.engines.process import interpreters, mounts, run_steps
from lifecycle_magic.engines.process.commands import Commands
from lifecycle_magic.engines.process.interpreters import Interpreter
from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.engines.process.store import ImageRecord, Store, copy_tree, write
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import disk_full
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.steps import FileDigests, RunCommand

__all__ = ["ProcessImages"]


class ProcessImages:
    """The images in ``store``, whose steps run by ``commands``."""

    def __init__(self, store: Store, commands: Commands) -> None:
        self._store = store
        self._commands = commands

    def base_id(self, image: Image, on_step: OnStep | None) -> str:
        """Return a digest of the host's Python and of whether the snapshot has absolute paths.

        Fetches the Python if it is missing.
        """
        return self._id_of(interpreters.fetch_if_missing(image.python_version, on_step))

    def known_base(self, image: Image) -> str | None:
        """Return the same id, or None if a Python would have to be fetched for it."""
        found = interpreters.find(image.python_version)
        return None if found is None else self._id_of(found)

    def _id_of(self, python: Interpreter) -> str:
        # Sandboxed or not decides what an absolute path in a build step means.
        digest = hashlib.sha256(python.digest_text.encode()).hexdigest()
        return f"{digest}-{'sandboxed' if self._commands.sandboxed else 'plain'}"

    def build(
        self, image: Image, key: str, on_step: OnStep, files: FileDigests | None, below: str | None
    ) -> str:
        """Build environment and snapshot from the recipe, on top of the image ``below`` if there is
        one. Raises `BuildError` or `EngineError`.
        """
        store, python = self._store, interpreters.fetch_if_missing(image.python_version, on_step)
        with (
            disk_full.explain("build the image"),
            store.making("images", key) as folder,
            store.new_venv() as venv,
        ):
            start = run_steps.StepsResult(folder / "root", venv, python)
            if below is None:
                start.root.mkdir(mode=0o700)
            else:
                start = self._copy_of(below, start, image)

            def prepare(step: RunCommand, made: run_steps.StepsResult) -> run_steps.PreparedCommand:
                remove_tree(str(folder / "volumes"))  # ephemeral ones of an earlier step
                used = [VolumeMount(path, volume) for path, volume in step.access.volumes]
                binds = mounts.make(store, folder, folder, used)
                return self._commands.of_step(step.script, made, binds)

            made = run_steps.run_steps(image, start, prepare, on_step, files, new=below is None)
            remove_tree(str(folder / "volumes"))
            record = ImageRecord(
                venv=made.venv.name, prefixes=python.prefixes, env=made.env, workdir=made.workdir
            )
            write(folder / "image.json", record)
            store.replace(folder, store.place("images", key))
        return key

    def _copy_of(
        self, below: str, made: run_steps.StepsResult, image: Image
    ) -> run_steps.StepsResult:
        """Copy the image ``below`` to the folders of ``made`` and return the start of a build.

        Its environment is copied only if a step can change it.
        """
        store = self._store
        parent = store.image(below)
        if parent is None:
            raise EngineError(
                f"the image {below} no longer exists. Fix: run the cell again to build it"
            )
        copy_tree(store.place("images", below) / "root", made.root)
        venv = store.place("venvs", parent.venv)
        if run_steps.change_environment(image):
            copy_tree(venv, made.venv)
            venv = made.venv
        return dataclasses.replace(made, venv=venv, env=parent.env, workdir=parent.workdir)

    def commit(self, container: str, key: str) -> str:
        """Copy the instance's files as the snapshot of a new image; its environment is shared."""
        store = self._store
        instance = store.instance(container)
        parent = None if instance is None else store.image(instance.image)
        if instance is None or parent is None:
            raise EngineError(
                f"{container} or its image no longer exists, so its files can't be kept"
            )
        with disk_full.explain("keep the files"), store.making("images", key) as folder:
            copy_tree(store.place("instances", container) / "root", folder / "root")
            write(folder / "image.json", parent)
            store.replace(folder, store.place("images", key))
        return key
