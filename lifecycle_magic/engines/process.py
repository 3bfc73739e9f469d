"""The embedded engine: instances as processes of this machine, for where no Docker Engine answers.

An image is a virtual environment and a *snapshot* folder; an instance is the guest on its own copy
of the snapshot, below a keeper (`keeper.py`) that has left the kernel's process tree and removes
the copy when the guest ends. Where bubblewrap works, the copy is the instance's root folder
(`sandbox.py`). Where it does not, paths are the host's, only working folder and ``$HOME`` are the
instance's own, and `ProcessEngine.review` says by name what can't be honoured.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from lifecycle_magic import full
from lifecycle_magic.engines import environment, limits, processes, sandbox, steps
from lifecycle_magic.engines.base import (
    Ended,
    Found,
    Honoured,
    Kept,
    Launch,
    Listener,
    OnStep,
    Usage,
)
from lifecycle_magic.engines.hire import EXIT_CODE, hire
from lifecycle_magic.engines.keeper import remove_tree
from lifecycle_magic.engines.limits import Host
from lifecycle_magic.engines.listening import tcp_socket, unix_socket
from lifecycle_magic.engines.meter import CpuMeter
from lifecycle_magic.engines.process_commands import Commands
from lifecycle_magic.engines.sandbox import Bind
from lifecycle_magic.engines.store import (
    ImageRecord,
    InstanceRecord,
    Store,
    copy_tree,
    tree_size,
    write,
)
from lifecycle_magic.exception import EngineError, EngineUnavailable
from lifecycle_magic.image import Image
from lifecycle_magic.paths import state_root
from lifecycle_magic.recipes.recipe import FileDigests
from lifecycle_magic.volume import Volume

_KILL_SECONDS = 5.0


class ProcessEngine:
    """Instances as processes, sandboxed by bubblewrap where it works.

    ``sandbox`` None finds out, once, by trying; False does without; True insists. ``transport``
    ``tcp`` listens on 127.0.0.1, where Unix sockets can't be used.

        >>> ProcessEngine(sandbox=False).name
        'process'
    """

    name: Literal["docker", "process"] = "process"

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

    def check(self) -> str:
        """One line that says what answers; raises `EngineUnavailable` with the mend."""
        if sys.platform != "linux":
            raise EngineUnavailable(
                f"the process engine needs Linux, and this is {sys.platform}: start Docker Engine "
                "or Docker Desktop (on Windows, WSL 2 is Linux)"
            )
        try:
            uv = environment.find_uv()
        except FileNotFoundError as error:
            raise EngineUnavailable(f"the process engine needs uv: {error}") from None
        told = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
        bwrap, why = self._probed
        if self._wanted and bwrap is None:
            raise EngineUnavailable(
                f"no sandbox: {why}. Install bubblewrap, or start Docker Engine"
            )
        box = why if bwrap else f"no sandbox: {why}"
        return f"process engine ({told.stdout.strip() or 'uv'}, {box})"

    @functools.cached_property
    def _probed(self) -> tuple[str | None, str]:
        return (None, "not asked for") if self._wanted is False else sandbox.probe()

    @property
    def sandboxed(self) -> bool:
        """Whether instances run in a sandbox. The first look tries one, for about 10 ms."""
        return self._probed[0] is not None

    @functools.cached_property
    def _commands(self) -> Commands:
        return Commands(self._probed[0])

    @property
    def _store(self) -> Store:
        return Store(state_root())

    def _host(self) -> Host:
        return Host(
            sandboxed=self.sandboxed,
            why_not=self._probed[1],
            cores=len(os.sched_getaffinity(0)),
            gpus=len(sandbox.gpu_devices()),
            volumes=str(state_root() / "volumes"),
            unix=self._transport == "unix",
        )

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """What of this image and launch can't be honoured here."""
        found = [limits.of_image(image, self._host())]
        if launch is not None:
            found.append(limits.of_launch(launch, self._host()))
        return Honoured(
            refused=tuple(text for one in found for text in one.refused),
            ignored=tuple(text for one in found for text in one.ignored),
        )

    # --- images ------------------------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """A digest of the host's Python and of whether absolute paths are in the snapshot."""
        _refuse(limits.of_image(image, self._host()))
        # Sandboxed or not decides what an absolute path in a build step means.
        return f"{environment.base_id()}-{'sandboxed' if self.sandboxed else 'plain'}"

    def known_base(self, image: Image) -> str | None:
        """The same: nothing has to be made for it."""
        return self.base_id(image)

    def find(self, key: str) -> str | None:
        """The id of the image under ``key``: the key itself, or None."""
        return None if self._store.image(key) is None else key

    def build(
        self, image: Image, key: str, on_step: OnStep, files: FileDigests | None = None
    ) -> str:
        """Make environment and snapshot from the recipe; raises `BuildError` or `EngineError`."""
        _refuse(limits.of_image(image, self._host()))
        store = self._store
        with (
            full.explained("build the image"),
            store.making("images", key) as folder,
            store.new_venv() as venv,
        ):
            root = folder / "root"
            root.mkdir(mode=0o700)
            start = steps.Made(root, venv)
            made = steps.run_steps(image, start, self._commands.of_step, on_step, files)
            record = ImageRecord(venv=venv.name, env=made.env, workdir=made.workdir)
            write(folder / "image.json", record)
            store.replace(folder, store.place("images", key))
        return key

    def commit(self, container: str, key: str) -> str:
        """Copy the instance's files as the snapshot of a new image; its environment is shared."""
        store = self._store
        instance = store.instance(container)
        parent = None if instance is None else store.image(instance.image)
        if instance is None or parent is None:
            raise EngineError(f"{container} or its image is gone, so its files can't be kept")
        with full.explained("keep the files"), store.making("images", key) as folder:
            copy_tree(store.place("instances", container) / "root", folder / "root")
            write(folder / "image.json", parent)
            store.replace(folder, store.place("images", key))
        return key

    # --- launching ---------------------------------------------------------------------------

    def listen(self, run_dir: Path) -> Listener:
        """Open ``run_dir/sock`` (0600), or a port of 127.0.0.1."""
        if self._transport == "tcp":
            return Listener(*tcp_socket())
        sock = unix_socket(run_dir / "sock")
        return Listener(sock, f"unix:{self.run_path(run_dir)}/sock")

    def run_path(self, run_dir: Path) -> str:
        """Where the guest sees ``run_dir``: `/run/lifecycle` in a sandbox, else where it is."""
        return self._commands.run_path(run_dir)

    def launch(self, launch: Launch) -> str:
        """Start the guest below a keeper of its own session; the instance's name is its id."""
        _refuse(limits.of_launch(launch, self._host()))
        store = self._store
        image = store.image(launch.image)
        if image is None:
            raise EngineError(
                f"image {launch.image} is not here any more (pruned, or the Python it was made for "
                "is gone): run the cell again to build it"
            )
        place = store.place("instances", launch.name)
        with full.explained("start it"), store.making("instances", launch.name) as folder:
            copy_tree(store.place("images", launch.image) / "root", folder / "root")
            self._commands.prepare_root(folder / "root", image.workdir)
            volumes = self._make_volumes(folder, place, launch)
            venv = store.place("venvs", image.venv)
            job = self._commands.of_guest(launch, place, venv, image, volumes)
            with hire(job) as hired:
                record = InstanceRecord(
                    name=launch.name,
                    image=launch.image,
                    venv=image.venv,
                    run_dir=str(launch.run_dir),
                    keeper=hired.identity,
                    labels=dict(launch.labels),
                    volumes=[str(m.volume.name) for m in launch.mounts if m.volume.name],
                )
                write(folder / "instance.json", record)
                if not store.publish(folder, place):
                    raise EngineError(f"there is an instance {launch.name} already")
                hired.start()
        self._runs[launch.name] = launch.run_dir
        return launch.name

    def _make_volumes(self, folder: Path, place: Path, launch: Launch) -> list[Bind]:
        """Make volumes that are to be made; all of them, as a sandbox mounts them.

        ``folder`` is the instance's while it is being made, ``place`` where it will be then.
        """
        found = []
        for number, mount in enumerate(launch.mounts):
            source = self._volume_folder(number, mount.volume, place)
            if mount.volume.kind == "ephemeral":
                (folder / source.relative_to(place)).mkdir(mode=0o700, parents=True)
            elif mount.volume.kind == "named" and mount.volume.create_if_missing:
                (self._store.folder("volumes") / source.name).mkdir(mode=0o700, exist_ok=True)
            elif not source.is_dir():
                raise EngineError(
                    f"the volume {mount.volume} for {mount.path} is not there: "
                    f"make the folder {source}, or leave create_if_missing=False out"
                )
            found.append(Bind(str(source), mount.path, "rw"))
        return found

    def _volume_folder(self, number: int, volume: Volume, place: Path) -> Path:
        if volume.kind == "ephemeral":
            return place / "volumes" / str(number)
        if volume.kind == "named":
            return self._store.place("volumes", str(volume.name))
        return Path(str(volume.path))

    # --- while it runs, and after ------------------------------------------------------------

    def ended(self, container: str) -> Ended | None:
        """The exit code that the keeper wrote, once the instance is gone."""
        record = self._store.instance(container)
        if record is not None:
            processes.wait_gone([record.keeper], _KILL_SECONDS)
        run_dir = self._runs.get(container) or (Path(record.run_dir) if record else None)
        if run_dir is None:
            return None
        try:
            return Ended(int((run_dir / EXIT_CODE).read_text()))
        except (OSError, ValueError):
            return None

    def kill(self, container: str) -> None:
        """Kill every process of the instance and wait until its folder is gone."""
        store = self._store
        record = store.instance(container)
        if record is None:
            return
        for _ in range(3):  # what forks while it is being killed is found the next time
            rows = processes.belonging(container, record.keeper)
            processes.kill_all(rows)
            # A keeper that was itself killed has left strays, and the folder.
            ending = [record.keeper, *(row.owner() for row in rows)]
            if processes.wait_gone(ending, _KILL_SECONDS):
                break
        else:
            raise EngineError(
                f"{container} does not end {3 * _KILL_SECONDS:g} s after SIGKILL: one of its "
                "processes hangs in the operating system (see ps -o pid,stat,wchan,args)"
            )
        store.discard(store.place("instances", container))

    def usage(self, container: str) -> Usage | None:
        """CPU since the last look (the first time: since its start) and memory of all processes."""
        record = self._store.instance(container)
        if record is None or not record.keeper.alive():
            self._cpu.forget(container)
            return None
        rows = processes.below(record.keeper)
        began = int(record.keeper.started) / os.sysconf("SC_CLK_TCK")
        self._cpu.begin(container, began)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        used = sum(row.cpu for row in rows)
        return Usage(self._cpu.cores(container, now, used), processes.memory(rows))

    def containers(self) -> list[Found]:
        """Every instance on record; one whose keeper is gone is not running."""
        return [
            Found(one.name, one.name, one.labels, one.keeper.alive())
            for one in self._store.instances()
        ]

    def kept(self) -> list[Kept]:
        """Every image (with its environment) and named volume, with its size on disk."""
        store = self._store
        running = {one.image for one in store.instances()}
        found = []
        for key in store.images():
            record, place = store.image(key), store.place("images", key)
            size = tree_size(place)
            size += tree_size(store.place("venvs", record.venv)) if record else 0
            found.append(Kept("image", key, size, place.stat().st_mtime, key in running))
        mounted = self._mounted()
        for name in store.volumes():
            place = store.place("volumes", name)
            used = name in mounted
            found.append(Kept("volume", name, tree_size(place), place.stat().st_mtime, used))
        return found

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and what is in it; False if an instance has it, or it is gone."""
        if name in self._mounted() or name not in self._store.volumes():
            return False
        remove_tree(str(self._store.place("volumes", name)))
        return True

    def _mounted(self) -> set[str]:
        """The names of the volumes that running instances have."""
        return {
            name for one in self._store.instances() if one.keeper.alive() for name in one.volumes
        }

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove images not in ``keep``, dead instances, and what crashed builds left."""
        store = self._store
        removed = []
        for one in store.instances():
            if not one.keeper.alive():
                self.kill(one.name)
                removed.append(f"instance {one.name}")
        in_use = {one.image for one in store.instances()}
        for key in store.images():
            if key not in keep and key not in in_use:
                store.discard(store.place("images", key))
                removed.append(f"image {key}")
        return removed + store.clear_leftovers()


def _refuse(found: Honoured) -> None:
    if found.refused:
        raise EngineError("; ".join(found.refused))
