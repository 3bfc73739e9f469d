"""The containers of one class: how each is made, and which exist.

A container is made of a version of the class, the version's image and the constructor's arguments.
The launcher writes its run folder and its plan; the caller starts it. If a spare container fits,
the launcher returns that one instead.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import sys
import threading
import time
from collections.abc import Callable

from lifecycle_magic.checks import check_environment
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.record import ContainerRecord
from lifecycle_magic.container.slots import Plan
from lifecycle_magic.engines.base import LABEL, Engine, Launch, VolumeMount
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import disk_full
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.paths import private_folder
from lifecycle_magic.lifecycle.states import Publish
from lifecycle_magic.services import bundle
from lifecycle_magic.services.container_calls import SOCKET_NAME
from lifecycle_magic.services.context import ClassNotices, SessionContext
from lifecycle_magic.services.spare import Spare
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.constructor import Arguments
from lifecycle_magic.wire.messages import Setup
from lifecycle_magic.wire.pickling import dumps, dumps_by_value
from lifecycle_magic.wire.shared import SEGMENT_LIMIT_BYTES

__all__ = ["Launcher"]


class Launcher:
    """A maker of containers for the class called ``name``; ``key`` is its key in the session."""

    def __init__(self, context: SessionContext, name: str, key: str, notices: ClassNotices) -> None:
        self.spare = Spare()
        self._context = context
        self._name = name
        self._key = key
        self._notices = notices
        self._lock = threading.Lock()
        self._containers: set[Container] = set()  # without those that run build hooks

    def containers(self) -> list[Container]:
        """Return the containers that have not exited, with the spare, without those of builds."""
        with self._lock:
            return list(self._containers)

    @disk_full.explain("start a container")
    def make(
        self,
        version: Version,
        image: str,
        arguments: Arguments,
        on_exited: Callable[[Container], None],
    ) -> Container:
        """Make a container of ``image`` for instances of ``version`` made with ``arguments``.

        The container is not started yet, or is a spare that has to continue its start. Raises
        `InvalidError` for options that the engine refuses, and `EngineError` for a full disk.
        """
        spec = version.spec
        setup = Setup(
            cls=version.code.cls,
            arguments=_pickle_arguments(arguments),
            enter=spec.enter,
            exit=spec.exit,
            env=_environment(spec),
            shared_limit=_shared_limit(spec),
            web=spec.web,
            keeps_frames=not spec.options.drop_frames and _is_interactive(),
            key=spec.code_key,
            files=version.code.files_key,
            in_notebook=_is_in_notebook(),
        )
        plan = self._plan(version, image, setup)
        on_exit = self._exit_callback(version.engine, on_exited)
        if spec.options.buffer_containers:
            spare = self.spare.take(_spare_key(version, image), plan, on_exit)
            if spare is not None and self._fill_spare(spare, version):
                self._context.container_calls.expect(plan.setup.session, spare)
                return spare
        return self._register(self._create(version, plan, on_exit))

    def _fill_spare(self, spare: Container, version: Version) -> bool:
        """Write the class's modules into a spare's run folder; return False if that fails."""
        try:
            bundle.write_modules(version.code, spare.plan.launch.run_dir)
            _write_record(spare.plan, version)
            if version.code.modules and spare.id is not None:
                spare.engine.send_run_folder(spare.id, spare.plan.launch.run_dir)
        except (OSError, EngineError) as error:
            why = f"its run folder can't be written: {error}"
            spare.end(Ending(EndKind.KILL, why), wait=True)
            return False
        return True

    @disk_full.explain("start a container")
    def make_for_hook(self, version: Version, image: str, hook: str, publish: Publish) -> Container:
        """Make a container of ``image`` for the build hook of this name.

        The hook runs on an instance of ``version`` made without arguments. No enter or exit hook
        runs there.
        """
        spec = version.spec
        setup = Setup(
            version.code.cls,
            _pickle_arguments(spec.arguments((), {})),
            (),
            (),
            _environment(spec),
            0,
            secrets=tuple(name for one in spec.options.secrets for name in one.values()),
        )
        plan = self._plan(version, image, setup, hook=f"{hook}()")
        return self._create(version, plan, self._exit_callback(version.engine), publish)

    def make_for_kept(
        self,
        version: Version,
        record: KeepRecord,
        on_exited: Callable[[Container], None],
    ) -> Container:
        """Return a container of a kernel before, which waits to be adopted for ``version``."""
        keeps_frames = not version.spec.options.drop_frames and _is_interactive()
        setup = Setup(b"", b"", (), (), {}, 0, keeps_frames=keeps_frames)
        plan = self._plan(version, record.image, setup)
        launch = dataclasses.replace(plan.launch, name=record.container, run_dir=record.run_dir)
        plan = dataclasses.replace(plan, launch=launch, adopted=True)
        (record.run_dir / SOCKET_NAME).unlink(missing_ok=True)  # of the session before
        self._context.container_calls.link(version.engine, record.run_dir)
        container = Container(
            plan,
            version.engine,
            self._context.event_loop,
            self._context.bus.publish,
            self._exit_callback(version.engine, on_exited),
        )
        self._context.container_calls.expect(plan.setup.session, container)
        return self._register(container)

    def forget(self, container: Container) -> None:
        """Forget a container that could not be adopted: it is none of this session's."""
        with self._lock:
            self._containers.discard(container)

    def prepare_spare(self, version: Version, image: str) -> None:
        """Launch a container of ``image`` in the background, for a later `make` to use."""
        setup = Setup(b"", b"", (), (), {}, 0)

        @disk_full.explain("start a container")
        def make() -> Container:
            plan = self._plan(version, image, setup)
            on_exit = self._exit_callback(version.engine, self.spare.discard)
            return self._register(self._create(version, plan, on_exit, spare=True))

        self.spare.prepare(_spare_key(version, image), make)

    def _create(
        self,
        version: Version,
        plan: Plan,
        on_exit: Callable[[Container], None],
        publish: Publish | None = None,
        *,
        spare: bool = False,
    ) -> Container:
        _write_record(plan, version, spare)
        private_folder(plan.launch.run_dir)
        if not spare:  # a spare gets its class and modules later
            bundle.write_modules(version.code, plan.launch.run_dir)
        self._context.container_calls.link(version.engine, plan.launch.run_dir)
        container = Container(
            plan,
            version.engine,
            self._context.event_loop,
            publish or self._context.bus.publish,
            on_exit,
        )
        self._context.container_calls.expect(plan.setup.session, container)
        return container

    def _register(self, container: Container) -> Container:
        with self._lock:
            self._containers.add(container)
        return container

    def _exit_callback(
        self, engine: Engine, on_exited: Callable[[Container], None] = lambda _: None
    ) -> Callable[[Container], None]:
        def on_exit(container: Container) -> None:
            try:
                self._context.record_exit(container, engine.name)
            finally:
                with self._lock:
                    self._containers.discard(container)
                on_exited(container)

        return on_exit

    # --- the plan of a container -----------------------------------------------------------

    def _plan(self, version: Version, image: str, setup: Setup, hook: str = "") -> Plan:
        spec = version.spec
        options = spec.options
        plain = "".join(c for c in spec.name.lower() if c.isascii() and c.isalnum())
        name = f"lm-{plain[:24]}-{secrets.token_hex(4)}"
        owner = self._context.owner
        launch = Launch(
            name=name,
            image=image,
            run_dir=self._context.folder / name,
            guest_dir=bundle.guest_folder(),
            labels={
                f"{LABEL}.session": self._context.id,
                f"{LABEL}.owner": owner.label(),
                f"{LABEL}.class": spec.name,
                f"{LABEL}.key": spec.state_key[:16],
            },
            mounts=tuple(VolumeMount(path, volume) for path, volume in options.volumes.items()),
            cpu=self._cores(options.cpu, version.engine),
            memory=options.memory,
            gpu=options.gpu_requests(),
            shm_size=options.shm_size,
            block_network=options.block_network,
            keep=options.keep is not None,
            stop_timeout=math.ceil(options.exit_grace) + 5,
            placement=options.placement,
            hook=bool(hook),
        )
        for text in version.review(self._name, launch):
            self._notices.show_once(f"{self._name}: {text}")
        found, ignored = version.engine.host_settings(launch, setup.env, hook=bool(hook))
        for text in ignored:
            self._notices.show_once(f"{self._name}: {text}")
        return Plan(
            cls=spec.name,
            launch=launch,
            setup=setup._replace(
                host_settings=found,
                session=self._context.container_calls.invite(version.engine, self._key),
                session_id=self._context.id,
            ),
            channels=spec.max_inputs,
            grace=options.exit_grace,
            startup_timeout=options.startup_timeout,
            # Processes have no limit of their own.
            memory=options.memory if version.engine.kind == "docker" else None,
            service=self._key,
            build_hook=hook,
            any_python=version.any_python,
            is_function=spec.is_function,
        )

    def _cores(self, cpu: float | None, engine: Engine) -> float | None:
        if cpu is not None and cpu > (there := engine.cores):
            self._notices.show_once(
                f"{self._name}: cpu={cpu:g} is more than the {there} cores of the engine's "
                "machine; the container gets all of them"
            )
            return float(there)
        return cpu


