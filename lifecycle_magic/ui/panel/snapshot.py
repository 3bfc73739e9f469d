"""A snapshot of the running containers as frozen records, from which ``ps`` makes its tables.

`of_session` reads this process's own session. `of_root` reads every session in the state folder,
whichever process owns it, from its run folders and from the engines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from lifecycle_magic.container import kept as waiting
from lifecycle_magic.container.kept import KeptContainer
from lifecycle_magic.container.record import ContainerRecord
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import run_files
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching
from lifecycle_magic.lifecycle import failed_classes
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.lifecycle.states import State
from lifecycle_magic.ui.panel import gpu_text, metrics
from lifecycle_magic.ui.panel.text import (
    Table,
    age,
    describe,
    error_summary,
    last_lines,
    seconds,
    size,
)

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.engines.base import Engine, Usage
    from lifecycle_magic.lifecycle.history import HistoryEntry
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session.session import Session

__all__ = [
    "NOTHING",
    "ContainerRow",
    "addresses",
    "damaged_folders",
    "failures",
    "kept",
    "kept_state",
    "of_root",
    "of_session",
    "run_folders",
    "table",
]

NOTHING = "no container is running: a cell with %%lifecycle_cls starts one"


@dataclass(frozen=True)
class ContainerRow:
    """One container, or a class without containers. A field is None if it is unknown.

    ``cls`` is the class's name, or its key in the session if another class has the same name.
    ``age`` is seconds since the start; ``p50`` and ``p95`` are call durations in seconds; ``cpu``
    is cores; ``memory`` and ``memory_limit`` are bytes; ``gpu`` is its GPUs and their use in words;
    ``owner`` is the pid of its session.
    ``failure`` is why its build or its last container failed, "" if neither did.
    """

    cls: str
    container: str
    engine: str
    state: str
    age: float | None = None
    calls: int | None = None
    failures: int | None = None
    p50: float | None = None
    p95: float | None = None
    cpu: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    gpu: str = ""
    owner: int | None = None
    failure: str = ""


@dataclass(frozen=True)
class RunFolder:
    """One container's run folder, of any session in the state folder."""

    path: Path
    session: str
    cls: str
    engine: str
    began: float
    owner: Owner | None

    @property
    def is_kept(self) -> bool:
        """Return whether the container waits for another kernel. Asks the container."""
        return self._kept() is not None

    def _kept(self) -> KeptContainer | None:
        record = KeepRecord.read(self.path)
        if record is None or record.owner.alive():
            return None
        return waiting.status(record)

    @property
    def container(self) -> str:
        """The name of the container."""
        return self.path.name

    def log(self, lines: int) -> str:
        """Return the last ``lines`` lines of the container's output."""
        text = ""
        for name in ("log.1", "log"):  # the older part first
            with contextlib.suppress(OSError):
                text += run_files.read_text(self.path / name)
        return last_lines(text, lines)


def of_session(session: Session) -> tuple[ContainerRow, ...]:
    """Return a row for each container of this session, and for each class without containers.

    Engines are asked in parallel what each container uses, so this takes as long as the slowest
    answer.
    """
    found: list[tuple[Container, Pool | None]] = []
    rows: list[ContainerRow] = []
    ended: dict[str, HistoryEntry] | None = (
        None  # the last one of each class, read when it is needed
    )
    services = list(session.services.values())
    names = [service.name for service in services]
    labels = {one.key: one.name if names.count(one.name) == 1 else one.key for one in services}
    for service in services:
        engine: str = service.version.engine.name if service.version is not None else ""
        pools = {c: pool for pool in list(service.pools.values()) for c in list(pool.containers)}
        here = [(c, pools.get(c)) for c in service.containers() if not c.is_spare]
        found += here
        if not here:
            state = "declared" if service.version is None else "cold"
            if ended is None:
                entries = session.history.entries()
                ended = {one.service: one for one in entries if one.session == session.id}
            if failed := _failure(service, ended.get(service.key)):
                state, engine = "failed", engine or service.engine
            rows.append(ContainerRow(labels[service.key], "", engine, state, failure=failed))
    if not found:
        return tuple(rows)
    with ThreadPoolExecutor(max_workers=min(8, len(found))) as workers:
        used = list(workers.map(metrics.usage, [container for container, _ in found]))
    gpus = gpu_text.of_containers([container for container, _ in found])
    now = time.time()
    live = [
        dataclasses.replace(
            _row(c, pool, usage, now),
            cls=labels.get(c.plan.service, c.plan.cls),
            gpu=gpus.get(c.name, ""),
        )
        for (c, pool), usage in zip(found, used, strict=True)
    ]
    return tuple(sorted((*live, *rows), key=lambda row: (row.cls, row.container)))


