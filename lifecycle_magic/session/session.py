"""The session: the running containers of one kernel, and everything that it leaves behind.

There is one session per process, which opens when it is first needed. Containers notice its end
themselves, so nothing has to run here for them to exit. `Session.close` only makes the end orderly
and waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lifecycle_magic.building.build_steps import Builds
from lifecycle_magic.container.record import discard
from lifecycle_magic.container.registry import close_in_fork, running_in
from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import disk_full, process_limit, temporary_names
from lifecycle_magic.host.ledger import Ledger
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import private_folder, state_root
from lifecycle_magic.lifecycle import diagnostics
from lifecycle_magic.lifecycle.bus import Bus
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.lifecycle.logs import Logs
from lifecycle_magic.lifecycle.states import BuildStep, LogLine, Notice
from lifecycle_magic.services import object_store
from lifecycle_magic.session import exit_records
from lifecycle_magic.session.served_calls import ServedCalls, named
from lifecycle_magic.session.sweep import discard_left, folders, sweep
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.web.site import Site
from lifecycle_magic.wire import descriptors

if TYPE_CHECKING:
    # A session opens with the extension; containers and services come with the first class.
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.container.kept import KeptContainer
    from lifecycle_magic.engines.base import Engine
    from lifecycle_magic.handles.registry_entry import RegistryEntry
    from lifecycle_magic.services.container_calls import ContainerCalls
    from lifecycle_magic.services.service import Service

_log = logging.getLogger(__name__)

_SWEEP_SECONDS = 10.0
"""Seconds that the end of a session waits for its sweeps, which ask engines that may not answer."""


class Session:
    """One kernel's session: its services, event bus, event loop and folder."""

    def __init__(self) -> None:
        diagnostics.configure()
        descriptors.raise_limit()
        descriptors.reserve()
        self.id = secrets.token_hex(4)
        self.root = state_root()
        self.owner = Owner.me()
        self.folder = _make_folder(self.root, self.id, self.owner)
        self.ledger = Ledger(self.root, self.folder)
        self.ledger.add_volumes(_declared)
        self.bus = Bus()
        self.event_loop = EventLoop("lifecycle-event-loop")
        self.history = History(self.root)
        self.services: dict[str, Service] = {}
        self.served_calls = ServedCalls(
            self.folder,
            self.owner,
            self.event_loop,
            self.services,
            lambda text: self.notice(None, text, "warning"),
        )
        self.objects = object_store.ObjectStore(self.event_loop.call_later)
        self.site = Site()
        self._engines: dict[str, Engine] = {}
        # a message for each engine that no class has used yet
        self._unannounced: dict[str, str] = {}
        self._lock = threading.Lock()
        self.output = Logs()
        self.bus.subscribe(self.output.take, [LogLine])
        self.builds = Builds()
        self.bus.subscribe(self.builds.take, [BuildStep])
        self._sweeper = threading.Thread(target=self._sweep, name="lifecycle-sweep", daemon=True)
        self._sweeper.start()
        self._engine_sweepers: list[threading.Thread] = []
        _opened.append(weakref.ref(self))
        _log.debug("session %s opened in %s", self.id, self.folder)

    # --- engines ---------------------------------------------------------------------------

    def engine(self, wanted: str | None = None, *, announce: bool = True) -> Engine:
        """Return an engine: ``wanted``, the one of ``LIFECYCLE_MAGIC_ENGINE``, or an
        available one.

        With ``announce``, the first use of each engine is reported to the user. Raises
        `EngineUnavailable` if the requested engine does not answer.
        """
        from lifecycle_magic.engines.choose import choose

        name = wanted or os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
        with self._lock:
            if name not in self._engines:
                engine, self._unannounced[name] = choose(name)
                self._engines[name] = engine
                if engine.name not in ("docker", "process"):  # the sweep has not looked there
                    sweeper = threading.Thread(
                        target=self._sweep_engine, args=(engine,), name="lifecycle-sweep"
                    )
                    sweeper.daemon = True
                    sweeper.start()
                    self._engine_sweepers.append(sweeper)
            line = self._unannounced.pop(name, "") if announce else ""
            if line:
                self.notice(None, line)
            return self._engines[name]

    def engines(self) -> list[Engine]:
        """Return the default engine and the others that classes have used."""
        first = self.engine(announce=False)
        with self._lock:
            others = {one.name: one for one in self._engines.values()}
        return [first, *(one for name, one in others.items() if name != first.name)]

    def used_engines(self) -> list[Engine]:
        """Return the engines beyond this machine that classes have used, each once."""
        with self._lock:
            found = {one.name: one for one in self._engines.values()}
        return [one for name, one in found.items() if name not in ("docker", "process")]

    @property
    def container_calls(self) -> ContainerCalls:
        """The service for calls that containers make."""
        return self.served_calls.container_calls

    def uses_engine(self, name: str) -> bool:
        """Return whether this session has used the engine called ``name``."""
        return any(engine.name == name for engine in list(self._engines.values()))

    def notice(
        self,
        cls: str | None,
        text: str,
        level: Literal["info", "warning"] = "info",
        service: str = "",
    ) -> None:
        notice = Notice(cls, text, time.time(), level, service)
        _log.debug("%s", notice.whole)
        self.bus.publish(notice)

    # --- containers ------------------------------------------------------------------------

    def containers(self) -> list[Container]:
        """Return the containers of all classes that have not exited."""
        return [c for service in list(self.services.values()) for c in service.containers()]

    def record_exit(self, container: Container, engine: str) -> None:
        """Add an exited container to the history, and remove its run folder."""
        exit_records.record(container, engine, self.id, self.history, self.notice)

    def logs(self, key: str, container: str | None = None) -> str:
        """Return the last output of a class's containers, including exited ones, or of one
        container.
        """
        return self.output.text(key, container)

    # --- what earlier kernels have kept ------------------------------------------------------

    def kept(self, keys: Iterable[str] | None = None) -> list[KeptContainer]:
        """Return the containers that earlier kernels of this notebook have kept: those of the
        classes ``keys``, or of all.
        """
        from lifecycle_magic.container import kept
        from lifecycle_magic.services import notebook_identity

        wanted = None if keys is None else set(keys)
        return [
            one
            for one in kept.find_all(self.root, self.id)
            if one.record.notebook == notebook_identity.current()
            and (wanted is None or one.record.key in wanted)
        ]

    def stop_kept(self, found: Iterable[KeptContainer], why: str) -> list[str]:
        """Have kept containers run their ``exit``, wait for them, and add them to the history.

        Return their names.
        """
        from lifecycle_magic.container import kept

        records = [one.record for one in found]
        for one in kept.stop_all(records, why):
            text = f"{one.cls}: {one.container} has not exited yet"
            self.notice(one.cls, text, "warning", one.key)
        if records:
            self.sweep_again()
        return [one.container for one in records]

    # --- closing ---------------------------------------------------------------------------

    def stop(
        self, names: Iterable[str] | None = None, why: str = "it was stopped"
    ) -> list[Container]:
        """Drain the containers of the classes ``names``, or of all. Return the stopping ones at
        once.
        """
        chosen = list(self.services) if names is None else list(names)
        return [container for name in chosen for container in self.services[name].stop(why)]

    def close(self, why: str) -> list[Container]:
        """Stop everything, and wait until each container has exited, however long its exit
        takes.
        """
        self.site.close()
        self.served_calls.close_peers()
        going = self.stop(why=why)
        wait_gone(going)
        self.served_calls.close_inside()
        self.objects.close()
        self.services.clear()
        deadline = time.monotonic() + _SWEEP_SECONDS
        for sweeper in (self._sweeper, *self._engine_sweepers):
            sweeper.join(max(0.0, deadline - time.monotonic()))
        self.event_loop.stop()
        for engine in self._engines.values():
            engine.close()
        left = {container.plan.launch.run_dir for container in running_in(self.folder)}
        for run_dir in folders(self.folder) if left else ():
            if run_dir not in left:
                discard(run_dir)
        if not left:  # otherwise a later session finds there how they ended
            remove_tree(str(self.folder))
        return going

    # --- what dead sessions left -----------------------------------------------------------

    def sweep_again(self) -> None:
        """Clean up again after dead sessions.

        The sweep at the session's start may have found exits that were still running.
        """
        self._sweeper.join()
        self._sweep()

    def _sweep_engine(self, engine: Engine) -> None:
        self._sweeper.join()  # what it says of a container is less than the container's own report
        with contextlib.suppress(Exception):  # it may be closed or unreachable any time
            discard_left(engine, self.history)

    def _sweep(self) -> None:
        try:
            for folder, error in sweep(self.root, self).items():
                self.notice(None, f"could not clean up {folder}: {error}", "warning")
        except Exception as error:
            self.notice(None, f"could not clean up after earlier sessions: {error}", "warning")


