"""The seam between the product and whatever runs containers.

An engine builds images and launches one command in one of them; it knows nothing of
classes, hooks or calls. What is launched is always the guest (`lifecycle_magic.guest`),
which dials home to the listener that the engine opened for it. All methods may be called
from any thread; all raise `EngineError` (or `EngineUnavailable`) with a message for people.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from lifecycle_magic.image import Image
from lifecycle_magic.recipes.recipe import FileDigests
from lifecycle_magic.volume import Volume

LABEL = "lifecycle-magic"  # every label of ours is LABEL + ".<name>"


@dataclass(frozen=True)
class Mount:
    """A volume at an absolute path inside the container."""

    path: str
    volume: Volume


@dataclass(frozen=True)
class Launch:
    """Everything an engine has to know to launch one container.

    ``run_dir`` is the container's run folder on the host: 0700, with ``boot.json`` inside, mounted
    writable at `Engine.run_path`. ``guest_dir`` is the guest's code, mounted read-only.
    ``memory`` and ``shm_size`` are MiB, ``cpu`` is cores, ``stop_timeout`` is seconds between a
    polite stop from outside and the kill. Secrets are not here: they travel over the wire.
    """

    name: str
    image: str
    run_dir: Path
    guest_dir: Path
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    cpu: float | None = None
    memory: int | None = None
    gpu: str | int | None = None
    shm_size: int | None = None
    block_network: bool = False
    stop_timeout: int = 35


@dataclass(frozen=True)
class Listener:
    """An open listening socket and the address under which the guest finds it.

    ``address`` is ``unix:<path>`` or ``tcp:<host>:<port>``, as the guest sees it.
    """

    sock: socket.socket
    address: str


@dataclass(frozen=True)
class Ended:
    """How the engine says a container ended, where it knows; ``exit_code`` 128+n is signal n."""

    exit_code: int | None
    oom: bool = False


@dataclass(frozen=True)
class Found:
    """A container that the engine still has, with its labels."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool


@dataclass(frozen=True)
class Usage:
    """CPU in cores, memory and its limit in bytes (None: unlimited or unknown)."""

    cpu: float
    memory: int
    memory_limit: int | None = None


@dataclass(frozen=True)
class StepOutput:
    """What `Engine.build` reports: a step began, printed, or ended."""

    step: int
    of: int
    status: Literal["running", "output", "done", "cached", "failed"]
    text: str
    seconds: float | None = None


OnStep = Callable[[StepOutput], None]


@dataclass(frozen=True)
class Honoured:
    """What an engine can't do of a launch, each in a sentence that names the option.

    ``refused`` stops the launch; ``ignored`` is told in the card and goes on.
    """

    refused: tuple[str, ...] = field(default=())
    ignored: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Kept:
    """An image or a named volume that the engine keeps for us.

    ``size`` is bytes, of an image with what it shares with others; ``made`` is seconds since the
    epoch; ``used`` says that a container has it.
    """

    kind: Literal["image", "volume"]
    name: str
    size: int | None
    made: float | None
    used: bool


class Engine(Protocol):
    """One engine. ``name`` is ``docker`` or ``process``, ``address`` tells it from others of that
    name.
    """

    name: Literal["docker", "process"]

    @property
    def address(self) -> str: ...

    def check(self) -> str:
        """One line that says what answers (name and version); raises `EngineUnavailable`.

        Called once when the engine is chosen, and by ``%lifecycle doctor``.
        """

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """What of this image and launch can't be honoured here; no I/O beyond a look at the
        host.
        """

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """The id of the recipe's base: part of every key.

        Pulled if it is missing, of which ``on_step`` is told as of one step. ``anew`` makes a base
        that is made here, from a Dockerfile, again.
        """

    def known_base(self, image: Image) -> str | None:
        """The same, or None if something would have to be pulled or built for it."""

    def find(self, key: str) -> str | None:
        """The id of the image that was kept under ``key``, or None."""

    def build(
        self, image: Image, key: str, on_step: OnStep, files: FileDigests | None = None
    ) -> str:
        """Build ``image``'s steps, keep the result under ``key``, return its id.

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
        """Where the guest sees ``run_dir``."""

    def launch(self, launch: Launch) -> str:
        """Start the guest and return the container's id; it removes itself when it ends."""

    def ended(self, container: str) -> Ended | None:
        """How a container that is gone ended, or None where that can't be known."""

    def kill(self, container: str) -> None:
        """End it now, and do not mind if it is gone."""

    def usage(self, container: str) -> Usage | None:
        """What it uses now; None if it is gone. Called only while somebody looks."""

    def containers(self) -> list[Found]:
        """Every container of ours that this engine has, of all sessions."""

    def kept(self) -> list[Kept]:
        """Every image and named volume of ours. Called only when somebody asks: sizes cost."""

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and what is in it; False if a container has it, or it is gone."""

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove images (and stopped containers) of ours but those in ``keep``; what was
        removed.
        """
