"""The checks of ``doctor``, one for each part of this machine that the product needs.

A check reads and changes nothing.
"""

from __future__ import annotations

import os
import platform
import resource
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifecycle_magic.container.record import ContainerRecord
from lifecycle_magic.engines.process.store import tree_size
from lifecycle_magic.errors import missing_module
from lifecycle_magic.exception import EngineError
from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.leases import GpuLeases
from lifecycle_magic.host import keep_record, process_limit
from lifecycle_magic.host.safe_folder import open_safely
from lifecycle_magic.session import shortages
from lifecycle_magic.session.shortages import FULL_DISK
from lifecycle_magic.ui.panel.gpu_text import of_use
from lifecycle_magic.ui.panel.snapshot import damaged_folders
from lifecycle_magic.ui.panel.text import age, size
from lifecycle_magic.wire import descriptors

__all__ = [
    "Finding",
    "Verdict",
    "chosen_engine",
    "disk",
    "docker",
    "gpus",
    "kept_containers",
    "memory_limits",
    "open_files",
    "process_engine",
    "processes",
    "python",
    "sandbox",
    "sessions",
    "shared_memory",
    "state_folder",
    "swarm",
]

Verdict = Literal["ok", "warn", "fail"]
LOW_DISK_BYTES = 2 << 30  # an image with a few packages needs about that much


@dataclass(frozen=True)
class Finding:
    """The result of one check: name, verdict, details, and a fix unless the verdict is ``ok``."""

    what: str
    verdict: Verdict
    details: str
    fix: str = ""


def python() -> Finding:
    """Report the Python version that kernel and containers run."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    details = f"{platform.python_version()}: containers run Python {minor} as well"
    return Finding("Python", "ok", details)


def docker() -> Finding:
    """Check that a Docker engine answers, and find out how its containers connect."""
    from lifecycle_magic.engines.choose import docker_engine

    engine = docker_engine("docker")
    try:
        found = engine.check()
        ways = {
            "unix": "containers connect to a Unix socket",
            "relay": "containers are reached through the engine's API",
        }
        return Finding("Docker", "ok", f"{found}; {ways[engine.transport]}")
    except EngineError as error:
        return Finding("Docker", "warn", str(error), "start Docker Engine, if you want to use it")
    finally:
        engine.close()


def process_engine() -> Finding:
    """Check that the process engine can run here."""
    from lifecycle_magic.engines.process.engine import ProcessEngine

    try:
        return Finding("process engine", "ok", ProcessEngine().check())
    except EngineError as error:
        return Finding("process engine", "warn", str(error), "use Docker Engine")


def sandbox() -> Finding:
    """Check that bubblewrap is installed and permitted."""
    from lifecycle_magic.engines.process import sandbox

    probed = sandbox.probe()
    if probed.path is not None:
        return Finding("sandbox", "ok", f"{probed.detail} at {probed.path}")
    fix = f"{probed.fix}; without a sandbox, processes share this machine's files and network"
    return Finding("sandbox", "warn", probed.detail, fix)


def chosen_engine() -> Finding:
    """Report the engine that a class without ``engine`` gets."""
    wanted = os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
    from lifecycle_magic.engines.choose import choose

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
    engine.close()
    return Finding("chosen engine", "ok", f"{engine.name} (LIFECYCLE_MAGIC_ENGINE={wanted})")


def swarm(name: str) -> Finding:
    """Return the nodes of a swarm, what they have, and which containers wait for what."""
    from contextlib import closing

    from lifecycle_magic.engines.choose import swarm_engine

    with closing(swarm_engine(name)) as engine:
        engine.check()
        nodes = engine.nodes()
        rows = [
            f"{node.name} {node.note}, {node.cores} cores, {size(node.memory)}"
            + "".join(f", {count} {kind}" for kind, count in sorted(node.kinds.items()))
            for node in nodes
        ]
        found = engine.containers()
        bound = engine.lost_after()
    counts = [f"{node.name} runs {sum(one.node == node.name for one in found)}" for node in nodes]
    waiting = [f"{one.name} waits: {one.note}" for one in found if one.running and one.note]
    registry = os.environ.get("LIFECYCLE_MAGIC_REGISTRY", "")
    details = "; ".join([*rows, ", ".join(counts), *waiting])
    if not registry and len(nodes) > 1:
        fix = "set LIFECYCLE_MAGIC_REGISTRY to a registry that all nodes reach"
        return Finding("swarm", "warn", f"{details}; no registry for images", fix)
    if bound < 20:
        fix = "docker swarm update --dispatcher-heartbeat 10s, so that a cut of 20 s loses nothing"
        details += f"; a node that is cut off for {bound:g} s has to stop its containers"
        return Finding("swarm", "warn", details, fix)
    if waiting:
        return Finding("swarm", "warn", details, "free or add a node, or ask for less")
    return Finding("swarm", "ok", details)


def state_folder(root: Path) -> Finding:
    """Check that the state folder is private, complete and writable."""
    try:
        doubtful = open_safely(root)
    except EngineError as error:
        details, _, fix = str(error).partition(" Fix: ")
        return Finding("state", "fail", details, fix)
    if doubtful:
        details, _, fix = doubtful[0].partition(" Fix: ")
        return Finding("state", "warn", details, fix)
    if lacking := shortages.state_folder(root):
        details, _, fix = lacking.partition(" Fix: ")
        return Finding("state", "fail", details, fix)
    details = f"{root} uses {size(tree_size(root))}"
    # A Unix socket's path may have 107 characters (unix(7)), session, container and file included.
    if len(os.fsencode(root)) > 107 - len("/run/12345678/lm-") - 24 - len("-12345678/sock"):
        fix = "set LIFECYCLE_MAGIC_STATE to a shorter path"
        return Finding("state", "warn", f"{details}; its path is too long for some sockets", fix)
    if missing_module.noexec(root):
        fix = "set LIFECYCLE_MAGIC_STATE to a folder on a file system without noexec"
        return Finding(
            "state", "warn", f"{details}; compiled packages can't be loaded from there", fix
        )
    return Finding("state", "ok", details)


def disk(root: Path) -> Finding:
    """Check that the disk of the state folder has room for an image."""
    free = shutil.disk_usage(next(one for one in (root, *root.parents) if one.is_dir())).free
    details = f"{size(free)} free on the disk of the state folder"
    if free < FULL_DISK:
        return Finding("disk", "fail", f"full: {details}", "free space: docker system prune")
    if free < LOW_DISK_BYTES:
        return Finding("disk", "warn", details, "free space: %lifecycle prune, docker system prune")
    return Finding("disk", "ok", details)


def sessions(root: Path) -> Finding:
    """List the sessions that live, and the folders that are damaged."""
    from lifecycle_magic.host.owner import Owner
    from lifecycle_magic.host.paths import matching

    live, dead, damaged = 0, [], []
    kept = {one.run_dir.parent.name for one in keep_record.find_all(root)}
    for folder in matching(root / "run", "[!.]*/"):
        owner = Owner.read(folder / "owner.json")
        if owner is None:
            damaged.append(folder / "owner.json")
        elif owner.alive():
            live += 1
        elif folder.name not in kept:
            dead.append(folder)
        damaged += map(ContainerRecord.path, damaged_folders(folder))
    details = f"{live} live"
    if damaged:
        details += f"; unreadable records: {', '.join(map(str, damaged[:3]))}"
        details += ", ..." if damaged[3:] else ""
        names = " ".join(sorted({shlex.quote(str(one.parent)) for one in damaged[:3]}))
        return Finding("sessions", "warn", details, f"rm -r {names}, once nothing runs there")
    if not dead:
        return Finding("sessions", "ok", details)
    import time

    oldest = age(time.time() - min(folder.stat().st_mtime for folder in dead))
    details += f", {len(dead)} whose kernel has exited, the oldest {oldest} ago"
    fix = "exit hooks may still run there; %lifecycle history cleans up and shows how they ended"
    return Finding("sessions", "warn", details, fix)


def kept_containers(root: Path) -> Finding:
    """List the containers that wait for the next kernel, with what they hold."""
    from lifecycle_magic.ui import kept_containers

    found = kept_containers.held(root)
    return Finding("kept", "ok", "; ".join(found) or "no container waits for a kernel")


def memory_limits() -> Finding:
    """Check for the memory controller, which the ``memory`` option needs (cgroups(7))."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    try:
        if unified.exists():
            there = "memory" in unified.read_text().split()
            kind = "cgroup v2"
        else:
            there = Path("/sys/fs/cgroup/memory").is_dir()
            kind = "cgroup v1"
    except OSError as error:
        return Finding("memory limits", "warn", f"the check failed: {error}")
    if there:
        return Finding("memory limits", "ok", f"{kind} with a memory controller; Docker uses it")
    fix = "mount it, or boot with cgroup_enable=memory; without it memory= has no effect"
    return Finding("memory limits", "warn", f"{kind} without a memory controller", fix)


