"""A recipe for an image as data: its base, its steps, its layers and their keys.

`Image` (in `lifecycle_magic.images.image`) adds the methods that users write.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from typing import TypeVar

from lifecycle_magic.images import local_files
from lifecycle_magic.images.dockerfiles import Dockerfile
from lifecycle_magic.images.run_function import RunFunction
from lifecycle_magic.images.steps import FileDigests, Step, Workdir
from lifecycle_magic.volume import Volume

__all__ = ["KERNEL_PYTHON", "Recipe", "context_name", "dockerfile"]

R = TypeVar("R", bound="Recipe")

# Increase it when the same recipe comes to mean another image.
_RECIPE_VERSION = 1

KERNEL_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version of this kernel's Python."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """A base and the steps on top of it.

    ``python`` is the minor version of `Image.debian_slim`, and None for another base.
    """

    reference: str
    python: str | None = None
    steps: tuple[Step | RunFunction, ...] = ()
    source: Dockerfile | None = None
    python_sources: tuple[str, ...] = ()
    force: bool = False
    added_python: str | None = None
    command_shell: tuple[str, ...] = ()

    def files(self) -> FileDigests:
        """Return the digests of the added local files, step by step; the files are read now."""
        return [local_files.digests(step.files()) for step in self.steps]

    def key(self, base_id: str, files: FileDigests | None = None) -> str:
        """Return 64 hexadecimal digits that differ from those of every other image.

        ``base_id`` is the engine's id of the base; ``files`` is an earlier result of `files`, by
        default its current one.
        """
        return self.keys(base_id, self.files() if files is None else files)[-1]

    def keys(self, base_id: str, files: FileDigests) -> list[str]:
        """Return the key of each of `layers`, which includes the keys of those below."""
        found, below, first = [], base_id, 0
        for layer in self.layers():
            end = first + (1 if isinstance(layer, RunFunction) else len(layer.steps))
            if isinstance(layer, RunFunction):
                below = layer.key(below)
            else:
                below = layer._key_of_steps(below, files[first:end])
            found.append(below)
            first = end
        return found

    def _key_of_steps(self, below: str, files: FileDigests) -> str:
        parts: list[object] = [_RECIPE_VERSION, dockerfile(self, below), *files]
        steps = enumerate(self.plain_steps())
        parts += [[number, step.access.parts()] for number, step in steps if step.access]
        if self.source is not None:
            parts.append(self.source.key())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def layers(self: R) -> tuple[R | RunFunction, ...]:
        """Return what is built one on top of the other: functions, and the steps between them.

        The first is always an image, perhaps without steps.
        """
        found: list[R | RunFunction] = []
        first = 0
        for number, step in enumerate((*self.steps, None)):
            if step is not None and not isinstance(step, RunFunction):
                continue
            if first < number or not found:
                force = self.force and not found
                found.append(replace(self, steps=self.steps[first:number], force=force))
            if step is not None:
                found.append(step)
            first = number + 1
        return tuple(found)

    def plain_steps(self) -> tuple[Step, ...]:
        """Return the steps without the functions."""
        return tuple(step for step in self.steps if not isinstance(step, RunFunction))

    def volumes(self) -> tuple[Volume, ...]:
        """Return the volumes that steps and functions of the image are given."""
        found = [volume for step in self.plain_steps() for _, volume in step.access.volumes]
        for function in self.functions:
            found += (function.options.get("volumes") or {}).values()
        return tuple(found)

    def digests(self, before: int = 0) -> dict[str, str]:
        """Return a digest (hex) of each step, by its number and title; local files are read now.

        The first step is number ``before + 1``.
        """
        found = {}
        for number, step in enumerate(self.plain_steps(), before + 1):
            parts: list[object] = [step.instruction(""), *local_files.digests(step.files())]
            parts += step.access.parts() if step.access else []
            digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            found[f"step {number}, {step.title()} (step)"] = digest
        return found

    @property
    def functions(self) -> tuple[RunFunction, ...]:
        """Return the functions that run in it, in their order."""
        return tuple(step for step in self.steps if isinstance(step, RunFunction))

    @property
    def forced(self) -> bool:
        """Return whether ``force_build`` is set on the base, a step or a function."""
        return self.force or any(step.force for step in self.steps)

    @property
    def python_version(self) -> str:
        """Return the version of Python of `debian_slim`, as it was given."""
        return self.reference.removeprefix("python:").removesuffix("-slim")

    @property
    def other_python(self) -> str | None:
        """Return the minor version of Python in the image if it is not the kernel's: None if it is
        not known before the image is built, an empty string if it is the kernel's.
        """
        found = self.python
        if self.added_python is not None:
            found = ".".join(self.added_python.split(".")[:2])
        return "" if found == KERNEL_PYTHON else found

    def known_workdir(self) -> str:
        """Return the working folder that a step sets, or an empty string."""
        found = [step.path for step in self.steps if isinstance(step, Workdir)]
        return found[-1] if found else ""

    def with_steps(self: R, *steps: Step | RunFunction) -> R:
        """Return the image with further steps."""
        return replace(self, steps=(*self.steps, *steps)) if steps else self

    def __repr__(self) -> str:
        if self.source is not None:
            start = self.source.written()
        elif self.python is None:
            start = f"Image.from_registry({self.reference!r}"
        else:
            start = f"Image.debian_slim({self.python_version!r}"
        start += f", add_python={self.added_python!r}" if self.added_python else ""
        start += ", force_build=True)" if self.force else ")"
        sources = [f"add_local_python_source({name!r})" for name in self.python_sources]
        return "\n    .".join([start, *(step.written() for step in self.steps), *sources])


def context_name(index: int) -> str:
    """Return the name of the folder for the files of step ``index`` in the build context."""
    return f"step-{index}"


def dockerfile(image: Recipe, base: str) -> str:
    """Return the Dockerfile of ``image`` on top of ``base`` (a reference or an id): a line per
    step.

    >>> from lifecycle_magic import Image
    >>> print(dockerfile(Image.debian_slim().run_commands("make"), "python:3.11-slim"))
    FROM python:3.11-slim
    RUN ["/bin/sh", "-c", "make"]
    """
    lines = [f"FROM {base}"]
    steps = image.plain_steps()
    lines += [step.instruction(context_name(i)) for i, step in enumerate(steps)]
    return "\n".join(lines) + "\n"
