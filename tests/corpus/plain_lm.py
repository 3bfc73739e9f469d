"""The plain meaning of a lifecycle class: hooks and methods run in place, in this process.

It stands in for `lifecycle_magic` where a program is run as Python means it: ``.remote`` is a
call, ``.map`` a list, ``.spawn`` runs at once. What a container knows of the notebook, and what it
keeps under an edit, is in `corpus.carrying`.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any

from corpus.carrying import Container, Declaration, fingerprint

MARK = "__plain_marks__"


def _decorator(kind: str) -> Callable[..., Any]:
    def mark(fn: Any = None, /, **options: Any) -> Any:
        def apply(target: Any) -> Any:
            setattr(target, MARK, frozenset({*getattr(target, MARK, ()), kind}))
            return target

        return apply if fn is None else apply(fn)

    return mark


enter, exit, build, method, batched, concurrent = map(
    _decorator, ("enter", "exit", "build", "method", "batched", "concurrent")
)
_MISSING = object()
muted: list[Any] = []  # not empty while nothing that is printed is shown


class Parameter:
    """What ``lm.parameter()`` leaves in a class."""

    def __init__(self, default: Any) -> None:
        self.default = default


def parameter(*, default: Any = _MISSING, init: bool = True) -> Any:
    return Parameter(default)


def is_local() -> bool:
    return not Container.running


class Anything:
    """An image, a volume or a secret: there is no meaning to it in this process."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **options: Any) -> Anything:
        return self

    def __enter__(self) -> Anything:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return isinstance(error, ImportError)  # what is missing here stands in


Image = Volume = Secret = Retries = Anything()


def marked(cls: type, kind: str) -> list[str]:
    """Names of the methods of a kind: base classes first, each in the order it is written."""
    found: dict[str, None] = {}
    for owner in reversed(cls.__mro__):
        for name, value in vars(owner).items():
            if not isinstance(value, type) and kind in _own_attributes(value).get(MARK, ()):
                found[name] = None
    return list(found)


def _own_attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, without its own code: its `__getattr__` may raise anything."""
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own


def is_lifecycle(value: Any) -> bool:
    return isinstance(value, type) and any(
        marked(value, kind) for kind in ("enter", "exit", "build", "method", "batched")
    )


class Handle:
    """The name of a lifecycle class in the notebook, and in the containers of other classes."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.__wrapped__ = self.cls
        if _defaults(self.cls) and self.cls.__init__ is object.__init__:
            self.cls.__init__ = _set_parameters
        self.__name__, self.__doc__ = self.cls.__name__, self.cls.__doc__

    def __repr__(self) -> str:
        return f"<lifecycle class {self.cls.__name__}>"

    @property
    def cls(self) -> Any:
        return self.declaration.cls

    def __call__(self, *args: Any, **options: Any) -> Obj:
        if is_local() or self.declaration is not Container.running[-1].declaration:
            return Obj(self, args, options)
        return instantiate(self.cls, args, options)

    def with_options(self, **options: Any) -> Handle:
        return Handle(Declaration(self.cls, self.declaration.namespace, "with_options"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.cls, name)

    def __setattr__(self, name: str, value: Any) -> None:
        is_own = name in ("declaration", "__wrapped__", "__name__", "__doc__")
        if is_own or not self.declaration.is_open:
            object.__setattr__(self, name, value)
        else:
            setattr(self.cls, name, value)  # the cell still says what the class is

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (self.cls,)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Obj) and issubclass(value._handle.cls, self.cls)

    def __subclasscheck__(self, value: Any) -> bool:
        return issubclass(getattr(value, "cls", value), self.cls)

    def __or__(self, other: Any) -> Any:
        return self.cls | getattr(other, "cls", other)

    def __ror__(self, other: Any) -> Any:
        return other | self.cls

    def __deepcopy__(self, memo: Any) -> Handle:
        return self

    def __reduce__(self) -> Any:
        return str(self.__name__)


def _set_parameters(instance: Any, **given: Any) -> None:
    """Be the ``__init__`` of a class with parameters, for its own code."""
    defaults = _defaults(type(instance))
    if unknown := given.keys() - defaults.keys():
        raise TypeError(f"{type(instance).__name__}() got an unexpected argument {unknown}")
    vars(instance).update({**defaults, **given})


def _defaults(cls: Any) -> dict[str, Any]:
    """The defaults of a class's parameters."""
    return {
        name: value.default
        for owner in reversed(cls.__mro__)
        for name, value in vars(owner).items()
        if isinstance(value, Parameter)
    }


def arguments(cls: Any, args: Any, options: Any) -> dict[str, Any]:
    """What an instance is made with, defaults included."""
    if defaults := _defaults(cls):
        return {**defaults, **options}
    try:
        bound = inspect.signature(cls).bind(*args, **options)
    except ValueError:  # a built-in's constructor
        return {**dict(enumerate(args)), **options}
    bound.apply_defaults()
    return dict(bound.arguments)


