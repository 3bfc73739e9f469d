"""The facts that the panel shows of a session, as frozen records without display text.

`classes` and `containers` read the session. The records go to the front end as JSON;
``js/src/types.ts`` declares the same shapes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Literal

from lifecycle_magic.building.build_steps import Builds, StepProgress
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.lifecycle.states import ENDED_STATES, WARM_STATES, State
from lifecycle_magic.spec.options import Options
from lifecycle_magic.ui.panel.text import cut, describe, error_summary, plain

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.lifecycle.report import ExitHook
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session.session import Session
    from lifecycle_magic.spec.class_spec import ClassSpec

__all__ = ["ClassFacts", "ContainerFacts", "LiveFacts", "classes", "containers", "live"]

MAX_CLASSES = 100
MAX_CONTAINERS = 200
MAX_STEPS = 40
"""Most steps of a build that are shown, the last ones."""
MAX_ENDED = 5
"""Most ended containers of a class that are still shown."""
TAIL_CHARS = 4000
"""Characters of the last output of a failed container."""


@dataclass(frozen=True)
class Web:
    """An open address of a method that answers HTTP, without its token.

    ``link`` is the URL for the user's browser, as far as the kernel knows. ``warning`` is empty, or
    reports that another user listens on an address that clients may try.
    """

    method: str
    port: int
    url: str
    link: str
    warning: str


@dataclass(frozen=True)
class StepFacts:
    """A step of the last image build, with its strings shortened to one line.

    ``began`` is in seconds since the epoch; ``seconds`` is the duration, None while the step runs;
    ``detail`` is its last line of output.
    """

    text: str
    status: Literal["running", "done", "cached", "failed"]
    began: float
    seconds: float | None = None
    detail: str = ""

    @classmethod
    def of(cls, step: StepProgress) -> StepFacts:
        """Return the facts of a step."""
        return cls(
            cut(" ".join(plain(step.text).split())),
            step.status,
            round(step.began, 2),
            None if step.seconds is None else round(step.seconds, 3),
            cut(plain(step.detail).strip()),
        )


@dataclass(frozen=True)
class ClassFacts:
    """A class with the options of one declaration.

    ``key`` is its key in the session; ``app`` is the name of its app, "" for a class of a cell or
    of an unnamed app. ``declared`` is true until the first deployment. ``failed`` is the
    error of a deployment that failed, shortened, "" without one. ``most`` is the largest
    number of containers in each of its ``pools``. ``p50`` and ``p99`` are durations of its last
    calls, in seconds with three digits.
    """

    key: str
    name: str
    app: str
    variant: bool
    declared: bool
    failed: str
    engine: str
    image: str
    options: tuple[str, ...]
    enter: tuple[str, ...]
    exit: tuple[str, ...]
    needs_arguments: bool
    pools: int
    most: int
    calls: int
    failures: int
    p50: float | None
    p99: float | None
    build: tuple[StepFacts, ...]
    steps: int
    web: tuple[Web, ...]


@dataclass(frozen=True)
class Exit:
    """The run of an ``exit`` hook, with the error that it raised."""

    hook: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class ContainerFacts:
    """The facts of a container that seldom change.

    ``grace`` is in seconds, ``cpu`` in cores, ``memory`` in MiB. ``ended`` is None until the
    container has exited; then ``exits`` and ``tail`` show how it ended. ``build_hook`` names the
    build hook that the container runs for the image; it then takes no calls.
    """

    name: str
    cls: str
    began: float
    grace: float
    cpu: float | None
    memory: int | None
    ended: float | None = None
    exits: tuple[Exit, ...] = ()
    tail: str = ""
    build_hook: str = ""


@dataclass(frozen=True)
class LiveFacts:
    """The facts of a container that often change.

    ``since`` is the time of its last change of state, and ``call`` the start of the longest of its
    ``running`` calls, in seconds since the epoch. ``gpu`` is its GPUs and their use in words.
    """

    state: str
    since: float
    calls: int
    running: int
    call: float | None
    why: str
    gpu: str = ""


# --- classes -------------------------------------------------------------------------------------


def classes(session: Session) -> tuple[ClassFacts, ...]:
    """Return the facts of every class of the session, sorted by name."""
    found = [
        _class(key, service, session.builds) for key, service in list(session.services.items())
    ]
    return tuple(sorted(found, key=lambda one: (_parts(one.name), one.key))[:MAX_CLASSES])


def _parts(name: str) -> list[tuple[str, int]]:
    """Return what a name is sorted by, with its numbers as numbers.

    >>> sorted(["K10", "K2", "A"], key=_parts)
    ['A', 'K2', 'K10']
    """
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{,9})", name)]


def _class(key: str, service: Service, builds: Builds) -> ClassFacts:
    version = service.version
    spec = version.spec if version is not None else None
    error = service.deployment_error
    pools = list(service.pools.values())
    took = list(service.stats.seconds.copy())
    build, steps = builds.last(key)
    return ClassFacts(
        key=key,
        name=service.name,
        app=service.app,
        variant="?" in key,
        declared=version is None,
        failed="" if error is None else error_summary(describe(error)),
        engine=version.engine.name if version is not None else "",
        image=_image(version.image) if version is not None else "",
        options=option_summary(spec.options) if spec is not None else (),
        enter=spec.enter if spec is not None else (),
        exit=spec.exit if spec is not None else (),
        needs_arguments=spec is not None and _needs_arguments(spec),
        pools=len(pools),
        most=max((pool.limits.most for pool in pools), default=1),
        calls=service.stats.calls,
        failures=service.stats.failures,
        p50=percentile(took, 50),
        p99=percentile(took, 99),
        build=tuple(StepFacts.of(step) for step in build[-MAX_STEPS:]),
        steps=steps,
        web=tuple(
            Web(one.where, one.port, one.url, one.link, one.warning)
            for one in service.serving.served()
        ),
    )


def _image(image: Image) -> str:
    steps = len(image.steps)
    return image.reference + (f" + {steps} step{'s' if steps > 1 else ''}" if steps else "")


def _needs_arguments(spec: ClassSpec) -> bool:
    try:
        spec.arguments((), {})
    except InvalidError:
        return True
    return False


def option_summary(options: Options) -> tuple[str, ...]:
    """Return the options that differ from their defaults, without values of secrets or variables.

    >>> option_summary(Options(cpu=2.0, memory=512, env={"TOKEN": "x"}))
    ('cpu=2', 'memory=512', 'env=TOKEN')
    """
    found = []
    for name in ("cpu", "memory", "gpu", "gpu_memory", "shm_size"):
        found += _described(options, name)
    for name in ("timeout", "startup_timeout", "exit_grace", "keep"):
        found += _described(options, name)
    for name in ("min_containers", "max_containers", "buffer_containers", "scaledown_window"):
        found += _described(options, name)
    if options.retries is not None:
        found.append(f"retries={options.retries.max_retries}")
    if options.block_network:
        found.append("block_network")
    found += [f"volume={path}" for path in options.volumes]
    if options.env:
        found.append(f"env={','.join(options.env)}")
    if options.secrets:
        found.append(f"secrets={len(options.secrets)}")
    return tuple(cut(text) for text in found[:20])


_DEFAULTS = Options()


def _described(options: Options, name: str) -> list[str]:
    value = getattr(options, name)
    if value == getattr(_DEFAULTS, name):
        return []
    return [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"]


def percentile(seconds: list[float], percent: int) -> float | None:
    """Return the percentile with three digits, so that noise alone sends nothing; None if empty.

    >>> percentile([0.123456], 50), percentile([], 50)
    (0.123, None)
    """
    if not seconds:
        return None
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return float(f"{cuts[percent - 1]:.3g}")


# --- containers ----------------------------------------------------------------------------------


def live(session: Session) -> dict[str, tuple[str, Container]]:
    """Return the containers of the session's pools by name, each with its class's key."""
    return {
        container.name: (key, container)
        for key, service in list(session.services.items())
        for container in service.containers()
    }


def containers(
    here: Iterable[tuple[str, Container]],
    gone: Sequence[HistoryEntry],
    keys: Collection[str],
    limits: Mapping[str, int],
    offset: float,
    gpus: Mapping[str, str],
) -> tuple[tuple[ContainerFacts, ...], dict[str, LiveFacts]]:
    """Return the facts of the running containers, oldest first, and of the last ended ones.

    ``keys`` are the keys of the shown classes; ``limits`` are the engine's memory limits in bytes,
    by container name. ``offset`` is the difference of the time since the epoch and
    `time.monotonic`, in seconds. ``gpus`` are the GPUs in words, by container name.
    """
    facts: dict[str, ContainerFacts] = {}
    lives: dict[str, LiveFacts] = {}
    for key, container in sorted(here, key=lambda one: (one[1].began, one[1].name)):
        facts[container.name] = _facts(key, container, limits.get(container.name))
        lives[container.name] = _life(container, offset, gpus.get(container.name, ""))
    shown: dict[str, int] = {}
    for entry in reversed(gone):
        count = shown.get(entry.service, 0)
        if entry.container in facts or entry.service not in keys or count >= MAX_ENDED:
            continue
        if entry.build_hook and entry.state == State.EXITED.value:
            continue  # the build's steps show it
        shown[entry.service] = count + 1
        facts[entry.container] = _gone(entry)
        lives[entry.container] = LiveFacts(
            entry.state, round(entry.ended, 2), 0, 0, None, cut(entry.why)
        )
    kept = list(facts)[:MAX_CONTAINERS]
    return tuple(facts[name] for name in kept), {name: lives[name] for name in kept}


def _facts(key: str, container: Container, limit: int | None) -> ContainerFacts:
    plan = container.plan
    return ContainerFacts(
        name=container.name,
        cls=key,
        began=round(container.began, 2),
        grace=plan.grace,
        cpu=plan.launch.cpu,
        memory=None if limit is None else round(limit / 2**20),
        build_hook=plan.build_hook,
    )


def _life(container: Container, offset: float, gpu: str) -> LiveFacts:
    state = container.state
    began = [slot.began for slot in container.slots if slot.input is not None]
    leaving = state not in WARM_STATES and state not in (
        State.BUILDING,
        State.STARTING,
        State.ENTERING,
    )
    why = (
        container.explain_exit()
        if state in ENDED_STATES
        else container.cause.reason
        if leaving
        else container.pending or container.place
    )
    return LiveFacts(
        state=state.value,
        since=round(container.since, 2),
        calls=container.calls,
        running=container.running,
        call=round(min(began) + offset, 2) if began else None,
        why=cut(why),
        gpu=cut(gpu),
    )


def _gone(entry: HistoryEntry) -> ContainerFacts:
    failed = entry.state == State.FAILED.value
    return ContainerFacts(
        name=entry.container,
        cls=entry.service,
        began=round(entry.began, 2),
        grace=0.0,
        cpu=None,
        memory=None,
        ended=round(entry.ended, 2),
        exits=tuple(_exit(hook) for hook in entry.hooks[:20]),
        tail=plain(entry.tail[-TAIL_CHARS:]) if failed else "",
        build_hook=entry.build_hook,
    )


def _exit(hook: ExitHook) -> Exit:
    error = None if hook.error is None else plain(hook.error[-TAIL_CHARS:])
    return Exit(hook.hook, round(hook.seconds, 3), error)
