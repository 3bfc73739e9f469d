"""The embedded engine: instances as processes of this machine, where no Docker Engine is available.

An image is a virtual environment and a *snapshot* folder; an instance is the guest on its own copy
of the snapshot, below a keeper (`keeper.py`) that has left the kernel's process tree and removes
the copy when the guest ends. Where bubblewrap works, the copy is the instance's root folder
(`sandbox.py`). Where it does not, paths are the host's, only working folder and ``$HOME`` are the
instance's own, and `ProcessEngine.review` reports by name what can't be honoured.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lifecycle_magic.engines import host_settings
from lifecycle_magic.engines.base import (
    Ended,
    FoundContainer,
    Honoured,
    Kept,
    Launch,
    Listener,
    OnStep,
    Usage,
)
from lifecycle_magic.engines.cpu_meter import CpuMeter
from lifecycle_magic.engines.listener import tcp_socket, unix_socket
from lifecycle_magic.engines.process import (
    environments,
    kept,
    mounts,
    process_table,
    sandbox,
    unsupported_options,
    volumes,
)
from lifecycle_magic.engines.process.commands import Commands
from lifecycle_magic.engines.process.images import ProcessImages
from lifecycle_magic.engines.process.sandbox import Probe
from lifecycle_magic.engines.process.start_keeper import EXIT_CODE, start_keeper
from lifecycle_magic.engines.process.store import (
    InstanceRecord,
    Store,
    copy_tree,
    write,
)
from lifecycle_magic.engines.process.unsupported_options import Host
from lifecycle_magic.exception import EngineError, EngineUnavailable
from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.host import disk_full, machine_memory, run_files
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.steps import FileDigests
from lifecycle_magic.wire.host_settings import HostSettings

_log = logging.getLogger(__name__)

_KILL_SECONDS = 5.0


class ProcessEngine:
    """Instances as processes, sandboxed by bubblewrap where it works.

    ``sandbox`` None tries once whether a sandbox works; False uses none; True requires one.
    ``transport`` ``tcp`` listens on 127.0.0.1, where Unix sockets can't be used.

        >>> ProcessEngine(sandbox=False).name
        'process'
    """

    kind: Literal["docker", "process"] = "process"
    name = "process"

    def __init__(
        self, *, sandbox: bool | None = None, transport: Literal["unix", "tcp"] = "unix"
    ) -> None:
        self._wanted = sandbox
        self._transport = transport
        self._runs: dict[str, Path] = {}  # run folders of what this process launched
        self._cpu = CpuMeter()

    # --- what there is -----------------------------------------------------------------------

    @property
    def address(self) -> str:
        return ""  # this machine

    @property
    def volumes(self) -> volumes.ProcessVolumes:
        """The named volumes of this machine."""
        return volumes.ProcessVolumes(self._store)

    def check(self) -> str:
        """Return one line that describes the engine; raises `EngineUnavailable` with the fix."""
        if sys.platform != "linux":
            raise EngineUnavailable(
                f"the process engine needs Linux, and this is {sys.platform}. Fix: start Docker "
                "Engine or Docker Desktop (on Windows, WSL 2 is Linux)"
            )
        try:
            uv = environments.find_uv()
        except FileNotFoundError as error:
            raise EngineUnavailable(f"the process engine needs uv: {error}") from None
        version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
        probed = self._probed
        if self._wanted and probed.path is None:
            raise EngineUnavailable(
                f"no sandbox: {probed.detail}. Fix: {probed.fix}, or start Docker Engine"
            )
        box = probed.detail if probed.path else f"no sandbox: {probed.detail}"
        return f"process engine ({version.stdout.strip() or 'uv'}, {box})"

    def brief(self) -> str:
        """Return what runs instances, in a few words."""
        if self.sandboxed:
            return f"sandboxed processes ({self._probed.detail})"
        return "processes without a sandbox"

    @functools.cached_property
    def _probed(self) -> Probe:
        if self._wanted is False:
            return Probe(None, "sandbox=False", "omit it, with bubblewrap installed")
        return sandbox.probe()

    @property
    def sandboxed(self) -> bool:
        """Return whether instances run in a sandbox. The first call tries one, for about 10 ms."""
        return self._probed.path is not None

    @functools.cached_property
    def _commands(self) -> Commands:
        return Commands(self._probed.path)

    @property
    def _store(self) -> Store:
        return Store(state_root())

    @property
    def _images(self) -> ProcessImages:
        return ProcessImages(self._store, self._commands)

    def _host(self, launch: Launch | None = None) -> Host:
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        return Host(
            sandboxed=self.sandboxed,
            why_not=self._probed.detail,
            fix=self._probed.fix,
            cores=len(os.sched_getaffinity(0)),
            gpus=self.gpus() if launch is not None and launch.gpu else (),
            volumes=str(state_root() / "volumes"),
            unix=self._transport == "unix",
        )

    def close(self) -> None:
        """Do nothing: no connection is kept, and keepers are processes of their own."""

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """Return what of this image and launch can't be honoured here."""
        found = [unsupported_options.of_image(image, self._host())]
        if launch is not None:
            found.append(unsupported_options.of_launch(launch, self._host(launch)))
        return Honoured(
            refused=tuple(text for one in found for text in one.refused),
            ignored=tuple(text for one in found for text in one.ignored),
        )

    # --- images ------------------------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """Return a digest of the host's Python and of whether the snapshot has absolute paths."""
        unsupported_options.refuse(unsupported_options.of_image(image, self._host()))
        return self._images.base_id(image, on_step)

    def known_base(self, image: Image) -> str | None:
        """Return the same id, or None if a Python would have to be fetched for it."""
        unsupported_options.refuse(unsupported_options.of_image(image, self._host()))
        return self._images.known_base(image)

    def find(self, key: str) -> str | None:
        """Return the id of the image under ``key``: the key itself, or None."""
        return None if self._store.image(key) is None else key

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None = None,
        below: str | None = None,
    ) -> str:
        """Build environment and snapshot from the recipe; raises `BuildError` or `EngineError`."""
        if below is None:
            unsupported_options.refuse(unsupported_options.of_image(image, self._host()))
        return self._images.build(image, key, on_step, files, below)

    def commit(self, container: str, key: str) -> str:
        """Copy the instance's files as the snapshot of a new image; its environment is shared."""
        return self._images.commit(container, key)

    # --- launching ---------------------------------------------------------------------------

    def listen(self, run_dir: Path) -> Listener:
        """Open ``run_dir/sock`` (0600), or a port of 127.0.0.1."""
        if self._transport == "tcp":
            return Listener(*tcp_socket())
        sock = unix_socket(run_dir / "sock")
        return Listener(sock, f"unix:{self.run_path(run_dir)}/sock")

    def run_path(self, run_dir: Path) -> str:
        """Return where the guest sees ``run_dir``: `/run/lifecycle` in a sandbox, otherwise the
        path itself.
        """
        return self._commands.run_path(run_dir)

    def host_settings(
        self, launch: Launch, env: Mapping[str, str], *, hook: bool
    ) -> tuple[HostSettings | None, tuple[str, ...]]:
        """Return the umask, which a keeper has stricter, and the debugger."""
        return HostSettings(host_settings.breakpoints(os.environ), umask=host_settings.umask()), ()

    def launch(self, launch: Launch) -> str:
        """Start the guest below a keeper of its own session; the instance's name is its id."""
        unsupported_options.refuse(unsupported_options.of_launch(launch, self._host(launch)))
        store = self._store
        image = store.image(launch.image)
        if image is None:
            raise EngineError(
                f"image {launch.image} no longer exists (pruned, or the Python it was made for "
                "was removed). Fix: run the cell again to build it"
            )
        place = store.place("instances", launch.name)
        _log.debug("start %s of image %s", launch.name, launch.image)
        with disk_full.explain("start it"), store.making("instances", launch.name) as folder:
            copy_tree(store.place("images", launch.image) / "root", folder / "root")
            self._commands.prepare_root(folder / "root", image.workdir)
            binds = mounts.make(store, folder, place, launch.mounts)
            venv = store.place("venvs", image.venv)
            job = self._commands.of_guest(launch, place, venv, image, binds)
            with start_keeper(job) as keeper:
                record = InstanceRecord(
                    name=launch.name,
                    image=launch.image,
                    venv=image.venv,
                    run_dir=str(launch.run_dir),
                    keeper=keeper.identity,
                    labels=dict(launch.labels),
                    volumes=[str(m.volume.name) for m in launch.mounts if m.volume.name],
                )
                write(folder / "instance.json", record)
                if not store.publish(folder, place):
                    raise EngineError(f"there is an instance {launch.name} already")
                keeper.start()
        self._runs[launch.name] = launch.run_dir
        return launch.name

    # --- while it runs, and after ------------------------------------------------------------

    @property
    def cores(self) -> int:
        return os.cpu_count() or 1

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Do nothing: the container has the run folder itself."""

    def ended(self, container: str) -> Ended | None:
        """Return the exit code that the keeper wrote, once the instance has exited."""
        record = self._store.instance(container)
        if record is not None:
            process_table.wait_gone([record.keeper], _KILL_SECONDS)
        run_dir = self._runs.get(container) or (Path(record.run_dir) if record else None)
        if run_dir is None:
            return None
        try:
            return Ended(int(run_files.read(run_dir / EXIT_CODE, 64)))
        except (OSError, ValueError):
            return None

    def clear_run_folder(self, container: str, run_dir: Path) -> None:
        """Do nothing: all that a guest writes is this user's."""

    def keep(self, container: str, is_kept: bool) -> None:
        """Do nothing: no relay leads to an instance."""

    def take_over(self, container: str, launch: Launch) -> None:
        """Do nothing: the instance finds its boot file itself."""

    def kept_report(self, container: str) -> bytes:
        """Return nothing: a report is in the run folder."""
        return b""

    def leaves_behind(self, run_dir: Path) -> bool:
        """Return False: all that a guest writes is this user's."""
        return False

    def discard(self, container: str) -> None:
        """Do nothing: the keeper removes its instance's folder."""

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes of memory of this machine, and those that are free."""
        return machine_memory.of_this_machine()

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs of this machine that the kernel itself may use."""
        return inventory.visible(inventory.find(), os.environ)

    def process(self, container: str) -> Owner | None:
        """Return the keeper, which outlives every process of the instance."""
        record = self._store.instance(container)
        return None if record is None else record.keeper

    def place(self, container: str) -> str:
        """Return nothing: the engine is one machine."""
        return ""

    def kill(self, container: str) -> None:
        """Kill every process of the instance and wait until its folder is removed."""
        store = self._store
        record = store.instance(container)
        if record is None:
            return
        for _ in range(3):  # what forks while it is being killed is found the next time
            rows = process_table.belonging(container, record.keeper)
            process_table.kill_all(rows)
            # A keeper that was itself killed has left strays, and the folder.
            ending = [record.keeper, *(row.owner() for row in rows)]
            if process_table.wait_gone(ending, _KILL_SECONDS):
                break
        else:
            raise EngineError(
                f"{container} does not end {3 * _KILL_SECONDS:g} s after SIGKILL: one of its "
                "processes hangs in the operating system (see ps -o pid,stat,wchan,args)"
            )
        store.discard(store.place("instances", container))

    def usage(self, container: str) -> Usage | None:
        """Return the CPU use since the previous call, or the start, and the memory of all
        processes.
        """
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        record = self._store.instance(container)
        if record is None or not record.keeper.alive():
            self._cpu.forget(container)
            return None
        rows = process_table.below(record.keeper)
        began = int(record.keeper.started) / os.sysconf("SC_CLK_TCK")
        self._cpu.begin(container, began)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        used = sum(row.cpu for row in rows)
        return Usage(self._cpu.cores(container, now, used), process_table.memory(rows))

    def containers(self) -> list[FoundContainer]:
        """Return every recorded instance; one whose keeper has exited is not running."""
        return [
            FoundContainer(one.name, one.name, one.labels, one.keeper.alive())
            for one in self._store.instances()
        ]

    def kept(self) -> list[Kept]:
        """Return every image (with its environment) and named volume, with its size on disk."""
        return kept.images(self._store) + kept.volumes(self._store)

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and its content; return False if it is in use or does not exist."""
        return kept.remove_volume(self._store, name)

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove images not in ``keep``, dead instances, and the leftovers of crashed builds."""
        store = self._store
        removed = []
        for one in store.instances():
            if not one.keeper.alive():
                self.kill(one.name)
                removed.append(f"instance {one.name}")
        removed += kept.prune_images(store, keep)
        return removed + store.clear_leftovers()
