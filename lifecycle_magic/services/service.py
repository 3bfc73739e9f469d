"""A class as it runs in a session: its current version, its images, and a pool for each set of
arguments.

A version is what one run of the cell declared. `Service.deploy` compares a new one with the
current one and does the least that makes it true: nothing, new code under the live instances,
or new containers.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from lifecycle_magic.calling import calls
from lifecycle_magic.constructor import Arguments
from lifecycle_magic.containers.container import Container
from lifecycle_magic.failure import alike
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.pools.replacing import replace
from lifecycle_magic.pools.sizing import Limits
from lifecycle_magic.pools.stats import Stats
from lifecycle_magic.services import builder
from lifecycle_magic.services.home import Home, Notices
from lifecycle_magic.services.images import Images
from lifecycle_magic.services.launcher import Launcher
from lifecycle_magic.services.serving import Serving
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec import ClassSpec
from lifecycle_magic.web.site import Served
from lifecycle_magic.wire.messages import Swap

__all__ = ["Change", "Service"]


class Change(Enum):
    """What a deployment did."""

    NEW = "new"
    UNCHANGED = "unchanged"
    SWAPPED = "swapped"
    REPLACED = "replaced"


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
        self._notices = Notices(session, name)
        self._launcher = Launcher(session, name, key, self._notices)
        self._images = Images(session, self._launcher, self._notices, name, app, key)
        self._pending: ClassSpec | None = None
        self._lock = threading.RLock()
        self._deploying = threading.Lock()
        self._failed: tuple[ClassSpec, Exception] | None = None  # the last deployment, if it did

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
        may_stay = same_state and not (fresh or rebuild)
        if old is not None and may_stay and not self._images.base_moved(old):
            if old.spec.code_key == spec.code_key and not self._sources_changed(old, spec):
                self._adopt_limits(spec)
                self._redeclare(old, spec)
                return Change.UNCHANGED
            if self._swap(old, spec):
                return Change.SWAPPED
        new = self._version(spec)
        # The image is built here, in the thread that asked: so an interrupt ends it.
        if old is None:
            self.version = new  # the panel tells of it while it is built
            try:
                self._images.of(new, force=rebuild)
            except BaseException:
                self.version = None
                raise
            return Change.NEW
        self._images.of(new, force=rebuild)
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
        version = Version.of(spec, self.session, self._notices)
        self.engine = version.engine.name
        return version

    def _redeclare(self, old: Version, spec: ClassSpec) -> None:
        """What runs is what ``spec`` declares, but perhaps for how it scales."""
        new = dataclasses.replace(old, spec=spec)
        self._images.same(old, new)
        self.version = new

    def _swap(self, old: Version, spec: ClassSpec) -> bool:
        """Only methods changed: put the new code under the live instances. False if one refuses
        it.
        """
        new = self._version(spec)
        if new.code.modules != old.code.modules:
            return False  # a container imports a module once
        self._images.same(old, new)
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
        limits, options = Limits.of(spec), spec.options
        for pool in list(self.pools.values()):
            pool.set_limits(limits=limits, timeout=options.timeout, retries=options.retries)

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
                options = version.spec.options
                pool = self.pools[arguments.key] = Pool(
                    self.name,
                    lambda on_gone: self._container(arguments, on_gone),
                    self.session.monitor,
                    limits=Limits.of(version.spec),
                    timeout=options.timeout,
                    retries=options.retries,
                    stats=self.stats,
                )
                pool.on_warm = self._prepare_spare
                self._launcher.spare.open()
            pool.stale = False
            return pool

    def _container(self, arguments: Arguments, on_gone: Callable[[Container], None]) -> Container:
        version = self.version
        assert version is not None
        return self._launcher.make(version, self._images.of(version), arguments, on_gone)

    def _prepare_spare(self) -> None:
        """A container came up: have one ready for what comes after it, if that is wanted."""
        version = self.version
        if version is not None and version.spec.options.buffer_containers:
            self._launcher.prepare_spare(version, self._images.of(version))

    def address(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Served:
        """The address of a web method of instances made with these arguments."""
        spec = self._newest()
        assert spec is not None
        return self.serving.open(spec, method, args, kwargs)

    def containers(self) -> list[Container]:
        """Those that are not gone, of pools that were closed too, the spare, and the one in which a
        build hook runs.
        """
        hook = self._images.hook
        living = self._launcher.living()
        return living if hook is None else [*living, hook]

    def stop(self, why: str) -> list[Container]:
        """Drain every container, end those that are not up yet and a build hook that runs; all
        that are on their way out. A later call starts afresh.
        """
        self.serving.close()
        going = self.containers()  # before they are asked: some are quick
        self._images.stop(why)
        with self._lock:
            pools, self.pools = list(self.pools.values()), {}
        for pool in pools:
            pool.close(why)
        self._launcher.spare.close()
        return [*going, *(one for one in self.containers() if one not in going)]
