"""The session: what one kernel has running, and what it leaves behind.

There is one per process, opened when it is first needed. Containers notice its end by
themselves, so nothing here has to run for them to exit; `Session.close` only makes it orderly
and waits.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lifecycle_magic.bus import Bus
from lifecycle_magic.containers.container import Container, close_in_fork, running_in
from lifecycle_magic.engines import choose
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineError
from lifecycle_magic.history import Entry, History
from lifecycle_magic.keeping import Ledger
from lifecycle_magic.logs import Logs
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.owner import Owner
from lifecycle_magic.paths import private_folder, state_root
from lifecycle_magic.report import Report
from lifecycle_magic.services.service import Service
from lifecycle_magic.spec import ClassSpec
from lifecycle_magic.state import LogLine, Notice
from lifecycle_magic.web.site import Site


class Session:
    """One kernel's containers: its services, its bus, its monitor, its folder."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(4)
        self.root = state_root()
        self.folder = private_folder(private_folder(self.root / "run") / self.id)
        self.owner = Owner.me()
        self.owner.write(self.folder / "owner.json")
        self.ledger = Ledger(self.root, self.folder)
        self.ledger.volumes(_declared)
        self.bus = Bus()
        self.monitor = Monitor("lifecycle-monitor")
        self.history = History(self.root)
        self.services: dict[str, Service] = {}
        self.site = Site()
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()
        self.output = Logs()
        self.bus.subscribe(self.output.take, [LogLine])
        self._sweeper = threading.Thread(target=self._sweep, name="lifecycle-sweep", daemon=True)
        self._sweeper.start()
        _opened.append(weakref.ref(self))

    # --- engines ---------------------------------------------------------------------------

    def engine(self, wanted: Literal["auto", "docker", "process"] | None = None) -> Engine:
        """The engine called ``wanted``, else ``LIFECYCLE_MAGIC_ENGINE``, else the one that answers.

        Raises `EngineUnavailable` when the one that was asked for does not answer.
        """
        name = wanted or os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
        with self._lock:
            if name not in self._engines:
                self._engines[name], told = choose(name)
                if told:
                    self.notice(None, told)
            return self._engines[name]

    def notice(
        self, cls: str | None, text: str, level: Literal["info", "warning"] = "info"
    ) -> None:
        self.bus.publish(Notice(cls, text, time.time(), level))

    # --- containers ------------------------------------------------------------------------

    def containers(self) -> list[Container]:
        """Those that are not gone, of every class."""
        return [c for service in list(self.services.values()) for c in service.containers()]

    def gone(self, container: Container, engine: str) -> None:
        """A container ended: into the history with it, and away with its run folder."""
        if container.is_spare:  # nothing of the user's was in it
            shutil.rmtree(container.plan.launch.run_dir, ignore_errors=True)
            return
        report = container.report
        plan = container.plan
        if report is not None:
            entry = Entry.of(self.id, plan.cls, engine, report, plan.service, plan.build_hook)
        else:
            entry = Entry(
                session=self.id,
                container=container.name,
                cls=plan.cls,
                engine=engine,
                state=container.state.value,
                why=container.obituary(),
                began=container.began,
                ended=time.time(),
                service=plan.service,
                build_hook=plan.build_hook,
            )
        try:
            self.history.add(entry)
        except OSError as error:  # a full disk, say
            self.notice(entry.cls, f"{entry.cls}: {entry.why}, and no history of it: {error}")
        shutil.rmtree(container.plan.launch.run_dir, ignore_errors=True)
        for hook in entry.hooks:
            if hook.error:
                self.notice(
                    entry.cls,
                    f"exit hook {hook.hook} of {entry.cls} raised:\n{hook.error}",
                    "warning",
                )
        if report is not None and report.killed:
            self.notice(entry.cls, f"{entry.cls}: {entry.why}", "warning")

    def logs(self, key: str, container: str | None = None) -> str:
        """The last output of a class's containers, those that are gone included, or of one."""
        return self.output.text(key, container)

    # --- the end ---------------------------------------------------------------------------

    def stop(
        self, names: Iterable[str] | None = None, why: str = "it was stopped"
    ) -> list[Container]:
        """Drain the containers of these classes (None: of all); returns those that are going,
        at once.
        """
        chosen = list(self.services) if names is None else list(names)
        return [container for name in chosen for container in self.services[name].stop(why)]

    def close(self, why: str) -> list[Container]:
        """Stop everything and wait until each container is gone, however long its exit may take."""
        self.site.close()
        going = self.stop(why=why)
        wait_gone(going)
        self.services.clear()
        self._sweeper.join()
        self.monitor.stop()
        left = {container.plan.launch.run_dir for container in running_in(self.folder)}
        for run_dir in _folders(self.folder) if left else ():
            if run_dir not in left:
                shutil.rmtree(run_dir, ignore_errors=True)
        if not left:  # else a later session finds there how they ended
            shutil.rmtree(self.folder, ignore_errors=True)
        return going

    # --- what dead sessions left -----------------------------------------------------------

    def swept(self) -> None:
        """Look after what dead sessions left behind. The look at the session's beginning may have
        found exits that were still running.
        """
        self._sweeper.join()
        self._sweep()

    def _sweep(self) -> None:
        try:
            sweep(self.root, self)
        except Exception as error:
            self.notice(
                None, f"could not look after what earlier sessions left: {error}", "warning"
            )


def wait_gone(containers: Iterable[Container]) -> None:
    """Wait for containers that were asked to go. Their supervisors bound the time; this adds no
    bound but a last one.
    """
    for container in containers:
        if not container.gone.wait(container.plan.grace + 20):
            container.kill(
                f"it was not gone {container.plan.grace + 20:g} s after it was asked to go"
            )
            container.gone.wait(10)


