"""The choice of devices for a container: a pure function of what there is and what is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle_magic.gpus.device import Gpu, GpuUse
from lifecycle_magic.gpus.request import GpuRequest

__all__ = ["TakenDevices", "choose", "lacking"]

_BUSY_BYTES = 1 << 30
"""A device on which other programs have more than that is taken last. A desktop needs less."""


@dataclass(frozen=True)
class TakenDevices:
    """Devices that a container has, by id; ``memory`` (MiB) if it has only a share of one."""

    gpus: tuple[str, ...]
    memory: int | None = None


def choose(
    requests: Sequence[GpuRequest],
    gpus: Sequence[Gpu],
    taken: Sequence[TakenDevices],
    uses: Mapping[str, GpuUse],
) -> tuple[Gpu, ...]:
    """Return free devices for the first alternative that has enough of them, otherwise nothing.

    Of free devices those come first that no other program uses, as ``uses`` reports by id.

    >>> pair = Gpu("GPU-a", 0), Gpu("GPU-b", 1)
    >>> [gpu.index for gpu in choose([GpuRequest("1")], pair, [TakenDevices(("GPU-a",))], {})]
    [1]
    """
    for request in requests:
        fitting = [gpu for gpu in gpus if request.accepts(gpu)]
        if request.memory is not None:
            found = _shared(request.memory, fitting, taken, uses)
        else:
            held = {id for one in taken for id in one.gpus}
            free = [gpu for gpu in fitting if gpu.id not in held]
            count = len(fitting) if request.count is None else request.count
            found = _least_used(free, uses)[:count] if 0 < count <= len(free) else []
        if found:
            return tuple(sorted(found, key=lambda gpu: gpu.index))
    return ()


def _shared(
    memory: int,
    gpus: Sequence[Gpu],
    taken: Sequence[TakenDevices],
    uses: Mapping[str, GpuUse],
) -> list[Gpu]:
    """Return one device with that much memory left: of shared ones the fullest, else a free one."""
    shared: list[tuple[int, int, Gpu]] = []
    free = []
    for gpu in gpus:
        there = [one for one in taken if gpu.id in one.gpus]
        shares = [one.memory for one in there if one.memory is not None]
        if not there:
            free.append(gpu)
        elif len(shares) == len(there) and gpu.memory is not None:
            left = gpu.memory - sum(shares)
            if left >= memory:
                shared.append((left, gpu.index, gpu))
    if shared:
        return [min(shared)[2]]
    return _least_used(free, uses)[:1]


def _least_used(gpus: Sequence[Gpu], uses: Mapping[str, GpuUse]) -> list[Gpu]:
    def is_busy(gpu: Gpu) -> bool:
        return gpu.id in uses and uses[gpu.id].memory > _BUSY_BYTES

    return sorted(gpus, key=lambda gpu: (is_busy(gpu), gpu.index))


def lacking(requests: Sequence[GpuRequest], gpus: Sequence[Gpu]) -> str:
    """Return why no alternative can ever be served by these devices; "" if one can.

    >>> lacking([GpuRequest("2", 2)], [Gpu("GPU-a", 0, "NVIDIA L4")])
    "gpu=2: there is only NVIDIA L4. Fix: ask for what there is, or gpu='any'"
    """
    for request in requests:
        fitting = [gpu for gpu in gpus if request.accepts(gpu)]
        if fitting and len(fitting) >= (request.count or 1):
            return ""
    there = ", ".join(_counted([gpu.name or "a GPU of an unknown model" for gpu in gpus]))
    if len(requests) == 1:
        asked = str(requests[0])
    else:
        asked = f"gpu=[{', '.join(one.written for one in requests)}]"
    return f"{asked}: there is only {there}. Fix: ask for what there is, or gpu='any'"


def _counted(names: Sequence[str]) -> list[str]:
    counts = {name: names.count(name) for name in names}
    return [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
