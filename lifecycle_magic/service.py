"""A class as it runs in a session: its current version, its image, and a pool for each set of
arguments.

A version is what one run of the cell declared. `Service.deploy` compares a new one with the
current one and does the least that makes it true: nothing, new code under the live instances,
or new containers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

from lifecycle_magic import builder, bundle, calls, full, origin
from lifecycle_magic.baking import RunFunction
from lifecycle_magic.bus import Bus
from lifecycle_magic.constructor import Arguments
from lifecycle_magic.container import Container
from lifecycle_magic.engines.base import LABEL, Engine, Launch, Mount
from lifecycle_magic.exception import Error, InvalidError, SerializationError
from lifecycle_magic.image import Image
from lifecycle_magic.inputs import show
from lifecycle_magic.keeping import Ledger
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.options import Options
from lifecycle_magic.owner import Owner
from lifecycle_magic.paths import private_folder
from lifecycle_magic.pool import Pool, alike, replace
from lifecycle_magic.serving import Serving
from lifecycle_magic.sizing import Limits
from lifecycle_magic.slots import Plan
from lifecycle_magic.spare import Spare
from lifecycle_magic.spec import CALL, ClassSpec, read_function
from lifecycle_magic.state import Event, LogLine, Publish
from lifecycle_magic.stats import Stats
from lifecycle_magic.web.site import Served, Site
from lifecycle_magic.wire.messages import Setup, Swap
from lifecycle_magic.wire.pickling import dumps, dumps_by_value
from lifecycle_magic.wire.shared import LIMIT


class Home(Protocol):
    """What a service needs of the session it is in: `lifecycle_magic.session.Session`."""

    id: str
    owner: Owner
    folder: Path
    bus: Bus
    monitor: Monitor
    site: Site
    ledger: Ledger

    def engine(self, wanted: Literal["auto", "docker", "process"] | None = None) -> Engine: ...
    def notice(
        self, cls: str | None, text: str, level: Literal["info", "warning"] = "info"
    ) -> None: ...
    def gone(self, container: Container, engine: str) -> None: ...


class Change(Enum):
    """What a deployment did."""

    NEW = "new"
    UNCHANGED = "unchanged"
    SWAPPED = "swapped"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Version:
    """One declaration of the class, with the class as bytes: what runs is what was declared
    then.
    """

    spec: ClassSpec
    engine: Engine
    code: bundle.Code

    @property
    def image(self) -> Image:
        return self.spec.options.image or Image.debian_slim()


class Service:
    """One class of one session, which knows it by ``key``: two apps may each have a class of one
    name.
    """

    def __init__(self, session: Home, name: str, app: str = "", key: str = "") -> None:
        self.session = session
        self.name = name
        self.app = app
        self.key = key
        self.serving = Serving(app, session.site, self.pool)
        self.version: Version | None = None
        self.engine = ""  # the name of the one that was asked last, for this version or for none
        self.pools: dict[str, Pool] = {}
        self.stats = Stats()  # of all its pools, those that were stopped included
        self._pending: ClassSpec | None = None
        self._lock = threading.RLock()
        self._deploying = threading.Lock()
        self._building = threading.Lock()  # calls and `stop` go on while an image is built
        self._failed: tuple[ClassSpec, Exception] | None = None  # the last deployment, if it did
        self._built: dict[int, tuple[Version, str]] = {}  # id(version) → that, image id
        self._base = ""  # what the image last built starts from
        self._said: set[str] = set()
        self._spare = Spare()
        self._living: set[Container] = set()  # but for those of builds
        self._hook: Container | None = None  # runs a build hook

    # --- versions --------------------------------------------------------------------------

    def declare(self, spec: ClassSpec) -> None:
        """Have the next call deploy ``spec``; nothing is started before."""
        with self._lock:
            self._pending = spec
            for pool in self.pools.values():
                pool.stale = True

    def deploy(self, spec: ClassSpec, *, fresh: bool = False, rebuild: bool = False) -> Change:
        """Make ``spec`` the current version, with what runs following it.

        Builds the image if need be. ``fresh`` replaces the containers though nothing changed;
        ``rebuild`` also runs the build hooks again. Raises why the new version does not come
        up; the old one is then kept.
        """
        with self._deploying:
            # Calls wait for a first version; else what runs serves them meanwhile.
            self._pending = spec if self.version is None else None
            return self._try(spec, fresh, rebuild)

    def _deploy_pending(self) -> None:
        """Deploy what was declared, whoever comes first; until it succeeds each call tries, but
        for those that waited for one that failed.
        """
        spec, failed = self._pending, self._failed
        with self._deploying:
            if self._pending is None:
                return
            if self._failed is not None and self._failed is not failed and self._failed[0] is spec:
                raise alike(self._failed[1])
            self._try(self._pending)

    def _try(self, spec: ClassSpec, fresh: bool = False, rebuild: bool = False) -> Change:
        try:
            change = self._deploy(spec, fresh, rebuild)
        except Exception as error:
            self._failed = spec, error
            raise
        self._failed = None
        self.serving.follow(spec)
        with self._lock:
            if self._pending is spec:
                self._pending = None
        return change

    def _deploy(self, spec: ClassSpec, fresh: bool = False, rebuild: bool = False) -> Change:
        old = self.version
        same_state = old is not None and old.spec.state_key == spec.state_key
        if old is not None and same_state and not (fresh or rebuild or self._base_moved(old)):
            if old.spec.code_key == spec.code_key and not self._sources_changed(old, spec):
                self._adopt_limits(spec)
                self._rename(old, spec)
                return Change.UNCHANGED
            if self._swap(old, spec):
                return Change.SWAPPED
        new = self._version(spec)
        # The image is built here, in the thread that asked: so an interrupt ends it.
        if old is None:
            self.version = new  # the panel tells of it while it is built
            try:
                self._image(new, force=rebuild)
            except BaseException:
                self.version = None
                raise
            return Change.NEW
        self._image(new, force=rebuild)
        self.version = new
        try:
            running = [pool for pool in list(self.pools.values()) if pool.containers]
            replace(running, "it was replaced by new code")
        except BaseException:
            self.version = old
            raise
        self._adopt_limits(spec)
        return Change.REPLACED

    def _version(self, spec: ClassSpec) -> Version:
        try:
            spec.read_now()
            named = spec.options.image.python_sources if spec.options.image else ()
            files = {name: path for name in named if (path := origin.file_of(name))}
            code = bundle.pack(spec.cls, {**spec.modules, **files})
        except InvalidError:
            raise
        except Exception as error:
            raise SerializationError(
                f"{spec.name} can't travel to a container: {error}. Something that it refers to "
                "can't be pickled; make it in an @enter method, not at the top of the notebook."
            ) from None
        if spec.unreadable:
            self._say_once(
                f"changes of {', '.join(spec.unreadable)} can't be seen: after one, start "
                "new containers by hand (--fresh in the cell, or %lifecycle restart)",
                "warning",
            )
        engine = self.session.engine(spec.options.engine)
        self.engine = engine.name
        return Version(spec, engine, code)

    def _rename(self, old: Version, spec: ClassSpec) -> None:
        """What runs is what ``spec`` declares, but perhaps for how it scales."""
        with self._lock:
            new = dataclasses.replace(old, spec=spec)
            if id(old) in self._built:
                self._built[id(new)] = new, self._built[id(old)][1]
            self.version = new

    def _swap(self, old: Version, spec: ClassSpec) -> bool:
        """Only methods changed: put the new code under the live instances. False if one refuses
        it.
        """
        new = self._version(spec)
        if new.code.modules != old.code.modules:
            return False  # a container imports a module once
        with self._lock:
            if id(old) in self._built:
                self._built[id(new)] = new, self._built[id(old)][1]
        swap = Swap(new.code.cls, spec.exit, spec.web)
        self.version = new
        pools = list(self.pools.values())
        try:
            with calls.interrupts_to(*(pool.interrupt_swap for pool in pools)):
                for pool in pools:
                    pool.swap(swap)
        except Exception as error:
            # An instance whose layout changed (__slots__, say), or a class that does not load
            # there.
            self.session.notice(
                self.name, f"{self.name}: the new code does not fit the live instance ({error})"
            )
            self.version = old
            return False
        self._adopt_limits(spec)
        return True

    def _sources_changed(self, old: Version, spec: ClassSpec) -> bool:
        """Whether a module that was named in ``add_local_python_source`` was edited."""
        if spec.options.image is None or not spec.options.image.python_sources:
            return False
        return self._version(spec).code.modules != old.code.modules

    def _adopt_limits(self, spec: ClassSpec) -> None:
        """Scaling may change without touching a container."""
        for pool in self.pools.values():
            pool.set_limits(**_limits(spec))

    # --- pools -----------------------------------------------------------------------------

    def pool(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool:
        """The pool of the containers made with these constructor arguments."""
        if self._pending is not None:
            self._deploy_pending()
        version = self.version
        assert version is not None
        arguments = version.spec.arguments(args, kwargs)
        with self._lock:
            pool = self.pools.get(arguments.key)
            if pool is None:
                pool = self.pools[arguments.key] = Pool(
                    self.name,
                    lambda on_gone: self._container(arguments, on_gone),
                    self.session.monitor,
                    stats=self.stats,
                    **_limits(version.spec),
                )
                pool.on_warm = self._prepare_spare
                self._spare.open()
            pool.stale = False
            return pool

    def address(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Served:
        """The address of a web method of instances made with these arguments."""
        spec = self._newest()
        assert spec is not None
        return self.serving.open(spec, method, args, kwargs)

    def containers(self) -> list[Container]:
        """Those that are not gone, of pools that were closed too, the spare, and the one in which a
        build hook runs.
        """
        with self._lock:
            living = list(self._living)
        return living if self._hook is None else [*living, self._hook]

    def stop(self, why: str) -> list[Container]:
        """Drain every container, end those that are not up yet and a build hook that runs; all
        that are on their way out. A later call starts afresh.
        """
        self.serving.close()
        going = self.containers()  # before they are asked: some are quick
        hook = self._hook
        if hook is not None:
            hook.end(why)
        with self._lock:
            pools, self.pools = list(self.pools.values()), {}
        for pool in pools:
            pool.close(why)
        self._spare.close()
        return [*going, *(one for one in self.containers() if one not in going)]

    # --- containers ------------------------------------------------------------------------

    def _container(self, arguments: Arguments, on_gone: Callable[[Container], None]) -> Container:
        version = self.version
        assert version is not None
        spec = version.spec
        image = self._image(version)
        setup = Setup(
            cls=version.code.cls,
            arguments=_together(arguments),
            enter=spec.enter,
            exit=spec.exit,
            env=_environment(spec),
            shared_limit=_shared_limit(spec),
            web=spec.web,
        )
        gone = self._gone(version.engine, on_gone)
        plan = self._plan(version, image, setup)
        if spec.options.buffer_containers:
            spare = self._spare.take(_spare_key(version, image), plan, gone)
            if spare is not None:
                bundle.write_modules(version.code, spare.plan.launch.run_dir)
                self._write_card(spare, version)
                return spare
        return self._make(version, plan, gone)

    def _plan(self, version: Version, image: str, setup: Setup) -> Plan:
        spec = version.spec
        options = spec.options
        plain = "".join(c for c in spec.name.lower() if c.isascii() and c.isalnum())
        name = f"lm-{plain[:24]}-{secrets.token_hex(4)}"
        owner = self.session.owner
        launch = Launch(
            name=name,
            image=image,
            run_dir=self.session.folder / name,
            guest_dir=bundle.guest_folder(),
            labels={
                f"{LABEL}.session": self.session.id,
                f"{LABEL}.owner": json.dumps([owner.pid, owner.started, owner.boot]),
                f"{LABEL}.class": spec.name,
                f"{LABEL}.key": spec.state_key[:16],
            },
            mounts=tuple(Mount(path, volume) for path, volume in options.volumes.items()),
            cpu=self._cores(options.cpu),
            memory=options.memory,
            gpu=options.gpu,
            shm_size=options.shm_size,
            block_network=options.block_network,
            stop_timeout=math.ceil(options.exit_grace) + 5,
        )
        self._honour(version.engine, version.image, launch)
        return Plan(
            cls=spec.name,
            launch=launch,
            setup=setup,
            channels=spec.max_inputs,
            grace=options.exit_grace,
            startup_timeout=options.startup_timeout,
            memory=options.memory,
            service=self.key,
        )

    def _make(
        self,
        version: Version,
        plan: Plan,
        gone: Callable[[Container], None],
        *,
        is_build: bool = False,
        publish: Publish | None = None,
    ) -> Container:
        with full.explained("start a container"):
            private_folder(plan.launch.run_dir)
            if plan.setup.cls:  # a spare gets its class, and what comes with it, later
                bundle.write_modules(version.code, plan.launch.run_dir)
        container = Container(
            plan,
            version.engine,
            self.session.monitor,
            publish or self.session.bus.publish,
            gone,
        )
        self._write_card(container, version)
        if not is_build:
            with self._lock:
                self._living.add(container)
        return container

    def _write_card(self, container: Container, version: Version, spare: bool = False) -> None:
        """What a later session has to know to tell what became of the container."""
        card = {
            "cls": version.spec.name,
            "engine": version.engine.name,
            "address": version.engine.address,
            "began": time.time(),
            "spare": spare,
        }
        (container.plan.launch.run_dir / "card.json").write_text(json.dumps(card))

    def _gone(
        self, engine: Engine, on_gone: Callable[[Container], None] = lambda _: None
    ) -> Callable[[Container], None]:
        def gone(container: Container) -> None:
            try:
                self.session.gone(container, engine.name)
            finally:
                with self._lock:
                    self._living.discard(container)
                on_gone(container)

        return gone

    def _prepare_spare(self) -> None:
        """A container came up: have one ready for what comes after it, if that is wanted."""
        version = self.version
        if version is None or not version.spec.options.buffer_containers:
            return
        image = self._image(version)
        setup = Setup(b"", b"", (), (), {}, 0)

        def make() -> Container:
            plan = self._plan(version, image, setup)
            container = self._make(version, plan, self._gone(version.engine, self._spare.lost))
            self._write_card(container, version, spare=True)
            return container

        self._spare.prepare(_spare_key(version, image), make)

    def _cores(self, cpu: float | None) -> float | None:
        here = os.cpu_count() or 1
        if cpu is not None and cpu > here:
            self._say_once(
                f"{self.name}: cpu={cpu:g} is more than this machine has; it gets all {here} cores"
            )
            return float(here)
        return cpu

    def _honour(self, engine: Engine, image: Image, launch: Launch) -> None:
        honoured = engine.review(image, launch)
        if honoured.refused:
            raise InvalidError(f"{self.name}: {'; '.join(honoured.refused)}")
        for text in honoured.ignored:
            self._say_once(f"{self.name}: {text}")

    def _say_once(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        if text not in self._said:
            self._said.add(text)
            self.session.notice(self.name, text, level)

    # --- images ----------------------------------------------------------------------------

    def _image(self, version: Version, force: bool = False) -> str:
        """The id of the image with every build hook's layer; built once per version."""
        known = self._built.get(id(version))
        if known is not None and not force:
            return known[1]
        with self._building:
            known = self._built.get(id(version))
            if known is not None and not force:
                return known[1]
            honoured = version.engine.review(version.image)
            if honoured.refused:
                raise InvalidError(f"{self.name}: {'; '.join(honoured.refused)}")
            built = builder.ensure(
                version.spec,
                version.engine,
                lambda image, hook, printed: self._run_hook(version, image, hook, printed),
                self.session.bus.publish,
                force=force,
                need=self.session.ledger.images,
                app=self.app,
                service=self.key,
            )
            with self._lock:
                current = self.version  # what runs, while its successor is not up
                self._built = {key: one for key, one in self._built.items() if one[0] is current}
                self._built[id(version)] = version, built.image
                self._base = built.base
            return built.image

    @property
    def declared(self) -> type | None:
        """The class that runs, or will with the next call."""
        spec = self._newest()
        return spec.cls if spec is not None else None

    def _newest(self) -> ClassSpec | None:
        return self._pending or (self.version.spec if self.version else None)

    def why(self) -> str:
        """What changed with the class's last build, or changes with its next, for people."""
        spec = self._newest()
        assert spec is not None
        return builder.reason(spec, self.session.engine(spec.options.engine), self.app)

    def _base_moved(self, version: Version) -> bool:
        """Whether the name that the recipe starts from means another image by now."""
        if id(version) not in self._built:
            return False
        try:
            return version.engine.base_id(version.image) != self._base
        except Error:
            return False  # what runs goes on running without it

    @contextlib.contextmanager
    def _run_hook(
        self,
        version: Version,
        image: str,
        hook: str | RunFunction,
        printed: Callable[[str], None],
    ) -> Iterator[str]:
        """A container of ``image`` in which ``hook`` has run, on a fresh instance, without
        enter and exit; ``printed`` gets its output.
        """

        def publish(event: Event) -> None:
            self.session.bus.publish(event)
            if isinstance(event, LogLine):
                printed(event.text)

        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(hook, RunFunction):
            options = Options.make(hook.name, **hook.options, engine=version.engine.name)
            version = self._version(read_function(hook.function, options))
            args, kwargs, timeout, method = hook.args, dict(hook.kwargs), hook.timeout, CALL
        else:
            timeout, method = version.spec.build_marks[hook].timeout, hook
        spec = version.spec
        arguments = spec.arguments((), {})
        setup = Setup(version.code.cls, _together(arguments), (), (), _environment(spec), 0)
        name = hook if isinstance(hook, str) else hook.name
        plan = dataclasses.replace(self._plan(version, image, setup), build_hook=f"{name}()")
        container = self._make(
            version, plan, self._gone(version.engine), is_build=True, publish=publish
        )
        self._hook = container
        try:
            container.start(show)
            pool = Pool(self.name, lambda _: container, self.session.monitor, timeout=timeout)
            pool.adopt(container)
            calls.call(pool, method, args, kwargs)
            assert container.id is not None
            yield container.id
        finally:
            try:
                container.drain("its build hook has run")
                container.gone.wait(version.spec.options.exit_grace)
            finally:  # an interrupt may end the wait
                container.kill("its build hook is over")
                self._hook = None


