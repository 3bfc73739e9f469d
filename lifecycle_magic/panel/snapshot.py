"""What runs, at one moment, as frozen facts; the tables of ``ps`` are made from nothing else.

`of_session` looks at this process's own session. `of_root` looks at every session below the state
root, whichever process owns it: by what lies in the run folders and what the engines have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import EngineError
from lifecycle_magic.owner import Owner
from lifecycle_magic.panel import metrics
from lifecycle_magic.panel.text import Table, age, last_lines, seconds, size

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container
    from lifecycle_magic.engines.base import Engine, Usage
    from lifecycle_magic.pools.pool import Pool
    from lifecycle_magic.session import Session

__all__ = ["NOTHING", "Row", "addresses", "of_root", "of_session", "run_folders", "table"]

NOTHING = "nothing runs: a cell with %%lifecycle_cls starts something"


@dataclass(frozen=True)
class Row:
    """One container, or a class that has none. None is "not known here".

    ``cls`` is the class's name, or its key in the session where another one has that name too.
    ``age`` is seconds since it began; ``p50`` and ``p95`` are seconds of its class's calls; ``cpu``
    is cores; ``memory`` and ``memory_limit`` are bytes; ``owner`` is the pid of its session.
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
    owner: int | None = None


@dataclass(frozen=True)
class RunFolder:
    """One container's run folder, of any session below the state root."""

    path: Path
    session: str
    cls: str
    engine: str
    began: float
    owner: Owner | None

    @property
    def container(self) -> str:
        """The container's name."""
        return self.path.name

    def log(self, lines: int) -> str:
        """The last ``lines`` lines of what it printed."""
        text = ""
        for name in ("log.1", "log"):  # the older part first
            with contextlib.suppress(OSError):
                text += (self.path / name).read_text(errors="replace")
        return last_lines(text, lines)


def of_session(session: Session) -> tuple[Row, ...]:
    """A row for each container of this session, and for each class without one.

    Asks the engines what each container uses, all at once: it takes as long as the slowest answer.
    """
    found: list[tuple[Container, Pool | None]] = []
    rows: list[Row] = []
    services = list(session.services.values())
    names = [service.name for service in services]
    told = {one.key: one.name if names.count(one.name) == 1 else one.key for one in services}
    for service in services:
        engine = service.version.engine.name if service.version is not None else ""
        pools = {c: pool for pool in list(service.pools.values()) for c in list(pool.containers)}
        here = [(c, pools.get(c)) for c in service.containers() if not c.is_spare]
        found += here
        if not here:
            state = "declared" if service.version is None else "cold"
            rows.append(Row(told[service.key], "", engine, state))
    if not found:
        return tuple(rows)
    with ThreadPoolExecutor(max_workers=min(8, len(found))) as workers:
        used = list(workers.map(metrics.usage, [container for container, _ in found]))
    now = time.time()
    live = [
        dataclasses.replace(_row(c, pool, usage, now), cls=told.get(c.plan.service, c.plan.cls))
        for (c, pool), usage in zip(found, used, strict=True)
    ]
    return tuple(sorted((*live, *rows), key=lambda row: (row.cls, row.container)))


def addresses(session: Session) -> tuple[str, ...]:
    """A line for each open address of the session's methods that answer HTTP."""
    served = [
        one for service in list(session.services.values()) for one in service.serving.served()
    ]
    return tuple(f"{one.where} answers at {one.link}" for one in served)


def _row(container: Container, pool: Pool | None, usage: Usage | None, now: float) -> Row:
    """``pool`` is None where it was closed, and the container is on its way out."""
    took = sorted(pool.stats.seconds) if pool is not None else []
    cuts = quantiles(took, n=20, method="inclusive") if len(took) > 1 else took * 19
    return Row(
        cls=container.plan.cls,
        container=container.name,
        engine=container.engine.name,
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
    """Every container's run folder below the state root, the oldest first."""
    found = []
    for path in (root / "run").glob("*/[!.]*/"):
        try:
            card: dict[str, Any] = json.loads((path / "card.json").read_text())
            owner = Owner.read(path.parent / "owner.json")
            began = float(card["began"])
            one = RunFolder(path, path.parent.name, card["cls"], card["engine"], began, owner)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being made, or being removed
        found.append(one)
    return sorted(found, key=lambda folder: folder.began)


def of_root(root: Path, engine: Callable[[Any], Engine]) -> tuple[Row, ...]:
    """A row for each container of each session below ``root``.

    ``engine`` returns an engine by name; where it raises `EngineError` the state stays unknown.
    """
    folders = run_folders(root)
    running: dict[str, frozenset[str] | None] = {}
    for name in {folder.engine for folder in folders}:
        try:
            found = engine(name).containers()
            running[name] = frozenset(one.name for one in found if one.running)
        except EngineError:
            running[name] = None
    now = time.time()
    return tuple(
        Row(
            cls=folder.cls,
            container=folder.container,
            engine=folder.engine,
            state=_state(folder, running[folder.engine]),
            age=now - folder.began,
            owner=folder.owner.pid if folder.owner is not None else None,
        )
        for folder in folders
    )


def _state(folder: RunFolder, running: frozenset[str] | None) -> str:
    if (folder.path / "report.json").exists():
        return "exited"
    if running is None:
        return "unknown"
    if folder.container not in running:
        return "gone"
    return "running" if folder.owner is not None and folder.owner.alive() else "exiting"


_FIGURES = frozenset({"age", "calls", "failed", "p50", "p95", "cpu", "memory", "pid"})


def table(rows: tuple[Row, ...], empty: str = "nothing runs", below: tuple[str, ...] = ()) -> Table:
    """The rows as a table; a column that nobody knows anything for is left out."""
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
        "pid": ["" if row.owner is None else str(row.owner) for row in rows],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return Table(tuple(kept), tuple(zip(*kept.values(), strict=True)), _FIGURES, empty, below)


def _memory(row: Row) -> str:
    if row.memory is None:
        return ""
    limit = f" of {size(row.memory_limit)}" if row.memory_limit else ""
    return size(row.memory) + limit