def _failure(service: Service, last: HistoryEntry | None) -> str:
    """Return why the build or the ``last`` container of a class without containers failed."""
    error = service.deployment_error
    if error is not None:
        return error_summary(describe(error))
    if last is None or last.state != State.FAILED.value:
        return ""
    return error_summary(f"{last.why}\n{last.tail}")


def failures(rows: tuple[ContainerRow, ...]) -> tuple[str, ...]:
    """Return lines with the reason of each failed class."""
    return tuple(
        line for row in rows if row.failure for line in f"{row.cls}: {row.failure}".splitlines()
    )


def addresses(session: Session) -> tuple[str, ...]:
    """Return a line for each open address of the session's methods that answer HTTP."""
    served = [
        one for service in list(session.services.values()) for one in service.serving.served()
    ]
    lines = (f"{one.where} answers at {one.link}" for one in served)
    return (*lines, *(f"warning: {one.warning}" for one in served if one.warning))


def _row(container: Container, pool: Pool | None, usage: Usage | None, now: float) -> ContainerRow:
    """Return the row of a container; ``pool`` is None if it is closed and the container exits."""
    took = sorted(pool.stats.seconds) if pool is not None else []
    cuts = quantiles(took, n=20, method="inclusive") if len(took) > 1 else took * 19
    return ContainerRow(
        cls=container.plan.cls,
        container=container.name,
        engine=f"{container.engine.name} {container.pending or container.place}".rstrip(),
        state=container.state.value,
        age=now - container.began,
        calls=container.calls,
        failures=pool.stats.failures if pool is not None else None,
        p50=cuts[9] if cuts else None,
        p95=cuts[18] if cuts else None,
        cpu=usage.cpu if usage else None,
        memory=usage.memory if usage else None,
        memory_limit=usage.memory_limit if usage else None,
    )


def run_folders(root: Path) -> list[RunFolder]:
    """Return every container's run folder in the state folder, the oldest first."""
    found = []
    for path in matching(root / "run", "*/[!.]*/"):
        try:
            card = ContainerRecord.read(path)
        except (OSError, ValueError):
            continue  # being created or removed
        owner = Owner.read(path.parent / "owner.json")
        record = KeepRecord.read(path)
        if record is not None and record.owner.alive():
            owner = record.owner  # it has adopted the container
        one = RunFolder(path, path.parent.name, card.cls, card.engine, card.began, owner)
        found.append(one)
    return sorted(found, key=lambda folder: folder.began)


def kept(root: Path) -> tuple[ContainerRow, ...]:
    """Return a row for each container that waits for the next kernel of its notebook."""
    now = time.time()
    rows = []
    for one in waiting.find_all(root):
        record = one.record
        try:
            began = ContainerRecord.read(record.run_dir).began
        except (OSError, ValueError):
            continue  # it is being removed
        rows.append(
            ContainerRow(
                record.cls, record.container, record.engine, kept_state(one), age=now - began
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.cls, row.container)))


def kept_state(one: KeptContainer) -> str:
    """Return the state of a container that waits, with the time that is left."""
    if one.left is None:
        return "kept, finishing a call"
    return f"kept, {age(one.left)} left"


def damaged_folders(session: Path) -> list[Path]:
    """Return the run folders of a session whose records exist but can't be read."""
    found = []
    for path in matching(session, "[!.]*/"):
        try:
            ContainerRecord.read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            found.append(path)
    return found


