"""The interface between this package and the engines that run containers.

An engine builds images and starts one command in one of them; it knows nothing of classes, hooks or
calls. The command is always the guest (`lifecycle_magic.guest`), which connects to the listener
that the engine opened for it. All methods may be called from any thread; all raise `EngineError`
(or `EngineUnavailable`) with a human-readable message.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from lifecycle_magic.gpus.device import Gpu
    from lifecycle_magic.gpus.request import GpuRequest
    from lifecycle_magic.host.owner import Owner
    from lifecycle_magic.host.volume_folder import Entry, Upload
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.images.steps import FileDigests
    from lifecycle_magic.volume import Volume
    from lifecycle_magic.wire.host_settings import HostSettings

LABEL = "lifecycle-magic"  # every label of this package is LABEL + ".<name>"
STEP = f"{LABEL}.step"
"""The label of a container that runs a step of an image."""


@dataclass(frozen=True)
class VolumeMount:
    """A volume at an absolute path inside the container."""

    path: str
    volume: Volume


@dataclass(frozen=True)
class Launch:
    """All that an engine needs to know to start one container.

    ``run_dir`` is the container's run folder on the host: 0700, with ``boot.json`` inside, mounted
    writable at `Engine.run_path`. ``guest_dir`` is the guest's code, mounted read-only. ``gpu`` is
    what the class asks for, as alternatives; ``gpus`` are the devices that were leased, empty where
    the engine's devices are unknown. ``memory``
    and ``shm_size`` are MiB, ``cpu`` is cores, ``stop_timeout`` is seconds between a polite stop
    from outside and the kill. ``keep``: the container waits for another kernel when this one exits.
    ``placement`` are constraints on a swarm's nodes; the container of a build ``hook`` is
    committed. Secrets are not included: they travel over the connection.
    """

    name: str
    image: str
    run_dir: Path
    guest_dir: Path
    labels: Mapping[str, str]
    mounts: tuple[VolumeMount, ...] = ()
    cpu: float | None = None
    memory: int | None = None
    gpu: tuple[GpuRequest, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    shm_size: int | None = None
    block_network: bool = False
    keep: bool = False
    stop_timeout: int = 35
    placement: tuple[str, ...] = ()
    hook: bool = False


@dataclass(frozen=True)
class Listener:
    """An open listening socket and the address under which the guest finds it.

    ``address`` is ``unix:<path>``, ``relay:<path>`` or ``tcp:<host>:<port>``, as the guest sees it.
    With ``unix:`` the guest itself connects to this socket, and shares files and memory with the
    kernel. With ``relay:`` another process connects here for the guest, which is elsewhere.
    """

    sock: socket.socket
    address: str

    @property
    def shares_files(self) -> bool:
        """Return whether the guest has the run folder itself, and descriptors pass over sockets."""
        return self.address.startswith("unix:")


@dataclass(frozen=True)
class Ended:
    """The engine's knowledge of how a container ended; ``exit_code`` 128+n is signal n."""

    exit_code: int | None
    oom: bool = False


@dataclass(frozen=True)
class FoundContainer:
    """A container that the engine still has, with its labels.

    One that was created and not started is neither ``running`` nor ``ended``. On a swarm, ``node``
    is the machine that it is on, and ``note`` why it is not running yet, or why it could not.
    ``ours`` is set if it is known to be of this state folder, also after a restart of the machine.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    ended: bool = False
    node: str = ""
    note: str = ""
    ours: bool = False

    @property
    def builds(self) -> bool:
        """Return whether it runs a step of an image."""
        return STEP in self.labels

    @property
    def waits(self) -> bool:
        """Return whether it has no machine yet."""
        return self.running and bool(self.note) and not self.node


@dataclass(frozen=True)
class Usage:
    """CPU in cores, memory and its limit in bytes (None: unlimited or unknown)."""

    cpu: float
    memory: int
    memory_limit: int | None = None


@dataclass(frozen=True)
class StepOutput:
    """A report of `Engine.build`: a step began, printed, or ended."""

    step: int
    of: int
    status: Literal["running", "output", "done", "cached", "failed"]
    text: str
    seconds: float | None = None


OnStep = Callable[[StepOutput], None]


@dataclass(frozen=True)
class Honoured:
    """Options of a launch that an engine can't honour, each in a sentence that names the option.

    ``refused`` stops the launch; ``ignored`` is shown in the card and the launch continues.
    """

    refused: tuple[str, ...] = field(default=())
    ignored: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Kept:
    """An image or a named volume of this package that the engine keeps.

    ``size`` is bytes, of an image including what it shares with others; ``made`` is seconds since
    the epoch; ``used`` is set if a container uses it.
    """

    kind: Literal["image", "volume"]
    name: str
    size: int | None
    made: float | None
    used: bool


class VolumeFiles(Protocol):
    """The files of a volume. Paths are relative to it; errors are those of `VolumeFolder`."""

    def entries(self, path: str, recursive: bool) -> list[Entry]:
        """Return what is in a folder, sorted by path; for a file, its own entry."""

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file, in blocks."""

    def remove(self, path: str, recursive: bool) -> None:
        """Remove a file or a link, and with ``recursive`` a folder."""

    def copy(self, sources: Sequence[str], target: str, recursive: bool) -> None:
        """Copy files, and with ``recursive`` folders, to ``target``; into it if it is a folder."""

    def write(self, uploads: Iterable[Upload], replace: bool, paths: Iterable[str] = ()) -> None:
        """Write files; each appears at once as a whole. ``paths`` are those of all uploads."""


