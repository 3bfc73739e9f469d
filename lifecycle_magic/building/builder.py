"""The build of a class's image, layer by layer: the recipe, which `run_function` parts, then one
layer per ``@build`` hook.

Every layer has a key that identifies what it was made from, and the key of a layer includes the key
of the layer below. So the last key identifies the entire image: if the engine has it, nothing is
built, at the price of two questions to the engine. Otherwise the build starts above the topmost
layer that exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from lifecycle_magic.building import rebuild_reasons
from lifecycle_magic.building.build_log import BuildLog
from lifecycle_magic.engines.base import Engine, StepOutput
from lifecycle_magic.engines.output_tail import OutputTail
from lifecycle_magic.exception import (
    BuildError,
    ContainerDied,
    EngineError,
    InputCancelled,
    RemoteError,
    StartError,
)
from lifecycle_magic.host import disk_full
from lifecycle_magic.host.paths import file_name, private_folder, state_root
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.run_function import RunFunction
from lifecycle_magic.images.steps import FileDigests
from lifecycle_magic.lifecycle.states import BuildStep, Notice, Publish
from lifecycle_magic.spec.class_spec import ClassSpec

_Layer = Image | RunFunction | str  # a part of the recipe, or a function or hook that runs in it

RunHook = Callable[[str, Any, Callable[[str], None]], AbstractContextManager[str]]
"""``run_hook(image, hook, print)``, with the name of a hook or a `RunFunction`: yields a container
of ``image`` in which the hook has returned; the container lasts until the block ends. The hook's
output goes to ``print`` as it arrives, from any thread, and is complete when the block is left."""


@dataclass(frozen=True)
class BuiltImage:
    """The result of a build.

    ``image`` is its id, ``key`` identifies its content, ``base`` is the id of the recipe's base
    image. ``seconds`` is the duration; ``cached`` is set if all layers existed already.
    """

    image: str
    key: str
    base: str
    seconds: float
    cached: bool


def ensure(
    spec: ClassSpec,
    engine: Engine,
    run_hook: RunHook,
    publish: Publish,
    *,
    force: bool = False,
    need: Callable[[Iterable[str]], None] = lambda _: None,
    app: str = "",
    service: str = "",
) -> BuiltImage:
    """Return the image for ``spec``, a class of ``app``, with a layer for every build hook.

    Missing layers are built. ``need`` gets the keys and ids of all layers, each before it is looked
    up. ``publish`` gets a `BuildStep` for each action, and nothing if all layers exist; the steps
    carry ``service``, the key of the class in its session. ``force`` runs the hooks again. Two
    kernels that want the same layer build it once. Raises `BuildError` if a step or a hook fails,
    `EngineError` if the engine fails.
    """
    with disk_full.explain("build the image"):
        return _Build(spec, engine, run_hook, publish, need, app, service).run(force)


def layers_of(spec: ClassSpec, base: str) -> tuple[rebuild_reasons.Layer, ...]:
    """Return the layers of the image of ``spec`` on the base with id ``base``: names and
    digests.
    """
    image = spec.options.image or Image.debian_slim()
    hooks = [
        rebuild_reasons.Layer(f"{hook}()", spec.build_prints[hook].parts) for hook in spec.build
    ]
    found = [rebuild_reasons.Layer(f"the base image {image.reference}", {"id": base})]
    before, name = 0, "the recipe"
    for layer in image.layers():
        if isinstance(layer, RunFunction):
            found.append(rebuild_reasons.Layer(layer.title(), layer.parts))
            name = f"the recipe after {layer.title()}"
        else:
            found.append(rebuild_reasons.Layer(name, layer.digests(before)))
            before += len(layer.steps)
    return (*found, *hooks)


def reason(spec: ClassSpec, engine: Engine, app: str = "") -> str:
    """Return what changed with the last build of ``spec``'s class, or will with the next, as a
    string.

    Nothing is pulled or built.
    """
    kept = rebuild_reasons.last(engine.name, app, spec.name)
    if kept is None:
        return rebuild_reasons.describe(kept, spec.name)
    image = spec.options.image or Image.debian_slim()
    base = engine.known_base(image)
    new = layers_of(spec, base or kept.layers[0].parts.get("id", ""))
    reasons = list(rebuild_reasons.explain(kept.layers, new))
    if base is None:
        what = "is pulled" if image.source is None else "is built"
        reasons.insert(0, f"the base image {image.reference} {what}: this version is not here")
    if not reasons:
        return rebuild_reasons.describe(kept, spec.name)
    return "\n  ".join([f"{spec.name}: with the next call, unless it was built before", *reasons])


class _Build:
    def __init__(
        self,
        spec: ClassSpec,
        engine: Engine,
        run_hook: RunHook,
        publish: Publish,
        need: Callable[[Iterable[str]], None],
        app: str,
        service: str,
    ) -> None:
        self._spec = spec
        self._app = app
        self._image = spec.options.image or Image.debian_slim()
        self._engine = engine
        self._run_hook = run_hook
        self._publish = publish
        self._need = need
        self._log = BuildLog(engine.name, spec.name)
        self._service = service
        # The recipe's steps, and what runs in the image. The first layer is always steps.
        self._layers: tuple[_Layer, ...] = (*self._image.layers(), *spec.build)
        self._files: FileDigests = []
        # The steps of each layer, for progress: more if the engine adds steps of its own.
        self._counts = [len(one.steps) if isinstance(one, Image) else 1 for one in self._layers]

    def run(self, force: bool) -> BuiltImage:
        began = time.monotonic()
        try:
            base = self._engine.base_id(self._image, self._pulling, anew=self._image.force)
            self._files = self._image.files()
            keys = self._image.keys(base, self._files)
            for hook in self._spec.build:
                keys.append(self._spec.build_key(hook, keys[-1]))
            self._need([base, *keys])
            forced = self._forced(force)
            found, top = self._topmost(keys[:forced])
            layers = layers_of(self._spec, base)
            reasons = self._explain(layers, forced, top, len(keys))
            for layer in range(top + 1, len(keys)):
                found = self._make(layer, keys[layer], found, force=layer >= forced)
            if reasons:
                record = rebuild_reasons.Record(time.time(), layers, reasons)
                with contextlib.suppress(OSError):  # the build itself has succeeded
                    rebuild_reasons.keep(self._engine.name, self._app, self._spec.name, record)
        except BuildError as error:
            name, where = self._spec.name, ""
            if self._log.path is not None:
                where = f"\nAll of its output: %lifecycle logs {name} --build, {self._log.path}"
            raise BuildError(f"{name}: {error}{where}") from error.__cause__
        finally:
            self._log.close()
        assert found is not None
        self._need([found])
        return BuiltImage(found, keys[-1], base, time.monotonic() - began, top == len(keys) - 1)

    def _explain(
        self, layers: tuple[rebuild_reasons.Layer, ...], forced: int, top: int, count: int
    ) -> tuple[str, ...]:
        """Return what differs from the last build; publish it if a layer has to be built."""
        before = rebuild_reasons.last(self._engine.name, self._app, self._spec.name)
        reasons = rebuild_reasons.explain(before.layers if before else None, layers)
        if top == count - 1:
            return (*reasons, "all layers exist from an earlier build") if reasons else ()
        if forced < count:
            layer = self._layers[forced]
            name = "the recipe" if isinstance(layer, Image) else f"{_name(layer)}()"
            reasons = (*reasons, f"{name} runs again: a forced build was requested")
        if not reasons:
            reasons = ("it was built before, but the engine no longer has it",)
        if before is not None:
            for reason in reasons:
                self._publish(Notice(self._spec.name, reason, time.time(), service=self._service))
        return reasons

    def _forced(self, force: bool) -> int:
        """Return the lowest layer that is built again although it exists, with all layers
        above it.
        """
        marks = self._spec.build_marks
        for number, layer in enumerate(self._layers):
            if isinstance(layer, Image):
                forced = layer.forced
            elif isinstance(layer, RunFunction):
                forced = force or layer.force
            else:
                forced = force or marks[layer].force
            if forced:
                return number
        return len(self._layers)

    def _topmost(self, keys: list[str]) -> tuple[str | None, int]:
        """Return the image and the index in ``keys`` of the highest existing layer, or None
        and -1.
        """
        for layer in range(len(keys) - 1, -1, -1):
            if (image := self._engine.find(keys[layer])) is not None:
                return image, layer
        return None, -1

    def _make(self, layer: int, key: str, below: str | None, *, force: bool) -> str:
        """Build one layer on top of the image ``below`` and return its image."""
        outdated = self._engine.find(key) if force else None
        with self._locked(key):
            # The previous holder of the lock may have built it.
            image = self._engine.find(key)
            if image is not None and image != outdated:
                return image
            steps = self._layers[layer]
            if not isinstance(steps, Image):
                assert below is not None  # the first layer is always steps
                return self._run(layer, steps, key, below)
            files = self._files[self._steps_before(layer) :][: len(steps.steps)]

            def building(output: StepOutput) -> None:
                self._counts[layer] = output.of
                self._report(layer, output)

            return self._engine.build(steps, key, building, files, below)

    def _steps_before(self, layer: int) -> int:
        """Return how many of the recipe's steps and functions are below ``layer``."""
        below = self._layers[:layer]
        return sum(len(one.steps) if isinstance(one, Image) else 1 for one in below)

    def _run(self, layer: int, hook: str | RunFunction, key: str, below: str) -> str:
        name = _name(hook)
        began = time.monotonic()

        tail = OutputTail()

        def report(
            status: Literal["running", "output", "done", "failed"], text: str = f"{name}()"
        ) -> None:
            seconds = time.monotonic() - began if status in ("done", "failed") else None
            self._report(layer, StepOutput(1, 1, status, text, seconds))

        def on_output(text: str) -> None:
            tail.add(text)
            report("output", text)

        report("running")
        try:
            with self._run_hook(below, hook, on_output) as container:
                image = self._engine.commit(container, key)
        except BaseException as error:
            report("failed")
            ours = (BuildError, EngineError, StartError, InputCancelled)
            if isinstance(error, ours) or not isinstance(error, Exception):
                raise
            what = "@build hook" if isinstance(hook, str) else "image's function"
            # The message of a container that died already ends with its last lines.
            lines = [] if isinstance(error, ContainerDied) else tail.lines()
            described = _describe(error) + "".join(f"\n  {line}" for line in lines)
            described += disk_full.fix_line(described, disk_full.HOOK_FIX)
            raise BuildError(f"its {what} {name}() failed: {described}") from error
        report("done")
        return image

    # --- reporting -------------------------------------------------------------------------

    def _pulling(self, output: StepOutput) -> None:
        # Pulling comes before the recipe's first step.
        self._report(0, StepOutput(0, 0, output.status, output.text, output.seconds))

    def _report(self, layer: int, output: StepOutput) -> None:
        step = BuildStep(
            cls=self._spec.name,
            step=sum(self._counts[:layer]) + output.step,
            of=sum(self._counts),
            status=output.status,
            text=output.text,
            at=time.time(),
            seconds=output.seconds,
            service=self._service,
        )
        self._log.take(step)
        self._publish(step)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key`` against other kernels and threads.

        The operating system releases it when the process ends, even if it is killed. Its file
        stays, empty: removing it would let a third process lock another file of the same name.
        """
        folder = private_folder(state_root() / "locks")
        with (folder / f"{file_name(self._engine.name)}-{key[:40]}").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._publish(
                    Notice(
                        self._spec.name,
                        f"{self._spec.name}: waiting for another kernel that builds the same image",
                        time.time(),
                        service=self._service,
                    )
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _name(hook: str | RunFunction) -> str:
    return hook if isinstance(hook, str) else hook.name


def _describe(error: Exception) -> str:
    """Return what a hook raised, with its type unless the message already has it."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"{type(error).__name__}: {error}"