def _together(arguments: Arguments) -> bytes:
    data, buffers = dumps((arguments.args, arguments.kwargs))
    if not buffers:
        return data
    return dumps_by_value((arguments.args, arguments.kwargs))


def _environment(spec: ClassSpec) -> dict[str, str]:
    env = dict(spec.options.env)
    for secret in spec.options.secrets:
        env.update(secret.values())
    return env


def _shared_limit(spec: ClassSpec) -> int:
    """A quarter of the container's memory at most: the rest is for what the user loads."""
    memory = spec.options.memory
    return LIMIT if memory is None else min(LIMIT, (memory << 20) // 4)


def _spare_key(version: Version, image: str) -> str:
    """What a launched container can't change any more."""
    spec = version.spec
    return f"{version.engine.name} {image} {spec.options.key()} {spec.max_inputs}"


def _limits(spec: ClassSpec) -> dict[str, Any]:
    options = spec.options
    targets = [m.concurrent.target_inputs for m in spec.methods.values() if m.concurrent]
    limits = Limits(
        least=options.min_containers,
        # Each container holds all that enter loads: more than one is for the user to ask for.
        most=options.max_containers or max(1, options.min_containers + options.buffer_containers),
        buffer=options.buffer_containers,
        slots=spec.max_inputs,
        target=min((target for target in targets if target), default=None),
        scaledown_window=options.scaledown_window,
    )
    return {"limits": limits, "timeout": options.timeout, "retries": options.retries}
