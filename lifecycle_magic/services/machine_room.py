"""Room on a machine for a new container together with the one that it replaces."""

from __future__ import annotations

from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineError
from lifecycle_magic.gpus.choice import TakenDevices, choose
from lifecycle_magic.gpus.leases import GpuLeases
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.spec.options import Options

__all__ = ["lacking_for"]


def lacking_for(new: Options, old: KeepRecord, engine: Engine) -> str:
    """Return what the machine has not enough of for both containers, as a clause, or ""."""
    if _lacks_gpus(new, old, engine):
        return "this machine has not enough free GPUs for both"
    total, free = engine.memory()
    if new.memory is not None and old.memory is not None and total is not None:
        if (new.memory + old.memory) << 20 > total:
            return (
                f"both may use {new.memory + old.memory} MiB of memory, and the machine has "
                f"{total >> 20} MiB"
            )
        return ""
    used = _memory_used(old, engine)
    if free is not None and used > free:
        return f"it uses {used >> 20} MiB of memory, and {free >> 20} MiB are left for a new one"
    return ""


def _lacks_gpus(new: Options, old: KeepRecord, engine: Engine) -> bool:
    """Return whether a new container gets its GPUs only when the old one has exited."""
    requests = new.gpu_requests()
    held = GpuLeases(state_root()).held() if requests else []
    if not any(lease.container == old.container for lease in held):
        return False
    taken = [TakenDevices(lease.gpus, lease.memory) for lease in held]
    return not choose(requests, engine.gpus(), taken, {})


def _memory_used(old: KeepRecord, engine: Engine) -> int:
    try:
        ids = [one.id for one in engine.containers() if one.name == old.container]
        usage = engine.usage(ids[0]) if ids else None
    except EngineError:
        usage = None
    return usage.memory if usage is not None else 0
