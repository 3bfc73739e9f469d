"""``lifecycle-magic serve script.py``: a script's web endpoints, for as long as it runs.

When a file beside the script changes, the script is loaded again and what serves follows it, as a
cell that is run again does: new code under the live instances, or new containers first.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle_magic import session
from lifecycle_magic.app import App
from lifecycle_magic.digests import origin
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.services.service import Service
from lifecycle_magic.spec import ClassSpec
from lifecycle_magic.terminal import script
from lifecycle_magic.web.site import INSTALL, TOKEN, Served

__all__ = ["Serve"]


@dataclass
class Serve:
    """Serves one script; ``say`` gets a line for people."""

    path: Path
    say: Callable[[str], None]
    over: threading.Event = field(default_factory=threading.Event)
    _keys: set[str] = field(default_factory=set)

    def run(self, reload: bool) -> None:
        """Serve until `over` is set. Raises what loading the script raises the first time."""
        self._load()
        if reload:
            self._follow()
        else:
            self.over.wait()

    # --- one state of the script -----------------------------------------------------------

    def _load(self) -> None:
        """Load the script, bring up what it declares, open its addresses."""
        module = script.load(self.path)
        apps = [value for value in vars(module).values() if isinstance(value, App)]
        found = {key: (service, spec) for app in apps for key, service, spec in app.declared()}
        web = {key: pair for key, pair in found.items() if pair[1].web}
        if not web:
            raise InvalidError(
                f"{self.path.name} has nothing to serve: put @fastapi_endpoint(), @asgi_app(), "
                "@wsgi_app() or @web_server(port) above a method of a class with @app.cls()"
            )
        current = session.current()
        current.stop([key for key in self._keys - web.keys() if key in current.services])
        self._keys = set(web)
        for service, spec in web.values():
            self._serve(service, spec)

    def _serve(self, service: Service, spec: ClassSpec) -> None:
        try:
            spec.arguments((), {})
        except InvalidError:
            self.say(f"{spec.name} takes arguments, so it has no address of its own here")
            return
        try:
            service.deploy(spec)
            service.pool((), {}).warm()
        except Exception as error:
            # Its addresses are opened all the same: the next request or edit tries again.
            self.say(script.report(error, self.path).rstrip("\n"))
        for served in service.serving.open_all(spec):
            self.say(f"{served.where}  {served.link}{_how_to_enter(served)}")

    # --- the next one ----------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            from watchfiles import PythonFilter, watch
        except ModuleNotFoundError:
            raise InvalidError(
                f"watching the script for edits needs watchfiles: {INSTALL}, or use --no-reload"
            ) from None
        folder = self.path.resolve().parent
        for changes in watch(
            folder, watch_filter=PythonFilter(), stop_event=self.over, raise_interrupt=False
        ):
            names = sorted({Path(name).name for _, name in changes})
            self.say(f"{', '.join(names)} changed")
            _forget_modules(folder)
            try:
                self._load()
            except Error as error:
                self.say(f"{error}\nwhat served before goes on")
            except Exception as error:
                told = script.report(error, self.path).rstrip("\n")
                self.say(f"{told}\nwhat served before goes on")


def _how_to_enter(served: Served) -> str:
    if served.token is None:
        return ""
    if os.environ.get(TOKEN):  # who set it knows it, and a terminal may be logged
        return f"  (asks for the token in {TOKEN})"
    return f"  (asks for Authorization: Bearer {served.token}; {TOKEN} sets another)"


def _forget_modules(folder: Path) -> None:
    """Have what lies beside the script imported anew."""
    for name, module in list(sys.modules.items()):
        path = origin.source_of(module) if name != "__main__" else None
        if path is not None and folder in Path(path).resolve().parents:
            del sys.modules[name]
