"""``lifecycle-magic serve script.py``: serve a script's web endpoints until Ctrl-C.

When a Python file in the script's folder changes, the script is loaded again. Its classes are then
updated as by a re-run of a cell: new code in the live instances, or new containers first.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle_magic.app import App
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.services.service import Service
from lifecycle_magic.session import session
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.query_arguments import takes_query
from lifecycle_magic.ui.cli import script
from lifecycle_magic.ui.cli.main_module import load
from lifecycle_magic.web.site import INSTALL_COMMAND, TOKEN_VARIABLE, ServedAddress

__all__ = ["Serve"]


@dataclass
class Serve:
    """The server of one script, or of a module; it calls ``say`` with each line to print.

    ``path`` is the file that was loaded.
    """

    script: str
    is_module: bool
    say: Callable[[str], None]
    over: threading.Event = field(default_factory=threading.Event)
    path: Path = field(init=False)
    _keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.path = Path(self.script)

    def run(self, reload: bool) -> None:
        """Serve until `over` is set. Raises what loading the script raises the first time."""
        self._load()
        if reload:
            self._follow()
        else:
            self.over.wait()

    # --- one state of the script -----------------------------------------------------------

    def _load(self) -> None:
        """Load the script, start the classes that it declares, and open their addresses."""
        module = load(self.script, self.is_module)
        self.path = Path(module.__file__ or "")
        apps = [value for value in vars(module).values() if isinstance(value, App)]
        found = {key: (service, spec) for app in apps for key, service, spec in app.declared()}
        web = {key: pair for key, pair in found.items() if pair[1].web}
        if not web:
            raise InvalidError(
                f"{self.path.name} has no web endpoint. Fix: put @fastapi_endpoint(), @asgi_app(), "
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
            needs_arguments = False
        except InvalidError:
            needs_arguments = True
            if not takes_query(spec):
                self.say(f"{spec.name} takes arguments, so no address is opened for it")
                return
        try:
            service.deploy(spec)
            if not needs_arguments:
                service.open_pool((), {}).warm()
        except Exception as error:
            # Open its addresses nevertheless: the next request or edit tries again.
            self.say(script.report(error, self.path).rstrip("\n"))
        for served in service.serving.open_all(spec):
            self.say(f"{served.where}  {served.link}{_how_to_enter(served)}")
            if served.warning:
                self.say(f"warning: {served.warning}")

    # --- reloading ----------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            from watchfiles import PythonFilter, watch
        except ModuleNotFoundError:
            raise InvalidError(
                f"reloading on edits needs watchfiles. Fix: {INSTALL_COMMAND}, or use --no-reload"
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
                self.say(f"{error}\nthe previous version still serves")
            except Exception as error:
                shown = script.report(error, self.path).rstrip("\n")
                self.say(f"{shown}\nthe previous version still serves")


def _how_to_enter(served: ServedAddress) -> str:
    if served.token is None:
        return ""
    if os.environ.get(
        TOKEN_VARIABLE
    ):  # the user who set it knows it, and terminal output may be logged
        return f"  (asks for the token in {TOKEN_VARIABLE})"
    return f"  (asks for Authorization: Bearer {served.token}; {TOKEN_VARIABLE} sets another)"


def _forget_modules(folder: Path) -> None:
    """Remove the modules in the script's folder from ``sys.modules``, to import them again."""
    for name, module in list(sys.modules.items()):
        path = origin.source_of(module) if name != "__main__" else None
        if path is not None and folder in Path(path).resolve().parents:
            del sys.modules[name]
