"""The images of one class: each version's is built once, and its build hooks run here.

A hook runs in an ordinary container of the class, in a pool of that container alone. What the hook
leaves there is the image's next layer.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from lifecycle_magic.calling import calls
from lifecycle_magic.containers.container import Container
from lifecycle_magic.exception import Error
from lifecycle_magic.options import Options
from lifecycle_magic.pools.inputs import show
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.recipes.baking import RunFunction
from lifecycle_magic.services import builder
from lifecycle_magic.services.home import Home, Notices
from lifecycle_magic.services.launcher import Launcher
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec import CALL, read_function
from lifecycle_magic.state import Event, LogLine

__all__ = ["Images"]


class Images:
    """The images of the class called ``name`` of ``app``, which the session knows by ``key``."""

    def __init__(
        self, home: Home, launcher: Launcher, notices: Notices, name: str, app: str, key: str
    ) -> None:
        self.hook: Container | None = None  # runs a build hook
        self._home = home
        self._launcher = launcher
        self._notices = notices
        self._name = name
        self._app = app
        self._key = key
        self._building = threading.Lock()
        # A version may run again after its successor did not come up, so the images of
        # all that are left are known.
        self._built: weakref.WeakKeyDictionary[Version, builder.Built]
        self._built = weakref.WeakKeyDictionary()

    def of(self, version: Version, *, force: bool = False) -> str:
        """The id of the image with every build hook's layer; built once per version.

        It is built in this thread. ``force`` runs the hooks again. Raises `InvalidError` for what
        the engine refuses, and what `builder.ensure` raises.
        """
        known = self._built.get(version)
        if known is not None and not force:
            return known.image
        with self._building:
            known = self._built.get(version)
            if known is not None and not force:
                return known.image
            version.ignored(self._name)  # each container tells of it; here it may be refused
            built = builder.ensure(
                version.spec,
                version.engine,
                lambda image, hook, printed: self._run_hook(version, image, hook, printed),
                self._home.bus.publish,
                force=force,
                need=self._home.ledger.images,
                app=self._app,
                service=self._key,
            )
            self._built[version] = built
            return built.image

    def same(self, old: Version, new: Version) -> None:
        """``new`` has the image of ``old``, if that has one."""
        known = self._built.get(old)
        if known is not None:
            self._built[new] = known

    def base_moved(self, version: Version) -> bool:
        """Whether the name that the recipe starts from means another image by now."""
        known = self._built.get(version)
        if known is None:
            return False
        try:
            return version.engine.base_id(version.image) != known.base
        except Error:
            return False  # what runs goes on running without it

    def stop(self, why: str) -> None:
        """End the build hook that runs, and with it the build."""
        hook = self.hook
        if hook is not None:
            hook.end(why)

    @contextlib.contextmanager
    def _run_hook(
        self,
        version: Version,
        image: str,
        hook: str | RunFunction,
        printed: Callable[[str], None],
    ) -> Iterator[str]:
        """A container of ``image`` in which ``hook`` has run, on a fresh instance, without
        enter and exit; ``printed`` gets its output.
        """

        def publish(event: Event) -> None:
            self._home.bus.publish(event)
            if isinstance(event, LogLine):
                printed(event.text)

        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(hook, RunFunction):
            options = Options.make(hook.name, **hook.options, engine=version.engine.name)
            spec = read_function(hook.function, options)
            version = Version.of(spec, self._home, self._notices)
            args, kwargs, timeout, method = hook.args, dict(hook.kwargs), hook.timeout, CALL
            name = hook.name
        else:
            timeout, method = version.spec.build_marks[hook].timeout, hook
            name = hook
        container = self._launcher.make_for_hook(version, image, name, publish)
        self.hook = container
        try:
            container.start(show)
            pool = Pool(self._name, lambda _: container, self._home.monitor, timeout=timeout)
            pool.adopt(container)
            calls.call(pool, method, args, kwargs)
            assert container.id is not None
            yield container.id
        finally:
            try:
                container.drain("its build hook has run")
                container.gone.wait(version.spec.options.exit_grace)
            finally:  # an interrupt may end the wait
                container.kill("its build hook is over")
                self.hook = None
