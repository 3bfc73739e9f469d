"""From a class to the image its containers run in: the recipe, then a layer per ``@build`` hook.

Every layer has a key that says what it was made from, and the key of a layer is made from the key
of the one below. So the last key stands for all: where the engine has it, nothing is done, at the
price of two questions to the engine. Where it has not, work starts above the topmost layer that is
there.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from lifecycle_magic import full
from lifecycle_magic.engines.base import Engine, StepOutput
from lifecycle_magic.exception import (
    BuildError,
    ContainerDied,
    EngineError,
    InputCancelled,
    RemoteError,
    StartError,
)
from lifecycle_magic.image import Image
from lifecycle_magic.paths import private_folder, state_root
from lifecycle_magic.recipes.baking import RunFunction
from lifecycle_magic.recipes.recipe import FileDigests
from lifecycle_magic.services import why
from lifecycle_magic.services.buildlog import BuildLog
from lifecycle_magic.spec import ClassSpec
from lifecycle_magic.state import BuildStep, Notice, Publish

RunHook = Callable[[str, Any, Callable[[str], None]], AbstractContextManager[str]]
"""``run_hook(image, hook, print)``, with a hook's name or a `RunFunction`: a container of ``image``
in which it has returned; the container lasts as long as the block. What the hook prints goes to
``print`` as it comes, from any thread, and all of it has come when the block is left."""

_LAST_LINES = 20
_KEPT = 8000  # characters of a hook's output, for its last lines


@dataclass(frozen=True)
class Built:
    """An image, its key, the id of what its recipe starts from, how long it took in seconds, and
    whether all of it was there already.
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
) -> Built:
    """The image for ``spec``, a class of ``app``, with every build hook's layer.

    It is built as far as it is missing. ``need`` gets keys and ids of all layers, each before it is
    looked for. ``publish`` gets a `BuildStep` for whatever is done, and nothing when all is there;
    they carry ``service``, the key of the class in its session. ``force`` runs the hooks again. Two
    kernels that want the same layer make it once. Raises `BuildError` for a step or a hook that
    fails, `EngineError` for an engine that does.
    """
    with full.explained("build the image"):
        return _Build(spec, engine, run_hook, publish, need, app, service).run(force)


def layers_of(spec: ClassSpec, base: str) -> tuple[why.Layer, ...]:
    """What the image of ``spec`` is made from, on the base with id ``base``: names and digests."""
    image = spec.options.image or Image.debian_slim()
    hooks = [why.Layer(f"{hook}()", spec.build_prints[hook].parts) for hook in spec.build]
    steps = why.Layer("the recipe", image.digests())
    functions = [why.Layer(f"{one.name}()", one.parts) for one in image.functions]
    start = why.Layer(f"the base image {image.reference}", {"id": base})
    return (start, steps, *functions, *hooks)