def open_files() -> Finding:
    """Compare the hard limit, up to which a session raises its own, with what containers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    details = f"at most {_count(hard)} in a process, {_count(soft)} by default"
    if 0 <= hard < descriptors.FEW:
        return Finding("open files", "warn", details, "ulimit -n 4096, before the kernel starts")
    return Finding("open files", "ok", details)


def processes() -> Finding:
    """Check that a limit stops a class on the process engine from starting endless processes."""
    details = process_limit.bound()
    if details:
        return Finding("processes", "ok", details)
    return Finding(
        "processes",
        "warn",
        "no limit on the number of processes that a class on the process engine may start",
        "ulimit -u 4096, before the kernel starts (root ignores it; Docker limits each container)",
    )


def shared_memory() -> Finding:
    """Check that ``/dev/shm`` has room."""
    details, _, fix = shortages.shared_memory().partition(" Fix: ")
    if details:
        return Finding("shared memory", "warn", details, fix)
    found = os.statvfs(shortages.SHM)
    return Finding("shared memory", "ok", f"{size(found.f_bavail * found.f_frsize)} free")


def gpus(root: Path) -> Finding:
    """List the GPUs, what is used of them, and which containers have them."""
    gpus, uses, leases = inventory.find(), inventory.uses(), GpuLeases(root).held()
    if not gpus:
        return Finding("GPUs", "ok", "none")
    listed = []
    for gpu in gpus:
        holders = ", ".join(lease.holder() for lease in leases if gpu.id in lease.gpus)
        listed.append(f"{gpu.label}{of_use(uses.get(gpu.id))}, {holders or 'free'}")
    details = "; ".join(listed)
    if any(gpu.vendor == "nvidia" for gpu in gpus) and not inventory.has_nvml():
        fix = "pip install 'lifecycle-magic[gpu]', for memory, load and MIG instances"
        return Finding("GPUs", "warn", details, fix)
    return Finding("GPUs", "ok", details)


def _count(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)