class Volumes(Protocol):
    """The named volumes of an engine."""

    def names(self) -> list[str]:
        """Return the names of all volumes, sorted."""

    def exists(self, name: str) -> bool:
        """Return whether there is a volume of this name."""

    def create(self, name: str) -> None:
        """Create a volume unless there is one."""

    def open(self, name: str) -> VolumeFiles:
        """Return the files of an existing volume."""

    def remove(self, name: str) -> bool:
        """Remove a volume and its content; return False if it is in use or does not exist."""

    def rename(self, name: str, new: str) -> bool:
        """Rename a volume; return False if it is in use."""


class Engine(Protocol):
    """One engine. ``kind`` is what it is; ``name`` is how users choose it: ``docker``, ``process``,
    an address or the name of a context. ``address`` distinguishes engines of one name.
    """

    kind: Literal["docker", "process"]
    name: str

    @property
    def address(self) -> str: ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def cores(self) -> int:
        """Return the number of processors of the engine's machine."""

    def check(self) -> str:
        """Return one line that describes the engine (name, version); raises `EngineUnavailable`.

        Called once when the engine is chosen, and by ``%lifecycle doctor``.
        """

    def close(self) -> None:
        """Finish what runs in the background and close connections. It can be used again."""

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """Return what of this image and launch can't be honoured here, with little I/O."""

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """Return the id of the recipe's base, which is part of every key.

        It is pulled if it is missing; ``on_step`` gets the pull as one step. ``anew`` rebuilds a
        base that is built here, from a Dockerfile.
        """

    def known_base(self, image: Image) -> str | None:
        """Return the same id, or None if something would have to be pulled or built for it."""

    def find(self, key: str) -> str | None:
        """Return the id of the image that was kept under ``key``, or None."""

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None = None,
        below: str | None = None,
    ) -> str:
        """Build ``image``'s steps, keep the result under ``key``, return its id.

        They are built on top of the image with the id ``below``, or else of the recipe's base.
        ``files`` is what the key was made from; local files that have changed since are refused.
        Raises `BuildError` with the failing step's command, exit code and last 20 lines.
        """

    def commit(self, container: str, key: str) -> str:
        """Keep the files of a running container as an image under ``key``; return its id.

        Called by the builder after a ``@build`` hook returned. Nothing of the container's
        environment, volumes, run folder or guest is in the image.
        """

    def listen(self, run_dir: Path) -> Listener:
        """Open the socket that a container with this run folder will dial."""

    def run_path(self, run_dir: Path) -> str:
        """Return where the guest sees ``run_dir``."""

    def host_settings(
        self, launch: Launch, env: Mapping[str, str], *, hook: bool
    ) -> tuple[HostSettings | None, tuple[str, ...]]:
        """Return what the worker of ``launch`` takes over from this machine, and notices of it.

        ``env`` is what the class sets; ``hook`` is for a build hook. None where a worker has it
        all by itself.
        """

    def launch(self, launch: Launch) -> str:
        """Start the guest and return the container's id.

        The kernel that sees it end calls `discard`; without a kernel, a later sweep does.
        """

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Give a running container the modules that were written into its run folder since its
        launch.
        """

    def keep(self, container: str, is_kept: bool) -> None:
        """Let a container outlive this process, or not any more, where a relay leads to it."""

    def take_over(self, container: str, launch: Launch) -> None:
        """Become the process that a kept container belongs to, whose run folder has a boot file.

        Raises `EngineError`.
        """

    def ended(self, container: str) -> Ended | None:
        """Return how a container ended, or None if that can't be known."""

    def clear_run_folder(self, container: str, run_dir: Path) -> None:
        """Remove what this user can't remove from the run folder of a container that has ended.

        Wait some seconds for a container that is just ending. Raises `EngineError`.
        """

    def kept_report(self, container: str) -> bytes:
        """Return the report of an ended container that no kernel received, or nothing."""

    def leaves_behind(self, run_dir: Path) -> bool:
        """Return whether `clear_run_folder` has something to do."""

    def discard(self, container: str) -> None:
        """Remove what the engine keeps of a container that has ended. Return at once."""

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes of memory of the containers' machine, and those that are free, as far as
        they are known.
        """

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs that containers may use; empty if there are none or they are unknown."""

    def process(self, container: str) -> Owner | None:
        """Return the process of this machine that lives exactly as long as the container.

        None if the container has exited, or its process can't be known. Called once for a container
        with GPUs.
        """

    def kill(self, container: str) -> None:
        """Kill the container. Do nothing if it no longer exists."""

    def usage(self, container: str) -> Usage | None:
        """Return its current usage; None if it has exited. Called only while a view shows it."""

    def place(self, container: str) -> str:
        """Return the machine that a container runs on and what it has reserved there.

        Empty where an engine is one machine. Called only while a view shows it.
        """

    def containers(self) -> list[FoundContainer]:
        """Return every container of this package on this engine, of all sessions."""

    def kept(self) -> list[Kept]:
        """Return every image and named volume of this package. Called on demand: sizes are
        expensive.
        """

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and its content; return False if it is in use or does not exist."""

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove this package's images and stopped containers, except ``keep``; return the removed
        names.
        """