def reason(spec: ClassSpec, engine: Engine, app: str = "") -> str:
    """What changed with the last build of ``spec``'s class, or would with the next, for people.

    It only looks: nothing is pulled or built.
    """
    kept = why.last(engine.name, app, spec.name)
    if kept is None:
        return why.told(kept, spec.name)
    image = spec.options.image or Image.debian_slim()
    base = engine.known_base(image)
    new = layers_of(spec, base or kept.layers[0].parts.get("id", ""))
    reasons = list(why.explain(kept.layers, new))
    if base is None:
        what = "is pulled" if image.source is None else "is built"
        reasons.insert(0, f"the base image {image.reference} {what}: it is not here as it is now")
    if not reasons:
        return why.told(kept, spec.name)
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
        # What runs in the image, layer by layer.
        self._hooks: tuple[str | RunFunction, ...] = (*self._image.functions, *spec.build)
        self._files: FileDigests = []
        self._steps = len(self._image.steps)  # more where the engine has steps of its own

    def run(self, force: bool) -> Built:
        began = time.monotonic()
        try:
            base = self._engine.base_id(self._image, self._pulling, anew=self._image.force)
            self._files = self._image.files()
            keys = [self._image.recipe().key(base, self._files)]
            for hook in self._hooks:
                keys.append(self._key(hook, keys[-1]))
            self._need([base, *keys])
            forced = self._forced(force)
            found, top = self._topmost(keys[:forced])
            layers = layers_of(self._spec, base)
            reasons = self._explain(layers, forced, top, len(keys))
            for layer in range(top + 1, len(keys)):
                found = self._make(layer, keys[layer], found, force=layer >= forced)
            if reasons:
                record = why.Record(time.time(), layers, reasons)
                with contextlib.suppress(OSError):  # the image is there, and that is what counts
                    why.keep(self._engine.name, self._app, self._spec.name, record)
        except BuildError as error:
            name, where = self._spec.name, ""
            if self._log.path is not None:
                where = f"\nAll of its output: %lifecycle logs {name} --build, {self._log.path}"
            raise BuildError(f"{name}: {error}{where}") from error.__cause__
        finally:
            self._log.close()
        assert found is not None
        self._need([found])
        return Built(found, keys[-1], base, time.monotonic() - began, top == len(keys) - 1)

    def _explain(
        self, layers: tuple[why.Layer, ...], forced: int, top: int, count: int
    ) -> tuple[str, ...]:
        """What is not as in the last build; said in the card if something has to be made."""
        before = why.last(self._engine.name, self._app, self._spec.name)
        reasons = why.explain(before.layers if before else None, layers)
        if top == count - 1:
            return (*reasons, "all of it was there, from an earlier build") if reasons else ()
        if forced < count:
            name = f"{_name(self._hooks[forced - 1])}()" if forced else "the recipe"
            reasons = (*reasons, f"{name} runs again: it was asked for")
        if not reasons:
            reasons = ("it was built before, and the engine has it no more",)
        if before is not None:
            for reason in reasons:
                self._publish(Notice(self._spec.name, reason, time.time()))
        return reasons

    def _forced(self, force: bool) -> int:
        """The lowest layer that is made again though it is there; those above it are too."""
        if self._image.forced:
            return 0
        marks = self._spec.build_marks
        for number, hook in enumerate(self._hooks, 1):
            marked = hook.force if isinstance(hook, RunFunction) else marks[hook].force
            if force or marked:
                return number
        return len(self._hooks) + 1

    def _key(self, hook: str | RunFunction, below: str) -> str:
        if isinstance(hook, RunFunction):
            return hook.key(below)
        return self._spec.build_key(hook, below)

    def _topmost(self, keys: list[str]) -> tuple[str | None, int]:
        """The highest layer that is there: its image and its place in ``keys``, or None and -1."""
        for layer in range(len(keys) - 1, -1, -1):
            if (image := self._engine.find(keys[layer])) is not None:
                return image, layer
        return None, -1

    def _make(self, layer: int, key: str, below: str | None, *, force: bool) -> str:
        """Layer 0 is the recipe, layer n is the function or hook n."""
        outdated = self._engine.find(key) if force else None
        with self._alone(key):
            # Who held the lock until now may have made it.
            image = self._engine.find(key)
            if image is not None and image != outdated:
                return image
            if below is None:
                return self._engine.build(self._image, key, self._building, self._files)
            return self._run(layer, key, below)

    def _run(self, number: int, key: str, below: str) -> str:
        hook = self._hooks[number - 1]
        name = _name(hook)
        began = time.monotonic()

        tail = ""

        def tell(
            status: Literal["running", "output", "done", "failed"], text: str = f"{name}()"
        ) -> None:
            seconds = time.monotonic() - began if status in ("done", "failed") else None
            self._tell(StepOutput(self._steps + number, self._steps, status, text, seconds))

        def printed(text: str) -> None:
            nonlocal tail
            tail = (tail + text)[-_KEPT:]
            tell("output", text)

        tell("running")
        try:
            with self._run_hook(below, hook, printed) as container:
                image = self._engine.commit(container, key)
        except BaseException as error:
            tell("failed")
            ours = (BuildError, EngineError, StartError, InputCancelled)
            if isinstance(error, ours) or not isinstance(error, Exception):
                raise
            what = "@build hook" if isinstance(hook, str) else "image's function"
            # One that died with its container has its last lines in its message.
            lines = [] if isinstance(error, ContainerDied) else tail.splitlines()[-_LAST_LINES:]
            told = _told(error) + "".join(f"\n  {line}" for line in lines)
            told += full.mend(told, full.HOOK)
            raise BuildError(f"its {what} {name}() failed: {told}") from error
        tell("done")
        return image

    # --- telling ---------------------------------------------------------------------------

    def _building(self, output: StepOutput) -> None:
        self._steps = output.of
        self._tell(output)

    def _pulling(self, output: StepOutput) -> None:
        # It comes before the recipe's first step.
        self._tell(StepOutput(0, self._steps, output.status, output.text, output.seconds))

    def _tell(self, output: StepOutput) -> None:
        step = BuildStep(
            cls=self._spec.name,
            step=output.step,
            of=output.of + len(self._hooks),
            status=output.status,
            text=output.text,
            at=time.time(),
            seconds=output.seconds,
            service=self._service,
        )
        self._log.take(step)
        self._publish(step)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key`` against other kernels and threads.

        The operating system gives it back when the process ends, however that happens. Its file
        stays, empty: removing it would let a third take another lock of the same name.
        """
        folder = private_folder(state_root() / "locks")
        with (folder / f"{self._engine.name}-{key[:40]}").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._publish(
                    Notice(
                        self._spec.name,
                        f"{self._spec.name}: waiting for another kernel that makes the same image",
                        time.time(),
                    )
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _name(hook: str | RunFunction) -> str:
    return hook if isinstance(hook, str) else hook.name


def _told(error: Exception) -> str:
    """What a hook raised, with its type unless the message has it."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"{type(error).__name__}: {error}"
