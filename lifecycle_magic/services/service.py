"""One class in a session: its current version, its images, and a pool per set of arguments.

A version is what one run of the cell declared. `Service.deploy` compares a new version with the
current one and makes the smallest change that is enough: none, new code in the live instances, or
new containers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from lifecycle_magic.building import builder
from lifecycle_magic.container.container import Container
from lifecycle_magic.exception import EngineUnavailable
from lifecycle_magic.lifecycle import failed_classes
from lifecycle_magic.lifecycle.running_classes import RunningClass
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.pool.pool import CallStats, Pool
from lifecycle_magic.pool.replacement import replace
from lifecycle_magic.pool.sizing import Limits
from lifecycle_magic.services import class_ids, class_source
from lifecycle_magic.services.class_pools import ClassPools
from lifecycle_magic.services.context import ClassNotices, SessionContext
from lifecycle_magic.services.deployment_changes import Change, changed_since, headline
from lifecycle_magic.services.failed_deployment import FailedDeployment
from lifecycle_magic.services.images import ServiceImages
from lifecycle_magic.services.keeping import KeptContainers
from lifecycle_magic.services.launcher import Launcher
from lifecycle_magic.services.serving import Serving
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.constructor import Arguments
from lifecycle_magic.web.site import ServedAddress
from lifecycle_magic.wire.messages import Swap, SwapConflict

__all__ = ["Change", "Service"]

_log = logging.getLogger(__name__)


class Service:
    """One class of a session. ``key`` identifies it there.

    The name alone does not, because two apps may each have a class of the same name.
    """

    def __init__(self, session: SessionContext, name: str, app: str = "", key: str = "") -> None:
        self.session = session
        self.name = name
        self.app = app
        self.key = key
        self.serving = Serving(app, session.site, self.open_pool)
        self.version: Version | None = None
        self.engine = ""  # the name of the engine that was used last, for any version
        self.stats = CallStats()  # of all pools, with those that were stopped
        self.external_changes: tuple[str, ...] = ()
        """What the last deployment found changed outside the class: base image, module files."""
        self.last_edit: RunningClass | None = None
        """What the last deployment changed, and why."""
        self._conflict = ""  # why the last deployment could not keep the live instances
        self._notices = ClassNotices(session, name, key)
        self._launcher = Launcher(session, name, key, self._notices)
        self._images = ServiceImages(session, self._launcher, self._notices, name, app, key)
        self._keeping = KeptContainers(session, self._launcher, self._notices, name, key)
        self._pending: ClassSpec | None = None
        self._lock = threading.RLock()
        self._pools = ClassPools(self._lock, self._new_pool)
        self._deploying = threading.Lock()
        self._stops = 0  # the number of calls of `stop`
        self._failed: FailedDeployment | None = None  # the last deployment, if it failed
        self._is_recorded = False  # whether other processes find a record of a failure

    # --- versions --------------------------------------------------------------------------

    def declare(self, spec: ClassSpec) -> None:
        """Set ``spec`` to be deployed by the next call; nothing starts before that."""
        with self._lock:
            self._pending = spec
            self.mark_stale()

    def retry_failed_build(self) -> None:
        """Allow the next call to repeat a failed build although nothing has changed."""
        self._failed = None

    @property
    def deployment_error(self) -> Exception | None:
        """The error of the last deployment, None if it succeeded or a version runs."""
        failed = self._failed
        return failed.error if failed is not None and self.version is None else None

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by the key of their constructor arguments."""
        return self._pools.by_key

    def mark_stale(self) -> None:
        """Mark all pools as stale, so that each handle looks up its pool before its next call."""
        self._pools.mark_stale()

    def deploy(self, spec: ClassSpec, *, fresh: bool = False, rebuild: bool = False) -> Change:
        """Make ``spec`` the current version and update the running containers.

        Builds the image if need be. ``fresh`` replaces the containers although nothing changed;
        ``rebuild`` also runs the build hooks again. If the new version fails to start, raises the
        error and keeps the old version.
        """
        with self._deploying:
            # Calls wait for a first version; otherwise the old version serves them meanwhile.
            self._pending = spec if self.version is None else None
            return self._try_deploy(spec, fresh, rebuild)

    def _deploy_pending(self) -> None:
        """Deploy the declared version, in the thread of the first caller.

        Each call tries until one succeeds, with two exceptions that raise the same error again:
        calls that were waiting for an attempt that failed, and any call while a failed build would
        fail again.
        """
        spec, failed = self._pending, self._failed
        with self._deploying:
            if self._pending is None:
                return
            known = self._failed
            if known is not None and known.spec is spec:
                engine = self.session.engine(known.spec.options.engine)
                if known is not failed or known.would_fail_again(engine):
                    raise known.copy_error()
            self._try_deploy(self._pending)

    def _try_deploy(self, spec: ClassSpec, fresh: bool = False, rebuild: bool = False) -> Change:
        stops = self._stops + self._images.interrupted_hooks
        old = self.version.spec if self.version is not None else None
        why = "--rebuild" if rebuild else "--fresh" if fresh else ""
        try:
            change = self._deploy(spec, fresh, rebuild)
        except Exception as error:
            engine = None
            if not isinstance(error, EngineUnavailable):  # a silent machine is waited for once
                with contextlib.suppress(Exception):  # no engine available: not a failed build
                    engine = self.session.engine(spec.options.engine)
            # A build that the user stopped has not failed: the next call may build it.
            was_stopped = self._stops + self._images.interrupted_hooks != stops
            self._failed = FailedDeployment.of(spec, error, None if was_stopped else engine)
            if self.version is None:
                self._failed.record(self.key, engine).write(self.session.folder)
                self._is_recorded = True
            raise
        if self._is_recorded:
            failed_classes.forget(self.session.folder, self.key)
            self._is_recorded = False
        self._failed = None
        self._record_edit(change, old, spec, why)
        self.serving.follow(spec)
        with self._lock:
            if self._pending is spec:
                self._pending = None
            self.mark_stale()  # a method's kind, and so its handle, may have changed
        return change

    def _record_edit(self, change: Change, old: ClassSpec | None, new: ClassSpec, why: str) -> None:
        """Record what runs since this deployment, for this process and for others."""
        if change is Change.UNCHANGED and self.last_edit is not None:
            return
        text = headline(change, old, new, why=why, around=self.external_changes)
        if change is Change.REPLACED and self._conflict:
            text = f"{text} ({self._conflict})"
        _ = new.code_parts, new.state_parts  # as they are now; `changed_since` compares later
        source = class_source.of(new.cls)
        self.last_edit = RunningClass(
            self.name, self.key, self.app, self.engine, time.time(), text, source
        )
        self.last_edit.write(self.session.folder)

    def changed_since(self) -> list[str]:
        """Return the names that the class uses as they were when it was deployed, not as they are
        now.
        """
        version = self.version
        if version is None or self._pending is not None:
            return []
        try:
            return changed_since(version.spec)
        except Exception:  # what it refers to may be deleted by now
            return []

    def _deploy(self, spec: ClassSpec, fresh: bool = False, rebuild: bool = False) -> Change:
        old = self.version
        self._conflict = ""
        same_state = old is not None and old.spec.state_key == spec.state_key
        may_stay = same_state and not (fresh or rebuild)
        moved = old is not None and may_stay and self._images.has_new_base(old)
        self.external_changes = ("the base image",) if moved else ()
        if old is not None and may_stay and not moved:
            if old.spec.code_key == spec.code_key and not self._have_sources_changed(old, spec):
                self._redeclare(old, spec)
                self._pools.set_limits(spec)
                return Change.UNCHANGED
            if self._swap(old, spec):
                return Change.SWAPPED
        new = self._version(spec)
        if old is not None:
            self.external_changes += old.code.changed_files(new.code)
        # The image is built in the caller's thread, so that an interrupt ends the build.
        if old is None:
            self.version = new  # the panel shows it during the build
            try:
                image = self._images.ensure(new, force=rebuild)
                pool_for = functools.partial(self._pools.find, spec)
                return self._keeping.adopt(new, image, pool_for, may_stay=not (fresh or rebuild))
            except BaseException:
                self.version = None
                raise
        self._images.ensure(new, force=rebuild)
        self._replace(old, new)
        self._pools.set_limits(spec)
        return Change.REPLACED

    def _replace(self, old: Version, new: Version) -> None:
        """Start containers of ``new``, then drain those of ``old``; on an error keep the old."""
        why = "it was replaced by new code"
        _log.debug("%s: new containers", new.spec.name)
        try:
            with self._pools.matched_to(new.spec) as matched:
                self.version = new
                replace([pool for pool in matched.pools.values() if pool.containers], why)
        except BaseException:
            self.version = old
            raise
        for pool in matched.unmatched:
            pool.close(why)

    def _version(self, spec: ClassSpec) -> Version:
        version = Version.of(spec, self.session, self._notices)
        self.engine = version.engine.name
        return version

    def _redeclare(self, old: Version, spec: ClassSpec) -> None:
        """Record ``spec`` for the running code: at most its scaling options have changed."""
        spec.read_now()
        class_ids.give_ids(old.code.sizes)
        new = dataclasses.replace(old, spec=spec)
        new.report_replaced(self._notices)
        self._images.reuse(old, new)
        self.version = new

    def _swap(self, old: Version, spec: ClassSpec) -> bool:
        """Put new code into the live instances; return False if they need new containers.

        Called when only methods have changed.
        """
        new = self._version(spec)
        _log.debug("%s: new code under the live instances", spec.name)
        if new.code.modules != old.code.modules:
            return False  # a container imports a module once
        self._images.reuse(old, new)
        swap = Swap(new.code.cls, spec.exit, spec.web, spec.code_key)
        self.version = new
        try:
            self._pools.swap(swap)
        except SwapConflict as conflict:
            self._conflict = str(conflict)
            self.session.notice(
                self.name,
                f"{self.name}: new containers, because {conflict}",
                service=self.key,
            )
            self.version = old
            return False
        except Exception as error:
            self._conflict = f"the new code failed in a running one: {error}"
            self.session.notice(
                self.name,
                f"{self.name}: new containers, because the new code failed in a running "
                f"one: {error}",
                service=self.key,
            )
            self.version = old
            return False
        self._pools.set_limits(spec)
        return True

    def _have_sources_changed(self, old: Version, spec: ClassSpec) -> bool:
        """Return whether a module named in ``add_local_python_source`` has been edited."""
        if spec.options.image is None or not spec.options.image.python_sources:
            return False
        return self._version(spec).code.modules != old.code.modules

    @property
    def declared(self) -> type | None:
        """The class that runs, or that the next call will deploy."""
        spec = self._newest()
        return spec.cls if spec is not None else None

    def newest(self) -> ClassSpec:
        """Return the declaration that runs, or that the next call will deploy."""
        spec = self._newest()
        assert spec is not None
        return spec

    def _newest(self) -> ClassSpec | None:
        return self._pending or (self.version.spec if self.version else None)

    def build_reason(self) -> str:
        """Return readable lines about what changed with the last build, or will with the next."""
        spec = self.newest()
        return builder.reason(spec, self.session.engine(spec.options.engine), self.app)

    # --- pools -----------------------------------------------------------------------------

    def open_pool(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool:
        """Return the pool for these constructor arguments, made if need be.

        Deploy a declared version first.
        """
        if self._pending is not None:
            self._deploy_pending()
        version = self.version
        assert version is not None
        return self._pools.find(version.spec, version.spec.arguments(args, kwargs))

    def _new_pool(self, spec: ClassSpec, arguments: Arguments) -> Pool:
        def make(on_exited: Callable[[Container], None]) -> Container:
            return self._container(self._pools.arguments(pool, arguments), on_exited)

        pool = Pool(
            self.name,
            make,
            self.session.event_loop,
            limits=Limits.of(spec),
            timeout=spec.options.timeout,
            retries=spec.options.retries,
            stats=self.stats,
        )
        pool.on_warm = functools.partial(self._on_warm, pool)
        pool.on_limits = functools.partial(self._protect, pool)
        self._launcher.spare.open()
        return pool

    def _container(self, arguments: Arguments, on_exited: Callable[[Container], None]) -> Container:
        version = self.version
        assert version is not None
        return self._launcher.make(version, self._images.ensure(version), arguments, on_exited)

    def _protect(self, pool: Pool) -> None:
        """Have a pool's warm containers wait for another kernel as the class's ``keep`` says."""
        version = self.version
        if version is None:
            return
        for container in pool.containers:
            if container.state in WARM_STATES:
                self._keeping.protect(container, version, pool)

    def _on_warm(self, pool: Pool, container: Container) -> None:
        """Launch a spare container now that one is ready, if ``buffer_containers`` asks for it."""
        version = self.version
        if version is not None:
            self._keeping.protect(container, version, pool)
        self._keeping.record_warm()
        if version is None or version.spec.options.gpu_requests():
            return  # it would hold a GPU that does nothing
        if version.spec.options.buffer_containers:
            self._launcher.prepare_spare(version, self._images.ensure(version))

    def open_address(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ServedAddress:
        """Open the address of a web method, for instances made with these arguments."""
        spec = self.newest()
        return self.serving.open(spec, method, args, kwargs)

    def containers(self) -> list[Container]:
        """Return all containers that have not exited.

        They include those of closed pools, the spare, and the container of a running build hook.
        """
        hook = self._images.hook_container
        living = self._launcher.containers()
        return living if hook is None else [*living, hook]

    def stop(self, why: str) -> list[Container]:
        """Cancel running calls, stop all containers and a build; return the stopping containers.

        A later call starts new ones.
        """
        self._stops += 1
        self.serving.close()
        stopping = self.containers()  # before the request to stop: some exit at once
        self._images.stop(why)
        self._keeping.stop(why)
        for pool in self._pools.take_all():
            pool.close(why)
        self._launcher.spare.close()
        return [*stopping, *(one for one in self.containers() if one not in stopping)]
