"""`App`: its decorators, the options that its classes share, and its end."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lifecycle_magic.app.declarations import Declarations
from lifecycle_magic.app.run import AppRun
from lifecycle_magic.callers.internal_frames import hide_plumbing
from lifecycle_magic.callers.methods_with_aio import block_with_aio, static_with_aio, with_aio
from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.hooks import concurrent
from lifecycle_magic.decorators.http_server import http_server
from lifecycle_magic.decorators.parameters import parameter
from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import (
    check_keywords,
    notes,
    old_spelling,
    refuse_members,
)
from lifecycle_magic.spec.app_defaults import with_defaults
from lifecycle_magic.spec.old_options import old_concurrency
from lifecycle_magic.spec.option_types import ModalOptionTypes, takes_options
from lifecycle_magic.spec.options import Options

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Unpack, dataclass_transform

    from lifecycle_magic.handles.cls import Cls
    from lifecycle_magic.handles.function import Function
    from lifecycle_magic.handles.static_types import RemoteFunction
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.spec.class_spec import ClassSpec

    P = ParamSpec("P")
    R = TypeVar("R")

else:

    def dataclass_transform(**_: object) -> Callable[[F], F]:
        """Return the decorator unchanged: only type checkers read it, and Python has it
        since 3.11.
        """
        return lambda function: function


T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_OF_MODALS_SERVER = tuple(notes("App.server", "ignored"))

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _lookup(name: str, *, create_if_missing: bool = False, **unused: object) -> App:
    """Return an app by its name: to look up its classes with `Cls.from_name`.

    Raises `NotFoundError` if neither this process nor another living session of this user declares
    it, unless ``create_if_missing``. Modal's ``environment_name`` means nothing here.

    >>> App.lookup("demo", create_if_missing=True).name
    'demo'
    """
    check_keywords("App.lookup", unused, ("name", "create_if_missing"))
    app = App(name)
    if not create_if_missing:
        from lifecycle_magic.session.route import check_app

        check_app(name)
    return app


class App:
    """A group of classes and functions that are stopped together.

    ``name`` is a label, and ``tags`` are notes of your own. The options are the defaults of all
    classes and functions of the app: see ``@app.cls``.

    >>> app = App("training", cpu=2, memory=4096)  # doctest: +SKIP
    """

    @takes_options
    def __init__(
        self,
        name: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[ModalOptionTypes],
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError(
                f"App({name!r}): the name is not a string. "
                'Fix: write App("name"), and decorate classes with @app.cls()'
            )
        self.name = name
        self.tags = dict(tags or {})
        self._defaults: dict[str, Any] = dict(options)
        Options.make(
            f"App({name or ''})", **options
        )  # a mistake shows here, not at the first class
        self._declarations = Declarations()
        self.entrypoints: dict[str, Callable[..., Any]] = {}
        if is_local():
            hide_plumbing()

    lookup = static_with_aio(_lookup)

    @overload
    def cls(self, _cls: type[T], /) -> type[T]: ...
    @overload
    def cls(
        self, /, *, name: str | None = None, **options: Unpack[ModalOptionTypes]
    ) -> Callable[[type[T]], type[T]]: ...
    @takes_options
    @dataclass_transform(kw_only_default=True, field_specifiers=(parameter,))
    def cls(self, _cls: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Declare a lifecycle class.

        The class becomes a handle: ``Model().predict.remote(x)`` runs in a container. ``name`` is
        its name in this app, by default the class's own. Raises `InvalidError` for a mistake in the
        declaration.

        >>> @app.cls(cpu=2, memory=2048)  # doctest: +SKIP
        ... class Model: ...
        """

        def decorate(cls: Any) -> Any:
            if not is_class(cls):
                raise InvalidError(
                    f"@app.cls goes above a class, not above {cls!r}. "
                    "Fix: for a function use @app.function"
                )
            if not is_local():
                return cls  # a module that declares its app is also imported in the container
            from lifecycle_magic.handles.cls import Cls
            from lifecycle_magic.spec.reading import read_class

            called = _name("cls", name) or cls.__name__
            cls, given = old_concurrency(cls, options)
            spec = read_class(cls, self._options(called, given), name=called)
            return Cls(self._declarations.add(spec, self.name))

        return decorate if _cls is None else decorate(_cls)

    @takes_options
    def server(
        self,
        *,
        name: str | None = None,
        port: int = 8000,
        startup_timeout: float = 30.0,
        target_concurrency: float | None = None,
        max_concurrency: int | None = None,
        requires_proxy_auth: bool = False,
        **options: Any,
    ) -> Callable[[type[T]], type[T]]:
        """Declare a class whose ``enter`` starts an HTTP server, with ``Files.get_url()``.

        It is ready when something listens on ``port`` of the container, at most ``startup_timeout``
        seconds after ``enter``. A container gets up to ``max_concurrency`` requests at once, by
        default 32. Raises `InvalidError` for a mistake in the declaration.

        >>> @app.server(port=8000)  # doctest: +SKIP
        ... class Files: ...
        """
        most = max_concurrency or max(32, math.ceil(target_concurrency or 0))
        target = math.ceil(target_concurrency) if target_concurrency else None
        of_modal = {name: options.pop(name) for name in _OF_MODALS_SERVER if name in options}
        check_keywords("App.server", of_modal)

        def decorate(cls: type[T]) -> type[T]:
            served = http_server(
                port, startup_timeout=startup_timeout, requires_proxy_auth=requires_proxy_auth
            )(cls)
            together = concurrent(max_inputs=most, target_inputs=target)(served)
            least = {"startup_timeout": max(startup_timeout, Options().startup_timeout)}
            declared: type[T] = self.cls(name=name, **{**least, **options})(together)
            return declared

        return decorate

    def _experimental_server(self, **options: Any) -> Callable[[type[T]], type[T]]:
        """Do what `server` does, under its old name."""
        old_spelling("App", "_experimental_server")
        return self.server(**options)

    @overload
    def function(self, _function: Callable[P, R], /) -> RemoteFunction[P, R]: ...
    @overload
    def function(
        self,
        /,
        *,
        name: str | None = None,
        is_generator: bool | None = None,
        **options: Unpack[ModalOptionTypes],
    ) -> Callable[[Callable[P, R]], RemoteFunction[P, R]]: ...
    @takes_options
    def function(
        self,
        _function: Any = None,
        /,
        *,
        name: str | None = None,
        is_generator: bool | None = None,
        **options: Any,
    ) -> Any:
        """Declare a function that runs in containers.

        Call it with ``f.remote(x)`` or ``f.map(xs)``. ``name`` is its name in this app, by default
        the function's own. ``is_generator`` is needed only for a function that returns a generator
        without a ``yield`` of its own. Raises `InvalidError` for a mistake in the declaration.

        >>> @app.function(cpu=2)  # doctest: +SKIP
        ... def square(x): return x * x
        """

        def decorate(function: Any) -> Any:
            if not is_local():
                return function
            from lifecycle_magic.handles.cls import Cls
            from lifecycle_magic.handles.function import Function
            from lifecycle_magic.spec.reading import read_function

            called = _name("function", name) or str(getattr(function, "__name__", "?"))
            function, given = old_concurrency(function, options)
            checked = self._options(called, {"keep": None, **given})  # the app's is for classes
            spec = read_function(function, checked, name=called, is_generator=is_generator)
            return Function(Cls(self._declarations.add(spec, self.name)), function)

        return decorate if _function is None else decorate(_function)

    @overload
    def local_entrypoint(self, _function: F, /) -> F: ...
    @overload
    def local_entrypoint(self, /, *, name: str | None = None) -> Callable[[F], F]: ...
    def local_entrypoint(self, _function: Any = None, /, *, name: str | None = None) -> Any:
        """Mark the function that ``lifecycle-magic run`` calls.

        Its parameters become command-line options. ``name`` is its name after ``::``, by default
        the function's own.

        >>> @app.local_entrypoint()  # doctest: +SKIP
        ... def main(size: int = 10): ...
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            if not hasattr(function, "__name__"):
                raise InvalidError(
                    f"@app.local_entrypoint goes above a def, not above {function!r}. "
                    "Fix: put it right above the function to run"
                )
            self.entrypoints[_name("local_entrypoint", name) or function.__name__] = function
            return function

        return decorate if _function is None else decorate(_function)

    @property
    def image(self) -> Image | None:
        """The image of classes and functions that name none; it can be set before they are
        declared.
        """
        image: Image | None = self._defaults.get("image")
        return image

    @image.setter
    def image(self, image: Image) -> None:
        Options.make(f"App({self.name or ''})", image=image)
        self._defaults["image"] = image

    def include(self, other_app: App, inherit_tags: bool = True) -> App:
        """Add the classes, functions and entry points of another app; return this app.

        ``inherit_tags`` adds the other app's tags that this one does not have.

        >>> app.include(other_app)  # doctest: +SKIP
        """
        given: object = other_app
        if not isinstance(given, App):
            raise InvalidError(f"App.include takes an App, not {other_app!r}. Fix: pass module.app")
        self._declarations.include(other_app._declarations)
        for name, function in other_app.entrypoints.items():
            self.entrypoints.setdefault(name, function)
        if inherit_tags:
            self.tags = {**other_app.tags, **self.tags}
        return self

    @property
    def description(self) -> str | None:
        """The name of the app, as in Modal."""
        return self.name

    @with_aio
    def get_tags(self, /, **unused: object) -> dict[str, str]:
        """Return a copy of the app's tags."""
        check_keywords("App.get_tags", unused)
        return dict(self.tags)

    @with_aio
    def set_tags(self, /, tags: Mapping[str, str], **unused: object) -> None:
        """Replace the app's tags."""
        check_keywords("App.set_tags", unused, ("tags",))
        self.tags = dict(tags)

    @property
    def app_id(self) -> str | None:
        """The id of the app in this session: a string, or None before anything has run.

        >>> App("training").app_id is None  # doctest: +SKIP
        True
        """
        from lifecycle_magic.session import session

        opened = session.opened()
        if opened is None:
            return None
        text = "/".join([opened.id, self.name or "", *self._declarations.entries])
        return f"ap-{hashlib.sha256(text.encode()).hexdigest()[:22]}"

    @property
    def registered_functions(self) -> dict[str, Function]:
        """The functions by name, each with ``remote``, ``map`` and the rest."""
        return self._declarations.functions()

    @property
    def registered_classes(self) -> dict[str, Cls]:
        """The classes by name."""
        return self._declarations.classes()

    @property
    def registered_web_endpoints(self) -> list[str]:
        """The names of the functions, and ``Class.method`` of the methods, that answer HTTP."""
        return self._declarations.web_endpoints()

    @property
    def registered_entrypoints(self) -> dict[str, Callable[..., Any]]:
        """The entry points by name."""
        return dict(self.entrypoints)

    @block_with_aio
    def run(self, /, *, detach: bool = False, name: str | None = None, **others: object) -> AppRun:
        """Stop the app's containers at the end of a ``with`` or ``async with`` block.

        They run their ``exit`` first. Modal's options for its cloud, such as ``detach``, raise
        `InvalidError` that says what to write instead.

        >>> with app.run():  # doctest: +SKIP
        ...     Model().predict.remote(1)
        """
        check_keywords("App.run", {"detach": detach, "name": name, **others}, ("detach", "name"))
        return AppRun(self)

    @with_aio
    def stop(self, /, **unused: object) -> None:
        """Stop every container of this app, and wait until each has run its ``exit``."""
        check_keywords("App.stop", unused)
        self._declarations.stop("app.stop()")

    def adopt_name(self, name: str) -> None:
        """Give an app without a name this one, under which other processes find its classes."""
        if self.name:
            return
        self.name = name
        self._declarations.name_app(name)

    def declared(self) -> Iterator[tuple[str, Service, ClassSpec]]:
        """Yield all declarations: the key in the session, the service, and the class's
        declaration.
        """
        for key, entry in self._declarations.entries.items():
            yield key, entry.service(), entry.spec

    # --- inside ----------------------------------------------------------------------------

    def _options(self, where: str, options: dict[str, Any]) -> Options:
        return Options.make(where, **with_defaults(where, self._defaults, options))


refuse_members(App)


def _name(decorator: str, name: Any) -> str | None:
    """Check and return the ``name=`` of a class or function."""
    if name is None:
        return None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"@app.{decorator}(name={name!r}): a name may have letters, digits, '_', '-' and '.'. "
            f'Fix: write name="my-name"'
        )
    return name