def of_root(root: Path, engine: Callable[[Any], Engine]) -> tuple[ContainerRow, ...]:
    """Return a row for each container of each session in the state folder ``root``, and for each
    class of a living session that failed and has no container.

    ``engine`` returns an engine by name; if it raises `EngineError`, the state is "unknown".
    """
    folders = run_folders(root)
    running: dict[str, frozenset[str] | None] = {}
    places: dict[str, str] = {}  # on engines of several machines
    for name in {folder.engine for folder in folders}:
        try:
            found = engine(name).containers()
            places |= {one.name: one.note or one.node for one in found}
            running[name] = frozenset(one.name for one in found if one.running)
        except EngineError:
            running[name] = None
    gpus = gpu_text.of_leases(root)
    now = time.time()
    rows = [
        ContainerRow(
            cls=folder.cls,
            container=folder.container,
            engine=f"{folder.engine} {places.get(folder.container, '')}".rstrip(),
            state=_state(folder, running[folder.engine]),
            age=now - folder.began,
            gpu=gpus.get(folder.container, ""),
            owner=folder.owner.pid if folder.owner is not None else None,
        )
        for folder in folders
    ]
    return (*rows, *_failed_classes(root, folders))


def _failed_classes(root: Path, folders: list[RunFolder]) -> list[ContainerRow]:
    """Return a row for each class of a living session whose build or last container failed."""
    owners = {
        path.parent.name: owner
        for path in matching(root / "run", "[!.]*/owner.json")
        if (owner := Owner.read(path)) is not None and owner.alive()
    }
    if not owners:
        return []
    found = {
        (session, one.service): ContainerRow(
            one.cls, "", one.engine, "failed", owner=owners[session].pid, failure=one.error
        )
        for session in owners
        for one in failed_classes.read_all(root / "run" / session)
    }
    ended = {
        (one.session, one.service): one
        for one in History(root).entries()
        if one.session in owners and not one.build_hook
    }
    running = {(folder.session, folder.cls) for folder in folders}
    for key, last in ended.items():
        if key in found or last.state != State.FAILED.value or (key[0], last.cls) in running:
            continue
        why = f"{last.why}\n{last.tail}"
        pid = owners[key[0]].pid
        found[key] = ContainerRow(last.cls, "", last.engine, "failed", owner=pid, failure=why)
    return [dataclasses.replace(row, failure=error_summary(row.failure)) for row in found.values()]


def _state(folder: RunFolder, running: frozenset[str] | None) -> str:
    if run_files.exists(folder.path / "report.json"):
        return "exited"
    if (one := folder._kept()) is not None:
        return kept_state(one)
    if running is None:
        return "unknown"
    if folder.container not in running:
        return "gone"
    return "running" if folder.owner is not None and folder.owner.alive() else "exiting"


_FIGURES = frozenset({"age", "calls", "failed", "p50", "p95", "cpu", "memory", "pid"})


def table(
    rows: tuple[ContainerRow, ...],
    empty: str = "no container is running",
    below: tuple[str, ...] = (),
) -> Table:
    """Return the rows as a table without empty columns."""
    columns: dict[str, list[str]] = {
        "class": [row.cls for row in rows],
        "container": [row.container for row in rows],
        "state": [row.state for row in rows],
        "engine": [row.engine for row in rows],
        "age": ["" if row.age is None else age(row.age) for row in rows],
        "calls": ["" if row.calls is None else str(row.calls) for row in rows],
        "failed": [str(row.failures) if row.failures else "" for row in rows],
        "p50": ["" if row.p50 is None else seconds(row.p50) for row in rows],
        "p95": ["" if row.p95 is None else seconds(row.p95) for row in rows],
        "cpu": ["" if row.cpu is None else f"{row.cpu:.2f}" for row in rows],
        "memory": [_memory(row) for row in rows],
        "gpu": [row.gpu for row in rows],
        "pid": ["" if row.owner is None else str(row.owner) for row in rows],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return Table(tuple(kept), tuple(zip(*kept.values(), strict=True)), _FIGURES, empty, below)


def _memory(row: ContainerRow) -> str:
    if row.memory is None:
        return ""
    limit = f" of {size(row.memory_limit)}" if row.memory_limit else ""
    return size(row.memory) + limit
