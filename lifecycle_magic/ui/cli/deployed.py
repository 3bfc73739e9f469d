"""A deployed script: a process that serves the script's classes by name until it is stopped.

A newer deployment of the same name takes over while this one still serves: the new process first
publishes its names, then asks this one to leave. Callers go on to the new one with their next call,
and this one ends when the calls that run here have been answered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle_magic.app import App
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host.served_names import Served, living
from lifecycle_magic.services.service import Service
from lifecycle_magic.session import session
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.query_arguments import takes_query
from lifecycle_magic.ui.cli.main_module import load

__all__ = ["LEAVE_SIGNAL", "Deployed", "deployments"]

LEAVE_SIGNAL = signal.SIGUSR1
"""The signal by which a newer deployment asks an older one to leave."""

CHECK_SECONDS = 0.5
"""Time between two checks whether a leaving deployment was stopped."""


def deployments(root: Path, name: str | None = None) -> list[Served]:
    """Return the living deployments below the state folder ``root``, of one name or of all."""
    found = [one for one in living(root) if one.deployment]
    return [one for one in found if name is None or one.deployment == name]


@dataclass
class Deployed:
    """The deployment ``name`` of a script; it calls ``say`` with each line to print.

    ``over`` is set to stop it, ``replaced`` when a newer one has taken over.
    """

    script: str
    is_module: bool
    name: str
    say: Callable[[str], None]
    over: threading.Event = field(default_factory=threading.Event)
    replaced: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End the deployment. In a signal handler."""
        self.over.set()
        self._wake.set()

    def leave(self) -> None:
        """Let a newer deployment serve. In a signal handler."""
        self.replaced.set()
        self._wake.set()

    def run(self, ready: Callable[[list[str]], None]) -> None:
        """Serve until `over` or `replaced` is set. ``ready`` gets the names that are served.

        Raises what loading the script or starting its classes raises; an older deployment then
        goes on.
        """
        calls = session.current().served_calls
        calls.hold_back()
        calls.deployment = self.name
        before = deployments(session.current().root, self.name)
        names = self._load()
        calls.publish_names(at_last=True)
        for one in before:
            self.say(f"takes over from {one.who}")
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if one.owner.alive():
                    os.kill(one.owner.pid, LEAVE_SIGNAL)
        ready(names)
        self._wake.wait()
        if self.replaced.is_set() and not self.over.is_set():
            self.say("a newer deployment serves; waiting for the calls that run here")
            calls.leave(lambda: self.over.wait(CHECK_SECONDS))

    def _load(self) -> list[str]:
        """Load the script and start the classes of its apps. Return their names."""
        module = load(self.script, self.is_module)
        apps = {id(one): one for one in vars(module).values() if isinstance(one, App)}
        names = []
        for app in apps.values():
            app.adopt_name(self.name)
            for _, service, spec in app.declared():
                self._start(service, spec)
                names.append(f"{app.name}/{spec.name}")
        if not names:
            raise InvalidError(
                f"{Path(self.script).name} declares no class or function. "
                'Fix: write app = lm.App("name") and @app.cls() above a class'
            )
        return names

    def _start(self, service: Service, spec: ClassSpec) -> None:
        service.deploy(spec)
        try:
            spec.arguments((), {})
        except InvalidError:  # it takes arguments: a container starts with the first call
            if not takes_query(spec):
                return
        else:
            service.open_pool((), {}).warm()
        for served in service.serving.open_all(spec) if spec.web else ():
            self.say(f"{served.where}  {served.link}")
