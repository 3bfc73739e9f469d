"""The images of one class: one is built for each version, with a layer for each build hook.

A build hook runs in an ordinary container of the class, in a pool that has only this container.
The changes that the hook makes to its files become the image's next layer.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from lifecycle_magic.building import builder
from lifecycle_magic.calls import sync
from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.gpus import end_holders
from lifecycle_magic.container.start import start
from lifecycle_magic.exception import Error
from lifecycle_magic.images.run_function import RunFunction
from lifecycle_magic.lifecycle.states import Event, LogLine
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.printing import show
from lifecycle_magic.services.context import ClassNotices, SessionContext
from lifecycle_magic.services.launcher import Launcher
from lifecycle_magic.services.version import Version
from lifecycle_magic.spec.class_spec import CALL
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_function

__all__ = ["ServiceImages"]


class ServiceImages:
    """The images of the class called ``name`` of ``app``, which the session knows by ``key``."""

    def __init__(
        self,
        context: SessionContext,
        launcher: Launcher,
        notices: ClassNotices,
        name: str,
        app: str,
        key: str,
    ) -> None:
        self.hook_container: Container | None = None  # runs a build hook
        self.interrupted_hooks = 0  # hooks that were stopped before they had finished
        self._context = context
        self._launcher = launcher
        self._notices = notices
        self._name = name
        self._app = app
        self._key = key
        self._building = threading.Lock()
        # A version may run again after its successor failed to start, so the images of all
        # versions still in use are kept.
        self._built: weakref.WeakKeyDictionary[Version, builder.BuiltImage]
        self._built = weakref.WeakKeyDictionary()

    def ensure(self, version: Version, *, force: bool = False) -> str:
        """Build the image of ``version`` unless it is built, and return its id.

        The image has a layer for each build hook. It is built in the caller's thread, so that an
        interrupt ends the build. ``force`` runs the hooks again. Raises `InvalidError` for options
        that the engine refuses, and what `builder.ensure` raises.
        """
        known = self._built.get(version)
        if known is not None and not force:
            return known.image
        with self._building:
            known = self._built.get(version)
            if known is not None and not force:
                return known.image
            version.review(self._name)  # raises; each container reports what is ignored
            built = builder.ensure(
                version.spec,
                version.engine,
                lambda image, hook, printed: self._run_hook(version, image, hook, printed),
                self._context.bus.publish,
                force=force,
                need=self._context.ledger.add_images,
                app=self._app,
                service=self._key,
            )
            self._built[version] = built
            return built.image

    def reuse(self, old: Version, new: Version) -> None:
        """Use the image of ``old``, if it is built, for ``new`` too."""
        known = self._built.get(old)
        if known is not None:
            self._built[new] = known

    def has_new_base(self, version: Version) -> bool:
        """Return whether the name of the base image means another image than when it was built."""
        known = self._built.get(version)
        if known is None:
            return False
        try:
            return version.engine.base_id(version.image) != known.base
        except Error:
            return False  # running containers do not need it

    def stop(self, why: str) -> None:
        """Stop the running build hook, and the build with it."""
        hook = self.hook_container
        if hook is not None:
            hook.end(Ending(EndKind.STOP, why))

    @contextlib.contextmanager
    def _run_hook(
        self,
        version: Version,
        image: str,
        hook: str | RunFunction,
        printed: Callable[[str], None],
    ) -> Iterator[str]:
        """Run ``hook`` in a container of ``image`` and yield the container's id.

        The hook runs on a new instance; no enter or exit hook runs. ``printed`` gets its output.
        """

        def publish(event: Event) -> None:
            self._context.bus.publish(event)
            if isinstance(event, LogLine):
                printed(event.text)

        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(hook, RunFunction):
            options = Options.make(hook.name, **hook.options, engine=version.engine.name)
            spec = read_function(hook.function, options)
            version = Version.of(spec, self._context, self._notices, version.image)
            args, kwargs, timeout, method = hook.args, dict(hook.kwargs), hook.timeout, CALL
            name = hook.name
        else:
            timeout, method = version.spec.build_marks[hook].timeout, hook
            name = hook
        container = self._launcher.make_for_hook(version, image, name, publish)
        self.hook_container = container
        why = "a build hook needs its GPU"
        container.gpus.on_shortage = lambda: end_holders(self._launcher.containers(), why)
        try:
            start(container, show)
            pool = Pool(self._name, lambda _: container, self._context.event_loop, timeout=timeout)
            pool.adopt(container)
            sync.call(pool, method, args, kwargs)
            assert container.id is not None
            yield container.id
        finally:
            self.interrupted_hooks += container.cause.is_killed_by(EndKind.CUT_SHORT)
            try:
                container.end(Ending(EndKind.DRAIN, "its build hook has run"))
                container.exited.wait(version.spec.options.exit_grace)
            finally:  # an interrupt may end the wait
                container.end(Ending(EndKind.KILL, "its build hook is over"), wait=True)
                self.hook_container = None