def wait_gone(containers: Iterable[Container]) -> None:
    """Wait for containers that have to exit.

    Their supervisors limit the time. This function kills those that have not exited 20 seconds
    later.
    """
    from lifecycle_magic.container.endings import Ending, EndKind

    for container in containers:
        if not container.exited.wait(container.plan.grace + 20):
            why = f"it had not exited {container.plan.grace + 20:g} s after it was asked to exit"
            container.end(Ending(EndKind.KILL, why), wait=True)
            container.exited.wait(10)


def _make_folder(root: Path, name: str, owner: Owner) -> Path:
    """Create a session's folder, which has its owner in it from the beginning."""
    runs = private_folder(root / "run")
    part = private_folder(runs / temporary_names.temporary_name())
    try:
        owner.write(part / "owner.json")
        return part.rename(runs / name)
    except OSError:
        remove_tree(str(part))
        raise


def note_volumes(key: str, names: frozenset[str], engine: str | None) -> None:
    """Keep the volumes of the class ``key`` that this process declares from being pruned.

    ``engine`` is the one that the class names.
    """
    _declared.update(names)
    _volumes_of[key] = names, engine
    session = opened()
    if session is not None:
        # now, as prune must not remove them before the first call
        session.ledger.add_volumes(names)


def name_class(key: str, found: RegistryEntry | None) -> None:
    """Let other processes call a class by its name, from when this process has a session.

    None lets them do so no longer. An empty name changes nothing.
    """
    if not key:
        return
    if found is None:
        named.pop(key, None)
    else:
        named[key] = found
        from lifecycle_magic.named.reach import note_names  # with the first class that has a name

        note_names()
    session = opened()
    if session is not None:
        session.served_calls.publish_names()


