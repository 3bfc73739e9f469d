"""The docker engine: any engine that speaks Docker's API, on this machine.

Images are built with the classic build API and kept under tags made from their keys. A container
runs the guest as process 1, dials home, and removes itself when it ends.

How it dials: where engine and kernel share a Linux, over a Unix socket in the run folder, so no
port is open anywhere. Docker Desktop's containers live in a virtual machine that no Unix socket
reaches: there it is TCP on the loopback address, which they see as ``host.docker.internal``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import ipaddress
import json
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lifecycle_magic.dockerfiles import PRIVATE_DOCKERFILE, Dockerfile
from lifecycle_magic.engines import docker_build, docker_images, docker_launch, docker_uv
from lifecycle_magic.engines.base import (
    Ended,
    Found,
    Honoured,
    Kept,
    Launch,
    Listener,
    OnStep,
    StepOutput,
    Usage,
)
from lifecycle_magic.engines.docker_client import Clients, docker_host, said
from lifecycle_magic.engines.docker_launch import ROLE, RUN, VOLUME_PREFIX, Facts
from lifecycle_magic.engines.listening import unix_socket
from lifecycle_magic.exception import BuildError, EngineError, EngineUnavailable
from lifecycle_magic.image import Image
from lifecycle_magic.recipe import FileDigests, PipInstall

if TYPE_CHECKING:
    from docker import APIClient

BUSY = 30.0  # seconds to wait for an engine that answers somebody else first

_LAST_EVENTS = 5  # seconds to wait for the engine's word on how a container ended


class DockerEngine:
    """Containers of the Docker engine at ``DOCKER_HOST``, or at Docker's own socket.

    ``transport`` is found out; give it where an engine is taken for what it is not. What is younger
    than ``young`` seconds may be in use by a kernel whose state we do not see: `prune` leaves it.

    >>> DockerEngine().check()
    'Docker 28.2.2 at unix:///var/run/docker.sock'
    """

    name: Literal["docker", "process"] = "docker"

    def __init__(
        self, *, transport: Literal["unix", "tcp"] | None = None, young: float = 600.0
    ) -> None:
        self.young = young
        self._asked = transport
        self._clients = Clients()
        self._known: Facts | None = None
        self._pythons: dict[str, int | None] = {}  # base image id → its Python 3's minor
        self._samples: dict[str, tuple[float, float]] = {}  # id → when (s), CPU used (s)

    # --- what answers ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        return docker_host()

    def check(self) -> str:
        """One line that says what answers; raises `EngineUnavailable`."""
        self._known = self._read_facts()
        return f"Docker {self._known.version} at {docker_host()}"

    @property
    def _facts(self) -> Facts:
        if self._known is None:
            self._known = self._read_facts()
        return self._known

    def _read_facts(self) -> Facts:
        with self._clients.use("tell about itself") as api:
            facts = Facts.of(api.info())
        if facts.os_type != "linux":
            raise EngineUnavailable(
                f"the engine at {docker_host()} runs {facts.os_type} containers, and "
                "Linux ones are needed: switch Docker Desktop to Linux containers"
            )
        if not _is_local(facts):
            raise EngineUnavailable(
                f"the engine at {docker_host()} runs on another machine ({facts.name}), "
                "which does not see this one's files: use one on this machine (unset DOCKER_HOST)"
            )
        return facts

    @functools.cached_property
    def _transport(self) -> Literal["unix", "tcp"]:
        if self._asked is not None:
            return self._asked
        return "tcp" if self._facts.desktop or sys.platform != "linux" else "unix"

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """What of this launch the engine can't honour; every image can be built."""
        if launch is None:
            return Honoured()
        return docker_launch.review(launch, self._facts, unix=self._transport == "unix")

    def close(self) -> None:
        """Close the idle connections. The engine can be used again."""
        self._clients.close()

    # --- images ----------------------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """The id of the recipe's base; pulled if it is missing, with ``on_step`` told.

        ``anew`` builds a Dockerfile again, without the engine's cache. Raises `BuildError` if there
        is no such image.
        """
        if image.source is not None:
            return self._from_dockerfile(image.source, on_step, anew)
        return self._present(image.reference, on_step)

    def known_base(self, image: Image) -> str | None:
        """The same, or None if something would have to be pulled or built for it."""
        if image.source is None:
            return self._image_id(image.reference)
        below = [self._image_id(reference) for reference in image.source.images()]
        if None in below:
            return None
        return self.find(_key_of(image.source.key(), below))

    def _present(self, reference: str, on_step: OnStep | None) -> str:
        """The id of an image that is here, or is pulled now."""
        found = self._image_id(reference)
        if found is not None:
            return found
        import docker.errors
        from docker.utils import parse_repository_tag

        if reference.startswith("sha256:"):
            raise docker_build.no_such_base(reference, "an id can't be pulled")
        name, tag = parse_repository_tag(reference)
        with self._clients.use(f"pull {reference}") as api:
            try:
                stream = api.pull(name, tag or "latest", stream=True, decode=True)
                docker_build.pulled(stream, reference, on_step)
            except docker.errors.APIError as error:
                raise docker_build.no_such_base(reference, said(error)) from None
        found = self._image_id(reference)
        if found is None:
            raise docker_build.no_such_base(reference, "it was pulled, and is gone again")
        return found

    def _from_dockerfile(self, source: Dockerfile, on_step: OnStep | None, anew: bool) -> str:
        below = [self._present(reference, on_step) for reference in source.images()]
        told = source.key()
        key = _key_of(told, below)
        if not anew and (found := self.find(key)) is not None:
            return found
        with (
            tempfile.TemporaryFile() as context,
            self._clients.use(f"build {source.path}") as api,
        ):
            docker_build.dockerfile_context(source, context)
            if source.key() != told:
                raise BuildError(
                    f"build {source.path.name}: files of {source.context} changed while they were "
                    "read, so nothing was built: run it again when they are written"
                )
            stream = api.build(
                fileobj=context,
                custom_context=True,
                dockerfile=PRIVATE_DOCKERFILE,
                buildargs=dict(source.args),
                tag=docker_build.tag(key),
                nocache=anew,
                rm=True,
                forcerm=True,
                decode=True,
            )
            return docker_build.followed(stream, f"build {source.path.name}", on_step)

    def find(self, key: str) -> str | None:
        """The id of the image that was kept under ``key``, or None."""
        return self._image_id(docker_build.tag(key))

    def _image_id(self, reference: str) -> str | None:
        import docker.errors

        with self._clients.use(f"look for {reference}") as api:
            try:
                return str(_inspect_image(api, reference)["Id"])
            except docker.errors.NotFound:
                return None

    def build(
        self, image: Image, key: str, on_step: OnStep, files: FileDigests | None = None
    ) -> str:
        """Build the recipe, keep it under ``key``, return its id.

        ``files`` are the digests that went into the key: what is sent is checked against them.
        An exception in the calling thread, an interrupt too, ends the build and leaves no
        container; the steps that were done stay in the engine's cache. Raises `BuildError`.
        """
        image_id = self.base_id(image)
        self._check_base(image, image_id)
        done = 0
        anew = image.force
        for number, step in enumerate(image.steps):
            if not isinstance(step, PipInstall):
                continue
            if done < number:
                image_id = self._build(image, done, number, image_id, on_step, files)
                anew = anew or any(one.force for one in image.steps[done:number])
                done = number
            anew = anew or step.force
            by_uv = self._install(step, number + 1, len(image.steps), image_id, on_step, anew)
            if by_uv is not None:
                image_id, done = by_uv, number + 1
        if done < len(image.steps) or not image.steps:
            image_id = self._build(image, done, len(image.steps), image_id, on_step, files)
        with self._clients.use("keep the image") as api:
            name, _, tag = docker_build.tag(key).partition(":")
            api.tag(image_id, name, tag)
        return image_id

    def _build(
        self,
        image: Image,
        first: int,
        end: int,
        base: str,
        on_step: OnStep,
        files: FileDigests | None,
    ) -> str:
        """Have the engine build the steps from ``first`` up to ``end`` on top of ``base``."""
        steps = image.steps[first:end]
        part = dataclasses.replace(image, steps=steps, force=image.force and first == 0)
        titles = [step.title() for step in steps]
        progress = docker_build.Progress(titles, on_step, before=first, of=len(image.steps))
        with tempfile.TemporaryFile() as context:
            docker_build.context(part, base, context, files[first:end] if files else None)
            with self._clients.use("build the image") as api:
                for message in api.build(
                    fileobj=context, custom_context=True, rm=True, forcerm=True, decode=True
                ):
                    progress.feed(message)
        return progress.image()

    def _check_base(self, image: Image, base: str) -> None:
        """Refuse a base that can't run a class; each is tried once."""
        with self._clients.use(f"try the Python of {image.reference}") as api:
            arch = _inspect_image(api, base).get("Architecture") or ""
            if image.python is not None and arch == self._facts.arch:
                return  # Python's own image
            if base not in self._pythons:
                self._pythons[base] = docker_images.python_minor(api, base)
        docker_images.check_base(image, self._pythons[base], arch, self._facts.arch)

    def _install(
        self, step: PipInstall, number: int, of: int, below: str, on_step: OnStep, anew: bool
    ) -> str | None:
        """Install packages with the host's uv on top of ``below``; None where pip has to. ``anew``:
        although it was done before.
        """
        key = hashlib.sha256(f"uv {below} {step.instruction('')}".encode()).hexdigest()
        began = time.monotonic()

        def tell(
            status: Literal["running", "output", "done", "cached"], text: str = step.title()
        ) -> None:
            seconds = time.monotonic() - began if status in ("done", "cached") else None
            on_step(StepOutput(number, of, status, text, seconds))

        if not anew and (known := self.find(key)) is not None:
            tell("running")
            tell("cached")
            return known
        container = ""
        try:
            with self._clients.use("install the packages") as api:
                uv = docker_uv.folder(_inspect_image(api, below))
                if uv is None:
                    return None
                tell("running")
                body = docker_uv.config(step, below, uv, self._facts)
                container = f"lm-build-{key[:12]}-{secrets.token_hex(4)}"
                _create(api, body, container)
                if docker_uv.run(api, container, lambda text: tell("output", text)):
                    tell("output", "the host's uv could not do it here: pip is to\n")
                    return None
            made = self.commit(container, key)
            tell("done")
            return made
        except EngineError as error:  # it may not even start: no python3, or musl
            tell("output", f"the host's uv could not do it here: {error}\n")
            return None
        finally:
            if container:
                self._discard(container)

    def commit(self, container: str, key: str) -> str:
        """Keep the files of a running container as an image under ``key``; return its id.

        What starts in it, its user and its variables are those of the image that the container
        was made from. What was mounted is no part of it, but for what lies below a ``VOLUME`` of
        the image: that is where containers of the new image find it again.
        """
        with self._clients.use("keep the container's files as an image") as api:
            made = api.inspect_container(container)
            parent = _inspect_image(api, made["Image"])["Config"]
            config = docker_launch.commit_config(made["Config"], parent)
            tag = docker_build.tag(key)
            committed = str(api.commit(container, conf=config)["Id"])
            if volumes := docker_images.own_volumes(made):
                found = docker_images.with_volumes(api, container, volumes, committed, tag)
                if found is not None:
                    return found
            repository, _, name = tag.partition(":")
            api.tag(committed, repository, tag=name)
            return committed

    # --- containers ------------------------------------------------------------------------

    def listen(self, run_dir: Path) -> Listener:
        """Open the socket that a container with this run folder will dial."""
        if self._transport == "unix":
            return Listener(unix_socket(run_dir / "sock"), f"unix:{RUN}/sock")
        bind, seen = self._tcp_addresses
        try:
            sock = socket.create_server((bind, 0))
        except OSError as error:
            raise EngineError(
                f"can't listen on {bind}, where the engine's containers would reach this "
                f"kernel: {error}"
            ) from error
        return Listener(sock, f"tcp:{seen}:{sock.getsockname()[1]}")

    @functools.cached_property
    def _tcp_addresses(self) -> tuple[str, str]:
        """Where to listen, and what containers call it: nothing that another machine can reach."""
        if self._facts.desktop or sys.platform != "linux":
            return "127.0.0.1", "host.docker.internal"
        with self._clients.use("describe its bridge network") as api:
            pools = api.inspect_network("bridge")["IPAM"]["Config"] or []
        for pool in pools:
            gateway = pool.get("Gateway")
            if gateway is None and pool.get("Subnet"):
                # A daemon that has just made its bridge does not tell; it takes the first address.
                gateway = str(next(ipaddress.ip_network(pool["Subnet"]).hosts()))
            if gateway:
                return gateway, gateway
        raise EngineError("the engine's bridge network has no gateway address to listen on")

    def run_path(self, run_dir: Path) -> str:
        """Where the guest sees ``run_dir``."""
        return RUN

    def launch(self, launch: Launch) -> str:
        """Start the guest and return the container's id; it removes itself when it ends."""
        import docker.errors

        body = docker_launch.config(launch, self._facts)
        with self._clients.use(f"start the container {launch.name}") as api:
            self._require_volumes(api, launch)
            try:
                container = _create(api, body, launch.name)
            except docker.errors.APIError:
                raise
            except BaseException:
                # Interrupted: it may have been made, and what never ran does not remove itself.
                self._discard(launch.name)
                raise
            try:
                api.start(container)
            except BaseException:
                self._discard(container)
                raise
        self._samples[container] = (time.time(), 0.0)
        return container

    def _require_volumes(self, api: APIClient, launch: Launch) -> None:
        import docker.errors

        for mount in launch.mounts:
            if mount.volume.kind == "named" and not mount.volume.create_if_missing:
                try:
                    api.inspect_volume(docker_launch.volume_name(mount))
                except docker.errors.NotFound:
                    raise EngineError(
                        f"the volume {mount.volume.name!r} for {mount.path} is not there, and "
                        "create_if_missing is False: check its name, or have it created"
                    ) from None

    def _discard(self, container: str) -> None:
        with contextlib.suppress(EngineError):
            self.kill(container)

    def kill(self, container: str) -> None:
        """End it now and remove it with its anonymous volumes; fine if it is gone."""
        import docker.errors

        self._samples.pop(container, None)
        with self._clients.use(f"kill the container {container[:12]}") as api:
            try:
                api.remove_container(container, force=True, v=True)
            except docker.errors.APIError as error:
                # 404: gone. 409: it is removing itself.
                if error.status_code not in (404, 409):
                    raise

    def ended(self, container: str) -> Ended | None:
        """How it ended, from the engine's memory of its last 256 events.

        A container that is just ending is waited for, up to 5 s.
        """
        import docker.errors

        self._samples.pop(container, None)
        code: int | None = None
        oom = over = False
        with self._clients.use("tell how a container ended") as api:
            try:
                api.inspect_container(container)
                patience = _LAST_EVENTS
            except docker.errors.NotFound:
                patience = 1  # all has been said; the engine counts whole seconds
            for event in api.events(
                since=1,
                until=int(time.time()) + patience,
                filters={"container": container, "event": ["oom", "die", "destroy"]},
                decode=True,
            ):
                action = event.get("Action")
                if action == "oom":
                    oom = True
                elif action == "die":
                    over = True
                    code = int(event["Actor"]["Attributes"]["exitCode"])
                elif action == "destroy":
                    over = True
                    break
        return Ended(code, oom) if over else None

    def usage(self, container: str) -> Usage | None:
        """CPU since the last look (at first: since its start) and memory without page cache."""
        import docker.errors

        with self._clients.use("tell what a container uses") as api:
            try:
                stats = api.stats(container, stream=False, one_shot=True)
                if container not in self._samples:
                    started = api.inspect_container(container)["State"]["StartedAt"]
                    self._samples[container] = (_epoch(started), 0.0)
            except docker.errors.NotFound:
                return None
        memory = stats.get("memory_stats") or {}
        if "usage" not in memory:
            return None  # it is there, and has ended
        now, used = time.time(), stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        then, before = self._samples.get(container, (now, used))
        self._samples[container] = (now, used)
        # Page cache that can be dropped at once is nobody's memory: named so in version 1 and 2 of
        # control groups.
        detail = memory.get("stats") or {}
        cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        limit = memory.get("limit", 0)
        return Usage(
            cpu=max(0.0, used - before) / max(now - then, 1e-3),
            memory=max(0, memory["usage"] - cache),
            memory_limit=limit if 0 < limit < self._facts.memory else None,
        )

    def containers(self) -> list[Found]:
        """Every container of ours that this engine has, of all sessions."""
        with self._clients.use("list its containers") as api:
            found = api.containers(all=True, filters={"label": f"{ROLE}=container"})
        return [
            Found(one["Id"], one["Names"][0].lstrip("/"), one["Labels"], one["State"] == "running")
            for one in found
            if one["Names"]
        ]

    # --- tidying ---------------------------------------------------------------------------

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove our images, but those whose key or id is in ``keep``, and dead containers.

        What is used by a container or is young stays, and so do volumes.
        """
        kept = keep | {docker_build.tag(key) for key in keep}
        removed: list[str] = []
        with self._clients.use("remove what is not used") as api:
            for role in ("container", "probe"):
                dead = {"label": f"{ROLE}={role}", "status": ["created", "exited", "dead"]}
                for one in api.containers(all=True, filters=dead):
                    if one["Created"] < time.time() - self.young and _remove(
                        api.remove_container, one["Id"]
                    ):
                        removed.append(f"container {one['Names'][0].lstrip('/')}")
            # An image goes only after those built on it, which the listing need not have first.
            while names := self._removable(api, kept):
                gone = [name for name in names if _remove(api.remove_image, name)]
                if not gone:
                    break
                removed += [f"image {name}" for name in gone]
        return removed

    def kept(self) -> list[Kept]:
        """Every image and named volume of ours, with its size."""
        with self._clients.use("list what it keeps") as api:
            containers = api.containers(all=True)
            images = api.images(filters={"label": f"{ROLE}=image"})
            volumes = [one for one in _disk_usage(api)["Volumes"] or () if _is_ours(one)]
        in_use = {one["ImageID"] for one in containers}
        found = [
            Kept(
                "image",
                next(iter(_tags(one)), one["Id"][:19]),
                one["Size"],
                one["Created"],
                one["Id"] in in_use,
            )
            for one in images
        ]
        for one in volumes:
            usage = one.get("UsageData") or {}
            size = usage.get("Size", -1)
            made = _epoch(one["CreatedAt"]) if one.get("CreatedAt") else None
            name = one["Name"].removeprefix(VOLUME_PREFIX)
            used = usage.get("RefCount", 0) > 0
            found.append(Kept("volume", name, None if size < 0 else size, made, used))
        return found

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and what is in it; False if a container has it, or it is gone."""
        with self._clients.use(f"remove the volume {name}") as api:
            return _remove(api.remove_volume, VOLUME_PREFIX + name)

    def _removable(self, api: APIClient, kept: frozenset[str]) -> Iterable[str]:
        names: list[str] = []
        for image in api.images(filters={"label": f"{ROLE}=image"}):
            tags = _tags(image)
            # One without a tag is what a failed build left, or what one has just begun.
            young = image["Created"] > time.time() - self.young
            if not young and kept.isdisjoint([image["Id"], *tags]):
                names += tags or [image["Id"]]
        return names