def instantiate(cls: Any, args: Any, options: Any) -> Any:
    defaults = _defaults(cls)
    if not defaults:
        return cls(*args, **options)
    instance = cls.__new__(cls)
    vars(instance).update({**defaults, **options})
    return instance


class Obj:
    """An instance: equal arguments share one container."""

    def __init__(self, handle: Handle, args: Any, options: Any) -> None:
        self._handle, self._args, self._options = handle, args, options
        self._local: Any = None

    def __repr__(self) -> str:
        return f"<{self._handle.cls.__name__} in containers>"

    def _container(self) -> Container:
        cls = self._handle.cls
        given = arguments(cls, self._args, self._options)
        return self._handle.declaration.container(
            fingerprint(given), lambda: started(cls, self._args, self._options)
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        cls = self._handle.cls
        if name in (*marked(cls, "method"), *marked(cls, "batched")):
            return Method(self, name)
        given = arguments(cls, self._args, self._options)
        if name in given:
            return given[name]
        return getattr(instantiate(cls, self._args, self._options), name)

    def __deepcopy__(self, memo: Any) -> Obj:
        return self

    def __reduce__(self) -> Any:
        return type(self), (self._handle, self._args, self._options)


def started(cls: Any, args: Any, options: Any) -> Any:
    """A new instance with its build hooks and then its enter hooks run."""
    builder = instantiate(cls, args, options) if marked(cls, "build") else None
    for name in marked(cls, "build"):
        if "enter" not in getattr(getattr(cls, name), MARK):
            finished(getattr(builder, name)())
    instance = instantiate(cls, args, options)
    for name in marked(cls, "enter"):
        finished(getattr(instance, name)())
    return instance


def finished(value: Any) -> Any:
    """The value of a coroutine, run on the one loop of all containers; else the value itself."""
    return Container.loop().run_until_complete(value) if inspect.iscoroutine(value) else value


class Call:
    """What does not wait, done at once: awaitable, and ``get`` gives its value."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.value = self.error = None
        try:
            self.value = work()
        except BaseException as error:
            self.error = error

    def get(self, timeout: float | None = None) -> Any:
        if self.error is not None:
            raise self.error
        return self.value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.get()
        yield


class Way:
    """``remote`` and its ``.aio``."""

    def __init__(self, sync: Callable[..., Any], aio: Callable[..., Any]) -> None:
        self.sync, self.aio = sync, aio

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.sync(*args, **options)


class Method:
    """A method of an instance, and the ways to call it."""

    def __init__(self, obj: Obj, name: str) -> None:
        self._obj, self._name = obj, name
        fn = inspect.unwrap(getattr(obj._handle.cls, name))
        self._is_async = inspect.iscoroutinefunction(getattr(obj._handle.cls, name))
        self._takes_lists = "batched" in getattr(fn, MARK, ())
        self.remote = Way(self._remote, lambda *a, **k: Call(lambda: self._run(*a, **k)))
        self.remote_gen = Way(self._items, self._async_items)
        self.map = Way(self._map, self._async_map)
        self.starmap = Way(self._starmap, self._async_map)
        self.spawn = Way(self._spawn, lambda *a, **k: Call(lambda: self._spawn(*a, **k)))

    def __repr__(self) -> str:
        return f"<{self._obj._handle.cls.__name__}().{self._name}>"

    def _run(self, *args: Any, **options: Any) -> Any:
        with self._obj._container().inside() as instance:
            if self._takes_lists:
                return getattr(instance, self._name)(*([one] for one in args))[0]
            return _sent(finished(getattr(instance, self._name)(*args, **options)))

    def _remote(self, *args: Any, **options: Any) -> Any:
        if self._is_async and Container.has_loop_outside():
            return Call(lambda: self._run(*args, **options))
        return self._run(*args, **options)

    def _spawn(self, *args: Any, **options: Any) -> Call:
        return Call(lambda: self._run(*args, **options))

    def local(self, *args: Any, **options: Any) -> Any:
        obj = self._obj
        if obj._local is None:
            obj._local = instantiate(obj._handle.cls, obj._args, obj._options)
            for name in marked(obj._handle.cls, "enter"):
                finished(getattr(obj._local, name)())
        return getattr(obj._local, self._name)(*args, **options)

    def _items(self, *args: Any, **options: Any) -> Generator[Any, Any, None]:
        container = self._obj._container()
        with container.inside() as instance:
            items = getattr(instance, self._name)(*args, **options)
        given: Any = None
        try:
            while True:
                with container.inside():
                    try:
                        one = _sent(_next(items) if given is None else items.send(given))
                    except (StopIteration, StopAsyncIteration):
                        return
                given = yield one
        finally:
            with container.inside():
                finished(_awaited(items.aclose())) if inspect.isasyncgen(items) else items.close()

    async def _async_items(self, *args: Any, **options: Any) -> Any:
        with contextlib.closing(self._items(*args, **options)) as items:
            for one in items:
                yield one

    def _map(self, *inputs: Any, return_exceptions: bool = False, **options: Any) -> Iterator[Any]:
        return self._starmap(zip(*inputs, strict=False), return_exceptions=return_exceptions)

    def _starmap(self, inputs: Any, *, return_exceptions: bool = False, **options: Any) -> Any:
        for args in inputs:
            try:
                yield self._run(*args)
            except Exception as error:
                if not return_exceptions:
                    raise
                yield error

    async def _async_map(self, *inputs: Any, **options: Any) -> Any:
        for one in self._map(*inputs, **options):
            yield one

    def for_each(self, *inputs: Any) -> None:
        list(self._map(*inputs))

    def __call__(self, *args: Any, **options: Any) -> Any:
        name = f"{self._obj._handle.cls.__name__}().{self._name}"
        raise TypeError(f"{name}(...) does not say where to run")


def _sent(value: Any) -> Any:
    """A copy, as what is sent is: a result does not change with the container's state."""
    with contextlib.suppress(Exception):
        return copy.deepcopy(value)
    return value


def _next(items: Any) -> Any:
    if inspect.isasyncgen(items):
        return finished(_awaited(items.__anext__()))
    return next(items)


async def _awaited(value: Any) -> Any:
    return await value


async def _awaited(value: Any) -> Any:
    return await value


def gather(*calls: Any) -> list[Any]:
    return [call.get() for call in calls]


class App:
    """``@app.cls`` and ``@app.function``, in place."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.entrypoints: list[Any] = []

    def local_entrypoint(self, **options: Any) -> Any:
        def apply(fn: Any) -> Any:
            self.entrypoints.append(fn)
            return fn

        return apply

    def cls(self, target: Any = None, /, **options: Any) -> Any:
        namespace = inspect.currentframe().f_back.f_globals  # type: ignore[union-attr]
        return (
            (lambda one: declare(one, namespace, "app"))
            if target is None
            else declare(target, namespace, "app")
        )

    def function(self, target: Any = None, /, **options: Any) -> Any:
        namespace = inspect.currentframe().f_back.f_globals  # type: ignore[union-attr]

        def apply(fn: Any) -> Any:
            body = {"call": method()(staticmethod(fn))}
            cls = type(fn.__name__, (), body)
            return Method(declare(cls, namespace, "app")(), "call")

        return apply if target is None else apply(target)

    @contextlib.contextmanager
    def run(self) -> Iterator[App]:
        yield self

    def stop(self) -> None:
        for one in Declaration.known.values():
            one.stop()


def declare(cls: Any, namespace: dict[str, Any], where: str) -> Handle:
    return Handle(Declaration.of(cls, namespace, where))


# --- the magic


class _HandOver(ast.NodeTransformer):
    """Makes each top-level class of a cell a handle as soon as its statement has run."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        body: list[ast.stmt] = []
        for one in node.body:
            body.append(one)
            if isinstance(one, ast.ClassDef):
                hand = ast.parse(f"{one.name} = __plain_hand__({one.name})").body[0]
                body.append(ast.copy_location(hand, one))
        node.body = body
        return ast.fix_missing_locations(node)


def load_ipython_extension(shell: Any) -> None:
    shell.register_magic_function(_lifecycle_cls, "cell", "lifecycle_cls")
    shell.register_magic_function(lambda line: None, "line", "lifecycle")


def unload_ipython_extension(shell: Any) -> None:
    for one in Declaration.known.values():
        one.stop()


def _lifecycle_cls(line: str, cell: str) -> None:
    from IPython import get_ipython

    shell: Any = get_ipython()
    namespace = shell.user_ns
    before = dict(namespace)
    found: list[Handle] = []

    def hand(value: Any) -> Any:
        if not is_lifecycle(value):
            return value
        found.append(declare(value, namespace, "cell"))
        return found[-1]

    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    tree = _HandOver().visit(ast.parse(source, name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    namespace["__plain_hand__"] = hand
    try:
        exec(shell.compile(tree, name, "exec"), namespace)
        if last is not None:
            exec(shell.compile(ast.Interactive([last]), name, "single"), namespace)
    finally:
        del namespace["__plain_hand__"]
    for key, value in list(namespace.items()):
        if before.get(key) is not value and is_lifecycle(value):
            namespace[key] = hand(value)
    if not found:
        raise TypeError("no lifecycle class")
    for handle in found:
        former = handle.declaration.former
        handle.declaration.close()
        abstract = inspect.isabstract(handle.cls)
        if abstract or re.search(r"--lazy\b", line) or not marked(handle.cls, "method"):
            continue
        try:
            inspect.signature(handle.cls).bind()
        except TypeError:
            continue
        except ValueError:
            pass  # a built-in's constructor
        muted.append(handle)  # what enter prints is the container's log
        try:
            handle()._container()
        except BaseException:
            handle.declaration.restore(former)
            raise
        finally:
            muted.clear()


for _name in ("Obj", "Handle"):
    globals()[_name].__module__ = __name__