def sweep(root: Path, session: Session) -> list[Entry]:
    """Put the reports of sessions whose owner is dead into the history; returns what was added.

    A container that still runs its ``exit`` is left alone: a later sweep finds its report. One
    that is gone without a report is told of as well: the engine or the machine went down under
    it.
    """
    history = History(root)
    added: list[Entry] = []
    for folder in _folders(root / "run"):
        owner = Owner.read(folder / "owner.json")
        if owner is None or owner.alive():
            continue
        for run_dir in _folders(folder):
            try:
                entry = _left_behind(owner, run_dir, session)
                if entry is None:
                    continue
                done = run_dir.with_name(f".{run_dir.name}")
                run_dir.rename(done)  # one sweeper wins
            except OSError:
                continue
            if not _was_spare(done):
                history.add(entry)
                added.append(entry)
            shutil.rmtree(done, ignore_errors=True)
        if not _folders(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return added


def _was_spare(run_dir: Path) -> bool:
    try:
        return bool(json.loads((run_dir / "card.json").read_text()).get("spare"))
    except (OSError, ValueError):
        return False


def _folders(path: Path) -> list[Path]:
    """The folders in ``path``, but for those that a sweeper has taken."""
    try:
        return sorted(one for one in path.iterdir() if one.is_dir() and one.name[0] != ".")
    except OSError:
        return []


def _left_behind(owner: Owner, run_dir: Path, session: Session) -> Entry | None:
    """What became of the container with this run folder; None while it still runs, or may run:
    its engine does not answer, and the machine did not go down meanwhile.
    """
    session_id = run_dir.parent.name
    try:
        card = json.loads((run_dir / "card.json").read_text())
    except (OSError, ValueError):
        card = {
            "cls": run_dir.name,
            "engine": "unknown",
            "id": None,
            "began": run_dir.stat().st_mtime,
        }
    report = Report.left_in(run_dir)
    if report is None and card["engine"] in ("docker", "process"):
        try:
            engine = session.engine(card["engine"])
            if card.get("address", engine.address) != engine.address:
                raise EngineError("it is not this one that knows")
            found = [one for one in engine.containers() if one.name == run_dir.name]
            if any(one.running for one in found):
                return None
            report = Report.left_in(run_dir)  # it may have ended between the two looks
            for one in found if report is None else ():
                engine.kill(one.id)  # ordered and never started: it can't remove itself
        except EngineError:
            if owner.of_this_boot:
                return None  # whoever reaches the engine again hears of it
    if report is not None:
        return Entry.of(session_id, card["cls"], card["engine"], report)
    connected = (run_dir / "log").exists()  # the supervisor opens it once it has dialled home
    return Entry(
        session=session_id,
        container=run_dir.name,
        cls=card["cls"],
        engine=card["engine"],
        state="failed",
        why="its exit did not run to its end: it was killed, or the engine or machine went down"
        if connected
        else "its kernel went before it had come up; no hook had run",
        began=card["began"],
        ended=time.time(),
    )


class Lookup:
    """Finds the service of a class under ``key``, in the session of the time it is asked.

    Where there is none yet, it is made, with ``spec`` declared.
    """

    def __init__(self, key: str, spec: ClassSpec) -> None:
        self.key = key
        self._spec = spec
        names = spec.volume_names()
        _declared.update(names)
        session = opened()
        if session is not None:
            session.ledger.volumes(names)  # now: prune must not have them before the first call

    def __call__(self) -> Service:
        session = current()
        service = session.services.get(self.key)
        if service is None:
            app = self.key.rpartition("/")[0]
            made = Service(session, self._spec.name, "" if app == "cell" else app, self.key)
            made.declare(self._spec)
            service = session.services.setdefault(self.key, made)
        return service

    def variant(self, spec: ClassSpec) -> Lookup:
        """The same for the class with other options: it has containers of its own."""
        found = Lookup(f"{self.key.partition('?')[0]}?{spec.options.identity()}", spec)
        session = opened()
        service = session.services.get(found.key) if session is not None else None
        if service is not None and service.declared is not spec.cls:
            service.declare(spec)  # the cell of the class was run again
        return found

    def declare(self) -> None:
        """Have what runs under the key follow the new declaration, with the next call."""
        session = opened()
        if session is not None and self.key in session.services:
            session.services[self.key].declare(self._spec)


_declared: set[str] = set()
"""Names of volumes that classes of this process were declared with, with a session or without."""

_opened: list[weakref.ref[Session]] = []
_current: Session | None = None
_current_lock = threading.Lock()


def current() -> Session:
    """This process's session, opened when it is first asked for."""
    global _current
    with _current_lock:
        if _current is None:
            _current = Session()
        return _current


def opened() -> Session | None:
    """This process's session if there is one."""
    return _current


def close(why: str) -> list[Container]:
    """Close this process's session if there is one; what was running."""
    global _current
    with _current_lock:
        session, _current = _current, None
    return session.close(why) if session is not None else []


def _in_forked_child() -> None:
    """A fork (multiprocessing, say) must not keep our containers alive by the sockets it
    inherited.
    """
    global _current, _current_lock
    _current_lock = threading.Lock()
    session, _current = _current, None
    if session is not None:
        session.monitor.close_in_fork()
        session.site.close_in_fork()
        for service in session.services.values():
            for pool in service.pools.values():
                pool.stale = True  # a call in the child looks for a container of the child's own
    close_in_fork()


os.register_at_fork(after_in_child=_in_forked_child)