def _key_of(source: str, below: Sequence[str | None]) -> str:
    """The key of a Dockerfile's image, from the key of its text and files, and what is below."""
    return hashlib.sha256(json.dumps([source, below]).encode()).hexdigest()


def _disk_usage(api: APIClient) -> dict[str, Any]:
    """What ``docker system df`` tells. The engine works it out for one who asks at a time."""
    import docker.errors

    deadline = time.monotonic() + BUSY
    while True:
        try:
            told: dict[str, Any] = api.df()
        except docker.errors.APIError as error:
            if "already running" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return told


def _tags(image: dict[str, Any]) -> list[str]:
    """The names of an image in a listing, which gives one even to an image without any."""
    return [tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"]


def _remove(remove: Any, what: str) -> bool:
    """Whether it is removed; what is in use or gone already is not."""
    import docker.errors

    try:
        remove(what)
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):
            raise
        return False
    return True


def _inspect_image(api: APIClient, reference: str) -> dict[str, Any]:
    found: dict[str, Any] = api.inspect_image(reference)  # type: ignore[no-untyped-call]
    return found


def _create(api: APIClient, body: dict[str, Any], name: str) -> str:
    made = api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
    return str(made["Id"])


def _is_ours(volume: dict[str, Any]) -> bool:
    """Whether a volume is a named one of ours: an ephemeral one goes with its container."""
    labelled = (volume.get("Labels") or {}).get(ROLE) == "volume"
    return labelled and bool(volume["Name"].startswith(VOLUME_PREFIX))


def _is_local(facts: Facts) -> bool:
    """Whether the engine sees this machine's files."""
    where = urlsplit(docker_host())
    if where.scheme in ("unix", "npipe"):
        return True
    return facts.name == socket.gethostname() or (
        where.hostname in ("127.0.0.1", "localhost", "::1") and facts.desktop
    )


def _epoch(timestamp: str) -> float:
    """Seconds since the epoch of the engine's RFC 3339 times, which have nanoseconds."""
    import datetime

    whole = timestamp.partition(".")[0].rstrip("Z")
    return datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
