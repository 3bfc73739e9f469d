"""``doctor``: what this machine has of what the product needs, each with the mend where it lacks.

A check looks and changes nothing. One that fails to look is itself a finding.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifecycle_magic.exception import EngineError
from lifecycle_magic.panel.text import age, plain, size

__all__ = ["Finding", "examine", "text"]

Verdict = Literal["ok", "warn", "fail"]
LOW_DISK = 2 << 30  # bytes: an image with a few packages needs about that much


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it unless it is ``ok``."""

    what: str
    verdict: Verdict
    told: str
    mend: str = ""


def examine(root: Path) -> list[Finding]:
    """Look at engine, sandbox, installer, state below ``root``, limits. Takes a second or so."""
    docker = _safely("Docker", _docker)
    process = _safely("process engine", _process)
    if docker.verdict != "ok" and process.verdict != "ok":
        docker = Finding(docker.what, "fail", docker.told, docker.mend)
    return [
        _safely("Python", _python),
        docker,
        process,
        _safely("sandbox", _sandbox),
        _safely("chosen engine", _chosen),
        _safely("state", lambda: _state(root)),
        _safely("disk", lambda: _disk(root)),
        _safely("sessions", lambda: _sessions(root)),
        _safely("memory limits", _memory_limits),
    ]


def text(findings: list[Finding]) -> str:
    """The findings as lines; a mend stands below its line."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        told = " ".join(plain(finding.told).split())
        lines.append(f"{finding.verdict:<4}  {finding.what:<{width}}  {told}")
        if finding.mend and finding.verdict != "ok":
            lines.append(f"{'':<4}  {'':<{width}}  → {finding.mend}")
    return "\n".join(lines)


def _safely(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding(what, "warn", f"could not be looked at: {type(error).__name__}: {error}")


def _python() -> Finding:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = f"{platform.python_version()}: containers run Python {minor} as well"
    return Finding("Python", "ok", told)


def _docker() -> Finding:
    from lifecycle_magic.engines.docker import DockerEngine

    engine = DockerEngine()
    try:
        told = engine.check()
        ways = {"unix": "containers dial a Unix socket", "tcp": "containers dial by TCP"}
        return Finding("Docker", "ok", f"{told}; {ways[engine._transport]}")
    except EngineError as error:
        return Finding("Docker", "warn", str(error), "start Docker Engine, if you want to use it")
    finally:
        engine.close()


def _process() -> Finding:
    from lifecycle_magic.engines.process import ProcessEngine

    try:
        return Finding("process engine", "ok", ProcessEngine().check())
    except EngineError as error:
        return Finding("process engine", "warn", str(error), "use Docker Engine")


def _sandbox() -> Finding:
    from lifecycle_magic.engines import sandbox

    path, told = sandbox.probe()
    if path is not None:
        return Finding("sandbox", "ok", f"{told} at {path}")
    mend = "install bubblewrap: without it, processes share this machine's files and network"
    return Finding("sandbox", "warn", told, mend)


def _chosen() -> Finding:
    wanted = os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
    from lifecycle_magic.engines import choose

    try:
        engine, _ = choose(wanted)
    except EngineError as error:
        return Finding(
            "chosen engine",
            "fail",
            f"LIFECYCLE_MAGIC_ENGINE={wanted}: {error}",
            "start that engine, or set LIFECYCLE_MAGIC_ENGINE=auto",
        )
    except ValueError as error:
        return Finding("chosen engine", "fail", str(error), "set it to auto, docker or process")
    return Finding("chosen engine", "ok", f"{engine.name} (LIFECYCLE_MAGIC_ENGINE={wanted})")


def _state(root: Path) -> Finding:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue  # it went while we looked
    told = f"{root} holds {size(total)}"
    if os.stat(root).st_mode & 0o077:
        return Finding("state", "warn", f"{told}, and others may read it", f"chmod 700 {root}")
    # A Unix socket's path may have 107 characters (unix(7)): session, container and file follow.
    if len(os.fsencode(root)) > 107 - len("/run/12345678/lm-") - 24 - len("-12345678/sock"):
        mend = "set LIFECYCLE_MAGIC_STATE to a shorter path"
        return Finding("state", "warn", f"{told}; its path is too long for some sockets", mend)
    return Finding("state", "ok", told)


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    told = f"{size(free)} free where the state lies"
    if free < LOW_DISK:
        return Finding("disk", "warn", told, "make room: %lifecycle prune, docker system prune")
    return Finding("disk", "ok", told)


def _sessions(root: Path) -> Finding:
    from lifecycle_magic.owner import Owner

    live, dead = 0, []
    for folder in (root / "run").glob("*/"):
        owner = Owner.read(folder / "owner.json")
        if owner is not None and owner.alive():
            live += 1
        elif owner is not None:
            dead.append(folder)
    told = f"{live} live"
    if not dead:
        return Finding("sessions", "ok", told)
    import time

    oldest = age(time.time() - min(folder.stat().st_mtime for folder in dead))
    told += f", {len(dead)} whose kernel is gone, since {oldest}"
    mend = "their exit hooks may still run; %lifecycle history looks after them and tells"
    return Finding("sessions", "warn", told, mend)


def _memory_limits() -> Finding:
    """Whether memory= can hold: the kernel needs its memory controller (cgroups(7))."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    try:
        if unified.exists():
            there = "memory" in unified.read_text().split()
            kind = "cgroup v2"
        else:
            there = Path("/sys/fs/cgroup/memory").is_dir()
            kind = "cgroup v1"
    except OSError as error:
        return Finding("memory limits", "warn", f"could not be looked at: {error}")
    if there:
        return Finding("memory limits", "ok", f"{kind} with a memory controller; Docker uses it")
    mend = "mount it, or boot with cgroup_enable=memory: until then memory= can't be kept"
    return Finding("memory limits", "warn", f"{kind} without a memory controller", mend)
