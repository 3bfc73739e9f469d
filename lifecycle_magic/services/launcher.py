"""The containers of one class: what each is made from, and which of them there are.

A container is made of a version of the class, the version's image and arguments for the
constructor. It comes from here as a folder and a plan; whoever asked for it starts it. Where a
spare fits, that is handed out in its place.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Callable

from lifecycle_magic import full
from lifecycle_magic.constructor import Arguments
from lifecycle_magic.containers.container import Container
from lifecycle_magic.containers.slots import Plan
from lifecycle_magic.engines.base import LABEL, Engine, Launch, Mount
from lifecycle_magic.paths import private_folder
from lifecycle_magic.services import bundle
from lifecycle_magic.services.home import Home, Notices
from lifecycle_magic.services.spare import Spare
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec import ClassSpec
from lifecycle_magic.state import Publish
from lifecycle_magic.wire.messages import Setup
from lifecycle_magic.wire.pickling import dumps, dumps_by_value
from lifecycle_magic.wire.shared import LIMIT

__all__ = ["Launcher"]


class Launcher:
    """Makes the containers of the class called ``name``, which the session knows by ``key``."""

    def __init__(self, home: Home, name: str, key: str, notices: Notices) -> None:
        self.spare = Spare()
        self._home = home
        self._name = name
        self._key = key
        self._notices = notices
        self._lock = threading.Lock()
        self._living: set[Container] = set()  # but for those of builds

    def living(self) -> list[Container]:
        """Those that are not gone, the spare included, but for those that run a build hook."""
        with self._lock:
            return list(self._living)

    def make(
        self,
        version: Version,
        image: str,
        arguments: Arguments,
        on_gone: Callable[[Container], None],
    ) -> Container:
        """A container of ``image`` for instances of ``version`` that are made with ``arguments``.

        It is not started yet, or a spare that is to go on with its start. Raises `InvalidError` for
        what the engine refuses, and `EngineError` for a full disk.
        """
        spec = version.spec
        setup = Setup(
            cls=version.code.cls,
            arguments=_together(arguments),
            enter=spec.enter,
            exit=spec.exit,
            env=_environment(spec),
            shared_limit=_shared_limit(spec),
            web=spec.web,
        )
        plan = self._plan(version, image, setup)
        gone = self._gone(version.engine, on_gone)
        if spec.options.buffer_containers:
            spare = self.spare.take(_spare_key(version, image), plan, gone)
            if spare is not None:
                bundle.write_modules(version.code, spare.plan.launch.run_dir)
                _write_card(spare, version)
                return spare
        return self._enlist(self._create(version, plan, gone))

    def make_for_hook(self, version: Version, image: str, hook: str, publish: Publish) -> Container:
        """A container of ``image`` in which the build hook of this name is to run, on an instance
        of ``version`` made without arguments; nothing enters or exits there.
        """
        spec = version.spec
        setup = Setup(
            version.code.cls, _together(spec.arguments((), {})), (), (), _environment(spec), 0
        )
        plan = dataclasses.replace(self._plan(version, image, setup), build_hook=f"{hook}()")
        return self._create(version, plan, self._gone(version.engine), publish)

    def prepare_spare(self, version: Version, image: str) -> None:
        """Have a container of ``image`` launched, of which a later `make` makes one of its own."""
        setup = Setup(b"", b"", (), (), {}, 0)

        def make() -> Container:
            plan = self._plan(version, image, setup)
            gone = self._gone(version.engine, self.spare.lost)
            return self._enlist(self._create(version, plan, gone, spare=True))

        self.spare.prepare(_spare_key(version, image), make)

    def _create(
        self,
        version: Version,
        plan: Plan,
        gone: Callable[[Container], None],
        publish: Publish | None = None,
        *,
        spare: bool = False,
    ) -> Container:
        with full.explained("start a container"):
            private_folder(plan.launch.run_dir)
            if not spare:  # it gets its class, and what comes with it, later
                bundle.write_modules(version.code, plan.launch.run_dir)
        container = Container(
            plan, version.engine, self._home.monitor, publish or self._home.bus.publish, gone
        )
        _write_card(container, version, spare)
        return container

    def _enlist(self, container: Container) -> Container:
        with self._lock:
            self._living.add(container)
        return container

    def _gone(
        self, engine: Engine, on_gone: Callable[[Container], None] = lambda _: None
    ) -> Callable[[Container], None]:
        def gone(container: Container) -> None:
            try:
                self._home.gone(container, engine.name)
            finally:
                with self._lock:
                    self._living.discard(container)
                on_gone(container)

        return gone

    # --- what it is made from --------------------------------------------------------------

    def _plan(self, version: Version, image: str, setup: Setup) -> Plan:
        spec = version.spec
        options = spec.options
        plain = "".join(c for c in spec.name.lower() if c.isascii() and c.isalnum())
        name = f"lm-{plain[:24]}-{secrets.token_hex(4)}"
        owner = self._home.owner
        launch = Launch(
            name=name,
            image=image,
            run_dir=self._home.folder / name,
            guest_dir=bundle.guest_folder(),
            labels={
                f"{LABEL}.session": self._home.id,
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
        for text in version.ignored(self._name, launch):
            self._notices.once(f"{self._name}: {text}")
        return Plan(
            cls=spec.name,
            launch=launch,
            setup=setup,
            channels=spec.max_inputs,
            grace=options.exit_grace,
            startup_timeout=options.startup_timeout,
            memory=options.memory,
            service=self._key,
        )

    def _cores(self, cpu: float | None) -> float | None:
        here = os.cpu_count() or 1
        if cpu is not None and cpu > here:
            self._notices.once(
                f"{self._name}: cpu={cpu:g} is more than this machine has; it gets all {here} cores"
            )
            return float(here)
        return cpu


def _write_card(container: Container, version: Version, spare: bool = False) -> None:
    """What a later session has to know to tell what became of the container."""
    card = {
        "cls": version.spec.name,
        "engine": version.engine.name,
        "address": version.engine.address,
        "began": time.time(),
        "spare": spare,
    }
    (container.plan.launch.run_dir / "card.json").write_text(json.dumps(card))


def _spare_key(version: Version, image: str) -> str:
    """What a launched container can't change any more."""
    spec = version.spec
    return f"{version.engine.name} {image} {spec.options.key()} {spec.max_inputs}"


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
