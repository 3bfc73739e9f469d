"""All that the panel tells of a session, as frozen records: facts, and no words about them.

`classes` and `containers` look at what is there; what only events tell comes from the `Fold`. The
records go to the front end as JSON; ``js/src/types.ts`` has the same shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.history import Entry
from lifecycle_magic.options import Options
from lifecycle_magic.panel.fold import Fold, Step
from lifecycle_magic.panel.text import cut, plain
from lifecycle_magic.state import GONE, WARM, State

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container
    from lifecycle_magic.image import Image
    from lifecycle_magic.report import ExitHook
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session import Session
    from lifecycle_magic.spec import ClassSpec

__all__ = ["ClassFacts", "ContainerFacts", "Life", "classes", "containers", "live"]

MOST_CLASSES = 100
MOST_CONTAINERS = 200
MOST_GONE = 5
"""Containers of a class that are gone and still shown."""
LAST_LINES = 4000
"""Characters of the last output of a container that failed."""


@dataclass(frozen=True)
class Web:
    """An open address of a method that answers HTTP; never its token. ``link`` is how the user's
    browser gets there, as far as the kernel knows.
    """

    method: str
    port: int
    url: str
    link: str


@dataclass(frozen=True)
class ClassFacts:
    """A class with the options of one declaration. ``key`` is its name in the session; ``app`` is
    the name of its app, "" for a class of a cell or of an app without a name.

    ``declared``: nothing was deployed yet. ``most`` is how many containers it may have, for each of
    its ``pools``. ``p50`` and ``p99`` are seconds of its last calls, with three digits.
    """

    key: str
    name: str
    app: str
    variant: bool
    declared: bool
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
    build: tuple[Step, ...]
    steps: int
    web: tuple[Web, ...]


@dataclass(frozen=True)
class Exit:
    """An ``exit`` hook's run, with what it raised."""

    hook: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class ContainerFacts:
    """What of a container seldom changes. ``grace`` is seconds, ``cpu`` cores, ``memory`` MiB.

    ``ended`` is None as long as it is there; then ``exits`` and ``tail`` tell how it went.
    ``build_hook``: it only runs that for the image, and takes no calls.
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
class Life:
    """What of a container changes all the time. ``since`` is when it came into its state and
    ``call`` when the longest of its ``running`` calls began, in seconds since the epoch.
    """

    state: str
    since: float
    calls: int
    running: int
    call: float | None
    why: str


# --- classes -------------------------------------------------------------------------------------


def classes(session: Session, fold: Fold) -> tuple[ClassFacts, ...]:
    """Every class of the session, by name."""
    found = [_class(key, service, fold) for key, service in list(session.services.items())]
    return tuple(sorted(found, key=lambda one: (one.name, one.key))[:MOST_CLASSES])


def _class(key: str, service: Service, fold: Fold) -> ClassFacts:
    version = service.version
    spec = version.spec if version is not None else None
    pools = list(service.pools.values())
    took = list(service.stats.seconds.copy())
    build, steps = fold.build(key)
    return ClassFacts(
        key=key,
        name=service.name,
        app=service.app,
        variant="?" in key,
        declared=version is None,
        engine=version.engine.name if version is not None else "",
        image=_image(version.image) if version is not None else "",
        options=told_options(spec.options) if spec is not None else (),
        enter=spec.enter if spec is not None else (),
        exit=spec.exit if spec is not None else (),
        needs_arguments=spec is not None and _needs_arguments(spec),
        pools=len(pools),
        most=max((pool.limits.most for pool in pools), default=1),
        calls=service.stats.calls,
        failures=service.stats.failures,
        p50=percentile(took, 50),
        p99=percentile(took, 99),
        build=build,
        steps=steps,
        web=tuple(Web(one.where, one.port, one.url, one.link) for one in service.serving.served()),
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


def told_options(options: Options) -> tuple[str, ...]:
    """The options that are not at their defaults; of secrets and environment no value.

    >>> told_options(Options(cpu=2.0, memory=512, env={"TOKEN": "x"}))
    ('cpu=2', 'memory=512', 'env=TOKEN')
    """
    told = []
    for name in ("cpu", "memory", "gpu", "shm_size", "timeout", "startup_timeout", "exit_grace"):
        told += _told(options, name)
    for name in ("min_containers", "max_containers", "buffer_containers", "scaledown_window"):
        told += _told(options, name)
    if options.retries is not None:
        told.append(f"retries={options.retries.max_retries}")
    if options.block_network:
        told.append("block_network")
    told += [f"volume={path}" for path in options.volumes]
    if options.env:
        told.append(f"env={','.join(options.env)}")
    if options.secrets:
        told.append(f"secrets={len(options.secrets)}")
    return tuple(cut(text) for text in told[:20])


_DEFAULTS = Options()


def _told(options: Options, name: str) -> list[str]:
    value = getattr(options, name)
    if value == getattr(_DEFAULTS, name):
        return []
    return [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"]


def percentile(seconds: list[float], percent: int) -> float | None:
    """The percentile with three digits, so that noise alone sends nothing; None without calls.

    >>> percentile([0.123456], 50), percentile([], 50)
    (0.123, None)
    """
    if not seconds:
        return None
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return float(f"{cuts[percent - 1]:.3g}")


# --- containers ----------------------------------------------------------------------------------


def live(session: Session) -> dict[str, tuple[str, Container]]:
    """The containers of the session's pools by name, each with its class's key."""
    return {
        container.name: (key, container)
        for key, service in list(session.services.items())
        for container in service.containers()
    }


def containers(
    here: Iterable[tuple[str, Container]],
    gone: Sequence[Entry],
    keys: Collection[str],
    limits: Mapping[str, int],
    offset: float,
) -> tuple[tuple[ContainerFacts, ...], dict[str, Life]]:
    """Those that are here, the oldest first, and the last that are gone.

    ``keys`` are those of the classes that are shown, ``limits`` the memory limit (bytes) that the
    engine holds a container to. ``offset`` is what `time.monotonic` lacks to the seconds since the
    epoch.
    """
    facts: dict[str, ContainerFacts] = {}
    lives: dict[str, Life] = {}
    for key, container in sorted(here, key=lambda one: (one[1].began, one[1].name)):
        facts[container.name] = _facts(key, container, limits.get(container.name))
        lives[container.name] = _life(container, offset)
    shown: dict[str, int] = {}
    for entry in reversed(gone):
        count = shown.get(entry.service, 0)
        if entry.container in facts or entry.service not in keys or count >= MOST_GONE:
            continue
        if entry.build_hook and entry.state == State.EXITED.value:
            continue  # the build's steps tell of it
        shown[entry.service] = count + 1
        facts[entry.container] = _gone(entry)
        lives[entry.container] = Life(
            entry.state, round(entry.ended, 2), 0, 0, None, cut(entry.why)
        )
    kept = list(facts)[:MOST_CONTAINERS]
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


def _life(container: Container, offset: float) -> Life:
    state = container.state
    began = [slot.began for slot in container.slots if slot.input is not None]
    leaving = state not in WARM and state not in (State.BUILDING, State.STARTING, State.ENTERING)
    why = container.obituary() if state in GONE else container.why if leaving else ""
    return Life(
        state=state.value,
        since=round(container.since, 2),
        calls=container.calls,
        running=container.running,
        call=round(min(began) + offset, 2) if began else None,
        why=cut(why),
    )


def _gone(entry: Entry) -> ContainerFacts:
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
        tail=plain(entry.tail[-LAST_LINES:]) if failed else "",
        build_hook=entry.build_hook,
    )


def _exit(hook: ExitHook) -> Exit:
    error = None if hook.error is None else plain(hook.error[-LAST_LINES:])
    return Exit(hook.hook, round(hook.seconds, 3), error)
