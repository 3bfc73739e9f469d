"""The GPUs of one container: leased before it starts, given back when it has exited."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import EngineError, StartError, StartTimeout
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.lifecycle.states import WARM_STATES

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.gpus.device import Gpu
    from lifecycle_magic.gpus.leases import GpuLease, GpuLeases

__all__ = ["ContainerGpus", "NotNeeded", "end_holders", "follow", "take"]

POLL_SECONDS = 0.1
"""Time between two looks at the leases of other kernels, which send no message."""

QUIET_SECONDS = 0.5
"""How long a start waits before it says so: a container that has just exited needs a moment."""


class NotNeeded(StartError):
    """A start that waited for a GPU ended, because its pool needs no other container any more."""


class ContainerGpus:
    """The lease of one container.

    ``is_wanted`` returns whether the container is still needed while it waits. ``on_shortage`` is
    called again and again while no device is free, to end containers that hold some; it returns
    whether there are any.
    """

    def __init__(self) -> None:
        self.devices: tuple[Gpu, ...] = ()
        self.is_wanted: Callable[[], bool] = lambda: True
        self.on_shortage: Callable[[], bool] = lambda: False
        self._leases: GpuLeases | None = None
        self._lease: GpuLease | None = None

    @property
    def share(self) -> int | None:
        """Return the MiB of a device that the container shares; None if it has all of it."""
        return self._lease.memory if self._lease is not None else None

    def set(self, leases: GpuLeases, lease: GpuLease, devices: Sequence[Gpu]) -> None:
        """Hold a lease."""
        self._leases, self._lease, self.devices = leases, lease, tuple(devices)

    def record_process(self, container: Container) -> None:
        """Record the process of a launched container, which keeps the devices until its end."""
        if self._leases is None or self._lease is None or container.id is None:
            return
        with contextlib.suppress(EngineError):  # the lease is then the kernel's alone
            process = container.engine.process(container.id)
            if process is not None:
                self._lease = self._leases.set_process(self._lease, process)

    def release(self) -> None:
        """Give the devices back, once the container's process has ended."""
        if self._leases is not None and self._lease is not None:
            leases, self._leases = self._leases, None
            leases.release(self._lease)


def follow(container: Container) -> None:
    """Have an adopted container hold the lease that it has from the kernel before."""
    if not container.plan.launch.gpu:
        return
    from lifecycle_magic.gpus.leases import GpuLeases

    leases = GpuLeases(state_root())
    for lease in leases.held():
        if lease.container == container.name and lease.process is not None:
            mine = leases.set_process(replace(lease, owner=Owner.me()), lease.process)
            devices = [gpu for gpu in container.engine.gpus() if gpu.id in lease.gpus]
            container.hold_gpus(leases, mine, devices)


def take(container: Container, show: Callable[[str, str], None], seconds: float) -> None:
    """Lease the GPUs that a container asks for, and wait up to ``seconds`` for free ones.

    What it waits for goes to ``show(stream, text)``. Raises `StartTimeout` that names the holders,
    and `StartError` if the container is killed meanwhile.
    """
    launch = container.plan.launch
    if not launch.gpu:
        return
    from lifecycle_magic.gpus import inventory
    from lifecycle_magic.gpus.leases import GpuLeases

    gpus = container.engine.gpus()
    if not gpus:
        return  # the engine chooses
    leases = GpuLeases(state_root())
    uses = inventory.uses() if len(gpus) > 1 else {}
    deadline = time.monotonic() + seconds
    shown, show_at = False, time.monotonic() + QUIET_SECONDS
    while True:
        container.check_not_killed()
        found = leases.take(launch.gpu, gpus, container.name, container.plan.cls, uses)
        if found is not None:
            break
        if not container.gpus.is_wanted():
            raise NotNeeded(f"{container.plan.cls}: it needs no other container any more")
        if container.gpus.on_shortage():
            show_at = time.monotonic() + QUIET_SECONDS
        elif not shown and time.monotonic() > show_at:
            text = f"{container.plan.cls} waits for {_missing(container, gpus, leases)}"
            container.publish_warning(text)
            show("stderr", f"{text}\n")
            shown = True
        if time.monotonic() > deadline:
            raise StartTimeout(
                f"{container.plan.cls} waited startup_timeout={seconds:g} s for "
                f"{_missing(container, gpus, leases)}"
            )
        uses = {}
        container.exited.wait(POLL_SECONDS)
    container.hold_gpus(leases, *found)
    container.plan = replace(container.plan, launch=replace(launch, gpus=found[1]))


def end_holders(containers: Sequence[Container], why: str) -> bool:
    """Drain those of ``containers`` that hold GPUs; return whether there are any."""
    holders = [one for one in containers if one.gpus.devices]
    for one in holders:
        if one.state in WARM_STATES:
            one.publish_warning(
                f"{one.plan.cls}: the old container exits before the new one starts, because "
                "there is no other free GPU"
            )
            one.end(Ending(EndKind.DRAIN, f"{why}, and there was no other free GPU"))
    return bool(holders)


def _missing(container: Container, gpus: Sequence[Gpu], leases: GpuLeases) -> str:
    """Return what is asked for, who holds it, and how to free or share it."""
    asked = " or ".join(map(str, container.plan.launch.gpu))
    by_id = {gpu.id: gpu for gpu in gpus}
    held = [
        f"{by_id[id].label} is held by {lease.holder()}"
        for lease in leases.held()
        for id in lease.gpus
        if id in by_id and any(one.accepts(by_id[id]) for one in container.plan.launch.gpu)
    ]
    return (
        f"{asked}: {', '.join(held) or 'the devices were taken and given back just now'}. "
        "Fix: stop one of them (%lifecycle stop NAME), or let classes share a GPU with "
        "gpu_memory=MIB"
    )
