"""``keep``: the containers of one class that wait for the next kernel, and those that it finds.

A container of a class with ``keep`` gets the terms on which it waits, and a record on disk, once it
is warm (`KeptContainers.protect`). The first deployment of a class looks for containers that a
kernel of the same notebook has left (`KeptContainers.adopt`). Those whose state is the declared one
go into pools; the others run their ``exit`` when a new container is ready, or before it starts if
both do not fit into this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable

from lifecycle_magic.container import adoption, kept
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.control import KeepTerms
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.record import ContainerRecord
from lifecycle_magic.container.worker_answers import load_code
from lifecycle_magic.engines.base import Engine, Launch
from lifecycle_magic.exception import EngineError, Error
from lifecycle_magic.host import keep_record
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.services import machine_room, notebook_identity
from lifecycle_magic.services.context import ClassNotices, SessionContext
from lifecycle_magic.services.deployment_changes import Change
from lifecycle_magic.services.launcher import Launcher
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec.constructor import Arguments
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.messages import Adopt, Adopted, Swap
from lifecycle_magic.wire.pickling import loads
from lifecycle_magic.wire.python_versions import python_minor

__all__ = ["KeptContainers"]

_log = logging.getLogger(__name__)

MAX_ARGUMENT_BYTES = 16 << 20
"""Bytes of pickled constructor arguments up to which a container is kept: it holds them
meanwhile.
"""

REPLACED = Ending(EndKind.DRAIN, "it was replaced by new code")


@dataclasses.dataclass
class AdoptionResult:
    """The containers adopted from a kernel before: how many, and whether any got new code."""

    adopted: int = 0
    swapped: bool = False


class KeptContainers:
    """The kept containers of the class ``name``, which the session knows by ``key``."""

    def __init__(
        self,
        context: SessionContext,
        launcher: Launcher,
        notices: ClassNotices,
        name: str,
        key: str,
    ) -> None:
        self._context = context
        self._launcher = launcher
        self._notices = notices
        self._name = name
        self._key = key
        self._lock = threading.Lock()
        self._former: list[Container] = []  # of another state; they wait for a new container
        self._is_replaced = False  # a new container is ready
        self._giving_up = threading.Event()

    # --- containers of this kernel -----------------------------------------------------------

    def protect(self, container: Container, version: Version, pool: Pool) -> None:
        """Have a warm container wait for another kernel as the options of its class say."""
        keep = version.spec.options.keep
        if keep is None:
            if container.keep_terms is not None:
                container.keep(None)
                keep_record.forget(container.plan.launch.run_dir)
            return
        why_not = self._why_not(container)
        if why_not:
            self._notices.show_once(f"{self._name}: keep has no effect, because {why_not}")
            return
        limits = pool.limits
        before = container.keep_terms
        terms = KeepTerms(
            before.token if before is not None else secrets.token_urlsafe(32),
            keep,
            limits.scaledown_window if limits.least == 0 else None,
            version.spec.options.timeout,
        )
        if terms == before:
            return
        try:
            self._record(container, version, terms).write()
        except OSError as error:  # a full disk
            self._notices.show_once(f"{self._name}: keep has no effect: {error}", "warning")
            return
        container.keep(terms)

    def _why_not(self, container: Container) -> str:
        if len(container.plan.setup.arguments) > MAX_ARGUMENT_BYTES:
            return f"its arguments take more than {MAX_ARGUMENT_BYTES >> 20} MiB"
        return ""

    def _record(self, container: Container, version: Version, terms: KeepTerms) -> KeepRecord:
        options = version.spec.options
        return KeepRecord(
            cls=version.spec.name,
            key=self._key,
            notebook=notebook_identity.current(),
            engine=version.engine.name,
            state=version.spec.state_key,
            image=container.plan.launch.image,
            python=python_minor(),
            protocol=PROTOCOL,
            token=terms.token,
            keep=terms.seconds,
            grace=container.plan.grace,
            memory=options.memory,
            gpu=None if options.gpu is None else str(options.gpu),
            session=self._context.id,
            owner=self._context.owner,
            run_dir=container.plan.launch.run_dir,
        )

    # --- containers of a kernel before -------------------------------------------------------

    def adopt(
        self,
        version: Version,
        image: str,
        pool_for: Callable[[Arguments], Pool],
        *,
        may_stay: bool = True,
    ) -> Change:
        """Adopt what a kernel before has left of this class, in the pools that ``pool_for``
        returns. These then start or stop containers as their limits say.

        ``may_stay`` unset, as by ``--fresh``, replaces the containers although they have the
        declared state. Containers that can't be adopted, and those of another state, end when a
        new one is ready, or at once if both do not fit into this machine.
        """
        found = AdoptionResult()
        opened: set[Pool] = set()

        def open_pool(arguments: Arguments) -> Pool:
            pool = pool_for(arguments)
            opened.add(pool)
            return pool

        self._giving_up.clear()
        for record in self._claim(version):
            fits = may_stay and (record.state, record.image) == (version.spec.state_key, image)
            if not fits or not self._adopt_into_pool(record, version, open_pool, found):
                self._let_go(record, version)
        if not found.adopted:
            return Change.NEW
        self.record_warm()
        for pool in opened:
            pool.fit_limits()
        return Change.ADOPTED_AND_SWAPPED if found.swapped else Change.ADOPTED

    def _claim(self, version: Version) -> list[KeepRecord]:
        """Make this session the owner of the containers that a kernel before has kept."""
        mine = notebook_identity.current()
        engine = version.engine.name
        root = state_root()
        session = self._context.id
        if not keep_record.find_all(root, session):
            return []
        claimed = []
        with keep_record.claiming(root):
            for one in kept.find_all(root, session):
                record = one.record
                if (record.key, record.notebook, record.engine) != (self._key, mine, engine):
                    continue
                if not _is_of_engine(record, version.engine):
                    continue
                if (record.protocol, record.python) != (PROTOCOL, python_minor()):
                    self._notices.show_once(
                        f"{self._name}: {record.container} is kept for a kernel with Python "
                        f"{record.python} and protocol {record.protocol} of this package, and "
                        f"waits on. Fix: lifecycle-magic stop {record.container}",
                        "warning",
                    )
                    continue
                is_sure = notebook_identity.is_of_notebook(mine)
                if not is_sure and record.state != version.spec.state_key:
                    self._notices.show_once(
                        f"{self._name}: {record.container} is kept with another state, maybe by "
                        "another program in this folder, and waits on. "
                        f"Fix: lifecycle-magic stop {record.container}"
                    )
                    continue
                if one.running:
                    self._context.notice(
                        self._name,
                        f"{self._name}: waiting for a call of the previous kernel in "
                        f"{record.container}",
                        service=self._key,
                    )
                taken = dataclasses.replace(
                    record, owner=self._context.owner, session=self._context.id
                )
                with contextlib.suppress(OSError):
                    taken.write()
                    claimed.append(taken)
        return claimed

    def _adopt_into_pool(
        self,
        record: KeepRecord,
        version: Version,
        pool_for: Callable[[Arguments], Pool],
        found: AdoptionResult,
    ) -> bool:
        """Adopt a container of the declared state. Return False if that is impossible."""
        home: list[Pool] = []
        container, facts = self._connect(record, version, home)
        if container is None or facts is None:
            return False
        code = version.code.files_key
        try:
            if facts.files != code:
                raise Error("the modules that it imported have changed")
            args, kwargs = loads(facts.arguments)
            arguments = version.spec.arguments(args, kwargs)
            swapped = facts.key != version.spec.code_key
            if swapped:
                spec = version.spec
                new = Swap(version.code.cls, spec.exit, spec.web, spec.code_key)
                load_code(container, new, container.slots[0])
            pool = pool_for(arguments)
        except Exception as error:
            _log.debug("%s is not adopted: %s", record.container, error)
            text = f"{self._name}: a new container, because {error}"
            self._context.notice(self._name, text, service=self._key)
            self._end_later(container)
            return True
        if not container.become_warm():
            return True  # it has exited meanwhile, which is recorded
        home.append(pool)
        # It knows this token already, whenever this kernel may die from now on.
        container.keep_terms = KeepTerms(record.token, 0.0, None, None)
        pool.take_in(container)
        if container.exited.is_set():
            pool.record_exit(container)
        self.protect(container, version, pool)
        found.adopted += 1
        found.swapped = found.swapped or swapped
        return True

    def _connect(
        self, record: KeepRecord, version: Version, home: list[Pool]
    ) -> tuple[Container | None, Adopted | None]:
        """Connect to a kept container. Return nothing if that is impossible; it then waits on.

        ``home`` gets the pool that the container goes into.
        """

        def on_exited(container: Container) -> None:
            for pool in home:
                pool.record_exit(container)

        container = None
        try:
            container = self._launcher.make_for_kept(version, record, on_exited)
            container.wake = lambda: self._wake(record, version, container.plan.launch)
            session = container.plan.setup
            message = Adopt(session.session, session.session_id, session.keeps_frames)
            facts = adoption.adopt(container, message)
        except BaseException as error:
            if container is not None:
                self._launcher.forget(container)
            if not isinstance(error, (Error, OSError)):
                raise  # an interrupt of the cell: the next run of the cell looks again
            self._notices.show_once(
                f"{self._name}: {record.container}, which the previous kernel has kept, is not "
                f"adopted: {error}",
                "warning",
            )
            return None, None
        return container, facts

    def _wake(self, record: KeepRecord, version: Version, launch: Launch) -> str:
        """Have the container connect, and return the engine's id of it."""
        running = [one for one in version.engine.containers() if one.name == record.container]
        if not running:
            raise EngineError("its engine has no such container")
        version.engine.take_over(running[0].id, launch)
        kept.request_adoption(record, version.spec.options.startup_timeout, self._giving_up)
        return running[0].id

    # --- those that are replaced -------------------------------------------------------------

    def _let_go(self, record: KeepRecord, version: Version) -> None:
        """End a container of another state once a new one is ready.

        It ends first if both do not fit into this machine.
        """
        lacking = machine_room.lacking_for(version.spec.options, record, version.engine)
        if lacking:
            self._context.notice(
                self._name,
                f"{self._name}: the container of the previous kernel runs its exit first, because "
                f"{lacking}",
                service=self._key,
            )
            container, _ = self._connect(record, version, [])
            if container is not None:
                container.become_warm()
                container.end(REPLACED)
                container.exited.wait(container.plan.grace + adoption.ANSWER_SECONDS)
            return
        threading.Thread(
            target=self._connect_to_end, args=(record, version), name="lifecycle-kept", daemon=True
        ).start()

    def _connect_to_end(self, record: KeepRecord, version: Version) -> None:
        """Connect to a container that is going to end: its end is then reported as any other."""
        container, _ = self._connect(record, version, [])
        if container is not None:
            self._end_later(container)

    def _end_later(self, container: Container) -> None:
        container.become_warm()
        with self._lock:
            if not self._is_replaced:
                self._former.append(container)
                return
        container.end(REPLACED)

    def record_warm(self) -> None:
        """End the containers of another state, as a new container is ready."""
        self._end_former(REPLACED)

    def stop(self, why: str) -> None:
        """End the containers of another state, and the wait for any."""
        self._giving_up.set()
        self._end_former(Ending(EndKind.STOP, why))

    def _end_former(self, ending: Ending) -> None:
        with self._lock:
            self._is_replaced = True
            former, self._former = self._former, []
        for container in former:
            container.end(ending)


def _is_of_engine(record: KeepRecord, engine: Engine) -> bool:
    """Return whether the engine at this address runs the container: DOCKER_HOST may have changed
    since.
    """
    try:
        address = ContainerRecord.read(record.run_dir).address
    except (OSError, ValueError):
        return False  # it is being removed
    return address in (None, engine.address)
