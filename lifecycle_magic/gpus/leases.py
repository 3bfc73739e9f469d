"""The record of which container has which GPU, for every kernel and engine of this state folder.

Each container with GPUs has a file in ``gpus/`` while it has them. All changes are made under one
lock, so two kernels never take the same device. A lease is held while its kernel lives and has not
released it, and while the container's own process lives: a container whose kernel was killed
keeps its devices until its exit hook has run. A lease of dead processes counts no more and is
removed by the next change.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lifecycle_magic.gpus.choice import TakenDevices, choose
from lifecycle_magic.gpus.device import Gpu, GpuUse
from lifecycle_magic.gpus.request import GpuRequest
from lifecycle_magic.host import checked_json, run_files
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching, private_folder
from lifecycle_magic.host.private_file import write_private

__all__ = ["GpuLease", "GpuLeases"]

_MAX_GPUS = 1024


@dataclass(frozen=True)
class GpuLease:
    """The GPUs of one container.

    ``gpus`` are ids; ``memory`` (MiB) is set for a share of one device. ``owner`` is the kernel,
    ``process`` the container's own process if it is known. ``released``: the kernel has seen the
    container exit. ``since`` is seconds since the epoch.
    """

    container: str
    cls: str
    gpus: tuple[str, ...]
    memory: int | None
    owner: Owner
    process: Owner | None = None
    released: bool = False
    since: float = 0.0

    def is_held(self) -> bool:
        """Return whether the container may still use the devices."""
        if self.process is not None and self.process.alive():
            return True
        return not self.released and self.owner.alive()

    def holder(self) -> str:
        """Return who holds it, as users read it."""
        mine = self.owner == Owner.me()
        whose = "" if mine else f", pid {self.owner.pid}"
        return f"{self.container} of {self.cls}{whose}"


class GpuLeases:
    """The leases below the state folder ``root``. Safe from any thread and any process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "gpus"

    def take(
        self,
        requests: Sequence[GpuRequest],
        gpus: Sequence[Gpu],
        container: str,
        cls: str,
        uses: Mapping[str, GpuUse],
    ) -> tuple[GpuLease, tuple[Gpu, ...]] | None:
        """Lease devices for a container; return None if no alternative has enough free ones."""
        with self._locked(fcntl.LOCK_EX):
            held = self._held(remove=True)
            taken = [TakenDevices(one.gpus, one.memory) for one in held]
            found = choose(requests, gpus, taken, uses)
            if not found:
                return None
            ids = tuple(gpu.id for gpu in found)
            share = requests[0].memory  # of all alternatives
            lease = GpuLease(container, cls, ids, share, Owner.me(), since=time.time())
            self._write(lease)
            return lease, found

    def set_process(self, lease: GpuLease, process: Owner) -> GpuLease:
        """Record the process that lives as long as the container, and return the new lease."""
        lease = replace(lease, process=process)
        with self._locked(fcntl.LOCK_EX):
            self._write(lease)
        return lease

    def release(self, lease: GpuLease) -> None:
        """Give the devices back, once the container's own process has ended too."""
        with self._locked(fcntl.LOCK_EX):
            lease = replace(lease, released=True)
            if lease.is_held():
                self._write(lease)
            else:
                self._path(lease).unlink(missing_ok=True)

    def held(self) -> list[GpuLease]:
        """Return the leases that are held now, oldest first."""
        if not self._folder.is_dir():
            return []
        with self._locked(fcntl.LOCK_SH):
            return self._held(remove=False)

    def _held(self, *, remove: bool) -> list[GpuLease]:
        found = []
        for path in sorted(matching(self._folder, "*.json")):
            lease = _read(path)
            if lease is not None and lease.is_held():
                found.append(lease)
            elif remove:  # of dead processes; one that is cut off was never given out
                path.unlink(missing_ok=True)
        return sorted(found, key=lambda one: (one.since, one.container))

    def _path(self, lease: GpuLease) -> Path:
        return self._folder / f"{lease.container}.json"

    def _write(self, lease: GpuLease) -> None:
        private_folder(self._folder)
        write_private(self._path(lease), json.dumps(asdict(lease)))

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        # The operating system releases the lock when the process ends, even if it is killed.
        with (private_folder(self._root / "locks") / "gpus").open("a") as file:
            fcntl.flock(file, how)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # a forked child has the same open file


def _read(path: Path) -> GpuLease | None:
    try:
        record = run_files.read_object(path)
        if not isinstance(record.get("gpus"), list):
            raise ValueError("a lease without a list of GPUs")
        process = record.get("process")
        return GpuLease(
            container=path.stem,
            cls=checked_json.string("cls", record.get("cls")),
            gpus=tuple(checked_json.string("gpus", one) for one in record["gpus"][:_MAX_GPUS]),
            memory=checked_json.integer_or_none("memory", record.get("memory")),
            owner=Owner.of(record.get("owner")),
            process=None if process is None else Owner.of(process),
            released=checked_json.flag("released", record.get("released")),
            since=checked_json.number("since", record.get("since")),
        )
    except (OSError, ValueError, RecursionError):
        return None