def declared_engines(volume: str) -> set[str | None]:
    """Return the engines named by the classes of this process that use a volume; None for those
    that name none.
    """
    return {engine for names, engine in list(_volumes_of.values()) if volume in names}


_volumes_of: dict[str, tuple[frozenset[str], str | None]] = {}
"""The volumes and the engine of each class declared in this process."""

_declared: set[str] = set()
"""Names of the volumes of all classes declared in this process, with or without a session."""

_opened: list[weakref.ref[Session]] = []
_current: Session | None = None
_current_lock = threading.Lock()


def current() -> Session:
    """Return this process's session, and open it if necessary."""
    global _current
    with _current_lock:
        if _current is None:
            try:
                with disk_full.explain("open a session"):
                    _current = Session()
                _current.served_calls.publish_names()
            except EngineError:
                raise
            except RuntimeError as error:
                raise EngineError(process_limit.explain(str(error)) or str(error)) from None
            except OSError as error:
                raise EngineError(
                    f"could not open a session in the state folder: {error}. "
                    "Fix: run `lifecycle-magic doctor`, which checks the folder"
                ) from None
        return _current


def opened() -> Session | None:
    """Return this process's session, or None."""
    return _current


def close(why: str) -> list[Container]:
    """Close this process's session, if there is one. Return its containers."""
    global _current
    with _current_lock:
        session, _current = _current, None
    return session.close(why) if session is not None else []


def _in_forked_child() -> None:
    """Drop the session in a forked child.

    A fork (for example by multiprocessing) must not keep containers alive by its inherited sockets.
    """
    global _current, _current_lock
    _current_lock = threading.Lock()
    session, _current = _current, None
    if session is not None:
        session.event_loop.close_in_fork()
        session.site.close_in_fork()
        session.objects.close_in_fork()
        session.served_calls.close_in_fork()
        for service in session.services.values():
            for pool in service.pools.values():
                pool.stale = True  # a call in the child starts a container of the child's own
    close_in_fork()


os.register_at_fork(after_in_child=_in_forked_child)


object_store.find = lambda: current().objects