def _write_record(plan: Plan, version: Version, spare: bool = False) -> None:
    """Write down what a later session needs to find out how the container ended."""
    engine = version.engine
    record = ContainerRecord(
        version.spec.name, engine.name, time.time(), engine.address, spare, plan.memory
    )
    record.write(plan.launch.run_dir)


def _spare_key(version: Version, image: str) -> str:
    """Return the key of everything that can't be changed once a container is launched."""
    spec = version.spec
    return f"{version.engine.name} {image} {spec.options.key()} {spec.max_inputs}"


def _pickle_arguments(arguments: Arguments) -> bytes:
    data, buffers = dumps((arguments.args, arguments.kwargs))
    if not buffers:
        return data
    return dumps_by_value((arguments.args, arguments.kwargs))


def _is_interactive() -> bool:
    """Return whether this process has an IPython shell, in which a user may debug."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _is_in_notebook() -> bool:
    """Return whether this process is a kernel, whose front end shows HTML and pictures."""
    return _is_interactive() and hasattr(sys.modules["IPython"].get_ipython(), "kernel")


def _environment(spec: ClassSpec) -> dict[str, str]:
    env: dict[str, str] = {}
    for secret in spec.options.secrets:
        env.update(secret.values())
    env.update(spec.options.env)  # last, as a secret of these variables would be
    check_environment(spec.name, env)
    return env


def _shared_limit(spec: ClassSpec) -> int:
    """Return the most bytes of shared memory for values.

    They are at most a quarter of the container's memory: the rest is for what the user loads.
    """
    memory = spec.options.memory
    return SEGMENT_LIMIT_BYTES if memory is None else min(SEGMENT_LIMIT_BYTES, (memory << 20) // 4)
