"""The handles that ``Cls.from_name`` and ``Function.from_name`` return.

A handle keeps names and no connection. So it can be made before its class is served, be pickled,
and go on working when its session is replaced. Where this process itself serves the class, the
handle stands for that one.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import Any, NoReturn

from lifecycle_magic.callers.methods_with_aio import with_aio
from lifecycle_magic.callers.with_aio import with_thread
from lifecycle_magic.decorators.http_server import ADDRESS_FORMS, SERVE
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import check_keywords, refuse, refuse_members
from lifecycle_magic.named.calls import NamedCalls, check_sort, describe, pickled
from lifecycle_magic.named.description import signature_of
from lifecycle_magic.named.reach import Name, own

__all__ = ["Cls", "Function", "NamedClass", "NamedFunction", "NamedObject", "Server"]

_WAYS = ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "get_web_url", "web_url")
_OF_OPTIONS = ("with_options", "with_concurrency", "with_batching", "update_autoscaler")
"""Ways to change the options of a class, which its own session has."""

_OF_SESSION = frozenset(_OF_OPTIONS) | {
    *("call", "get_current_stats", "get_raw_f", "is_generator", "keep_warm", "spawn_map", "submit")
}
"""What only the handle in its own session has."""

_FIXED = frozenset({int, float, complex, str, bool, bytes, type(None)})
_NO_ARGUMENTS = pickled((), {})
_NAME = re.compile(r"[^/\s?#]{1,200}")


class Cls:
    """The name `lifecycle_magic.Cls` inside a container."""

    @staticmethod
    def from_name(app_name: str, name: str, **unused: object) -> NamedClass:
        """Return a handle of the class ``name`` of the app ``app_name``, which a session serves."""
        return named_class(app_name, name, **unused)

    lookup = OldMember(looks_up)


class Function:
    """The name `lifecycle_magic.Function` inside a container."""

    @staticmethod
    def from_name(app_name: str, name: str, **unused: object) -> NamedFunction:
        """Return a handle of the function ``name`` of the app ``app_name``."""
        return named_function(app_name, name, **unused)

    lookup = OldMember(looks_up)


class Server:
    """Servers of other sessions: see ``@app.server``."""

    @staticmethod
    def from_name(app_name: str, name: str, **unused: object) -> NamedClass:
        """Return a handle of the server ``name`` of the app ``app_name``, with ``get_urls()``."""
        return named_class(app_name, name, **unused)


refuse_members(Cls)
refuse_members(Function)
refuse_members(Server)


class _Elsewhere(InvalidError, AttributeError):
    """The error of an attribute that only the session that serves a class has."""

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidError, self.args


_Elsewhere.__name__ = _Elsewhere.__qualname__ = "InvalidError"


def _elsewhere(name: Name, attribute: str) -> InvalidError:
    return _Elsewhere(
        f"{name}: the session that serves it chooses its options and has its {attribute}. "
        f"Fix: write {attribute} there, or the options in @app.cls(...) or @app.function(...)"
    )


def named_class(app_name: str, name: str, **unused: object) -> NamedClass:
    """Return a handle of the class ``name`` of the app ``app_name``.

    Another living session of this user serves it, or this one. Nothing is looked up before the
    first use. A call then raises `NotFoundError` if no session serves the name, and `InvalidError`
    if several do; what can be no name is an `InvalidError` at once. Modal's ``environment_name``
    means nothing here.

    >>> Cls.from_name("demo", "Model")().predict.remote(1)  # doctest: +SKIP
    """
    return NamedClass(_checked("Cls", app_name, name, unused))


def named_function(app_name: str, name: str, **unused: object) -> NamedFunction:
    """Return a handle of the function ``name`` of the app ``app_name``: see `named_class`.

    >>> Function.from_name("demo", "square").remote(3)  # doctest: +SKIP
    9
    """
    return NamedFunction(_checked("Function", app_name, name, unused))


def _checked(kind: str, app: object, name: object, unused: dict[str, object]) -> Name:
    if unused:
        check_keywords(f"{kind}.from_name", unused, ("app_name", "name"))
    for given in (app, name):
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            raise InvalidError(
                f"{kind}.from_name({app!r}, {name!r}): {given!r} can't be a name. "
                f'Fix: write lm.{kind}.from_name("app", "{"Model" if kind == "Cls" else "f"}"), '
                "the name of the app first"
            )
    return Name(str(app), str(name))


class NamedClass:
    """The handle of a class that another session serves. Call it to get an instance's handle.

    >>> model = Cls.from_name("demo", "Model")(size=3)  # doctest: +SKIP
    >>> model.predict.remote(1)  # doctest: +SKIP
    """

    def __init__(self, name: Name) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> NamedObject:
        """Return the handle of an instance. The session checks the arguments at the first call."""
        return NamedObject(self._name, args, kwargs)

    @with_aio
    def hydrate(self, client: object = None) -> NamedClass:
        """Look the class up now, instead of at the first call. Raises `NotFoundError`."""
        if own(self._name) is None:
            check_sort(self._name, describe(self._name)[2], False)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        mine = own(self._name)
        if mine is not None:
            return getattr(mine, name)
        if name in _OF_OPTIONS:
            raise _elsewhere(self._name, name)
        if name in ADDRESS_FORMS:
            shape = ADDRESS_FORMS[name]
            return with_thread(lambda: shape(getattr(self(), SERVE).web_url))
        refuse("Cls", name)
        raise AttributeError(
            f"{self._name}.{name}: the class itself is in the session that serves it. "
            f"Fix: make an instance first, as in Model().{name}.remote(...)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedClass) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return named_class, tuple(self._name)

    def __repr__(self) -> str:
        return f"<lifecycle class {self._name}, by name>"


class NamedObject:
    """The handle of an instance of a class that another session serves."""

    def __init__(self, name: Name, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._name = name
        self._args = args
        self._kwargs = kwargs
        # Kept for later calls, unless the arguments of the constructor may change meanwhile.
        self._methods: dict[str, NamedMethod] = {}
        self._is_fixed = all(type(one) in _FIXED for one in (*args, *kwargs.values()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        mine = own(self._name)
        if mine is not None:
            return getattr(mine(*self._args, **self._kwargs), name)
        if name in self._kwargs:
            return self._kwargs[name]
        found = self._methods.get(name)
        if found is None:
            where = f"{self._name.name}().{name}"
            found = NamedMethod(self._name, self._args, self._kwargs, name, where, False)
            if self._is_fixed:
                self._methods[name] = found
        return found

    def __dir__(self) -> list[str]:
        mine = own(self._name)
        if mine is not None:
            return dir(mine())
        return sorted(one.name for one in describe(self._name)[2].methods)

    def __reduce__(self) -> tuple[Any, ...]:
        return _named_object, (*self._name, self._args, self._kwargs)

    def __repr__(self) -> str:
        given = [repr(value) for value in self._args]
        given += [f"{name}={value!r}" for name, value in self._kwargs.items()]
        return f"<{self._name.name}({', '.join(given)}) of the app {self._name.app}, by name>"


def _named_object(app: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return NamedObject(Name(app, name), args, kwargs)


class NamedMethod:
    """A method, or a function, that another session serves, with every way to call it."""

    def __init__(
        self,
        name: Name,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: str,
        where: str,
        is_function: bool,
    ) -> None:
        self._name = name
        self._given = args, kwargs
        self._method = method
        self._where = where
        self._is_function = is_function
        self._ways: NamedCalls | None = None
        self.__name__ = name.name if is_function else method

    @property
    def _calls(self) -> NamedCalls:
        ways = self._ways
        if ways is None:
            args, kwargs = self._given
            given = pickled(args, kwargs) if args or kwargs else _NO_ARGUMENTS
            ways = NamedCalls(self._name, self._method, given, self._where, self._is_function)
            self._ways = ways
        return ways

    def _own(self) -> Any:
        """Return the same of this process's own class, if it serves one of this name."""
        mine = own(self._name)
        if mine is None or self._is_function:
            return mine
        args, kwargs = self._given
        return getattr(mine(*args, **kwargs), self._method)

    def __getattr__(self, name: str) -> Any:
        if name not in _WAYS:
            if name.startswith("_"):
                raise AttributeError(name)
            mine = self._own()
            if mine is not None:
                return getattr(mine, name)
            if name in _OF_SESSION:
                raise _elsewhere(self._name, name)
            refuse("Function", name)
            raise AttributeError(f"{self._where}, by name, has no {name}")
        mine = self._own()
        return getattr(self._calls if mine is None else mine, name)

    @with_aio
    def hydrate(self, client: object = None) -> NamedMethod:
        """Look the method up now, instead of at the first call. Raises `NotFoundError`."""
        if own(self._name) is None:
            self._calls.facts()
        return self

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in this process, which only the session that serves it can do."""
        mine = self._own()
        if mine is None:
            raise InvalidError(
                f"{self._where}.local(...): the code is in the session that serves it. "
                f"Fix: write {self._where}.remote(...)"
            )
        return mine.local(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        try:
            return signature_of(self._calls.facts().parameters)
        except Error as error:  # no session serves it now
            raise AttributeError(str(error)) from None

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        with contextlib.suppress(Error):
            return self._calls.facts().doc
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        if self._method in (*_OF_OPTIONS, "keep_warm") and not self._is_function:
            raise _elsewhere(self._name, self._method)
        raise InvalidError(
            f"{self._where}(...) does not say where to run. Fix: write {self._where}.remote(...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._given
        return getattr, (NamedObject(self._name, args, kwargs), self._method)

    def __repr__(self) -> str:
        return f"<method {self._where} of the app {self._name.app}, by name>"


class NamedFunction(NamedMethod):
    """The handle of a function that another session serves.

    >>> Function.from_name("demo", "square").remote(3)  # doctest: +SKIP
    9
    """

    def __init__(self, name: Name) -> None:
        super().__init__(name, (), {}, "call", name.name, True)

    @with_aio
    def hydrate(self, client: object = None) -> NamedFunction:
        """Look the function up now, instead of at the first call. Raises `NotFoundError`."""
        if own(self._name) is None:
            check_sort(self._name, describe(self._name)[2], True)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return named_function, tuple(self._name)

    def __repr__(self) -> str:
        return f"<lifecycle function {self._name}, by name>"
