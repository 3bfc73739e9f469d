"""What a container knows of a notebook, and what it keeps under an edit, in plain Python.

A container sees the notebook's globals as they were when its class was declared. Here it is no
process: while one of its hooks or methods runs, the notebook's namespace holds the container's
values, and what the method changes there goes with them.

Under an edit the old objects stay and get the new code: a function its new ``__code__``, a class
its new members, so that whatever refers to them means the new code. Data are decided name by name:
as declared in the container → the new value; changed by a call and declared as before → kept;
changed on both sides → nothing can be kept truthfully, and a new container is due.

Whether a step keeps a container or makes a new one is not decided here: the product says so, and
`Declaration.of` is given the same answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dis
import gc
import io
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

_ABSENT = object()
_ONE_AT_A_TIME = threading.RLock()  # threads of the notebook may call at the same time
_SKIPPED = {"In", "Out", "_", "__", "___", "_i", "_ii", "_iii", "_ih", "_oh", "_dh", "exit", "quit"}


class NotTruthful(Exception):
    """A container was kept although its state can't be."""


# --- the same or not


class _Digest(cloudpickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
            return _shape, (value.__qualname__, _code(value.__code__), value.__defaults__)
        if isinstance(value, type) and value.__module__ == "__main__":
            bases = [one.__qualname__ for one in value.__bases__]
            return _shape, (value.__qualname__, bases, *(_members(value)))
        return super().reducer_override(value)


def _shape(*parts: Any) -> Any:
    return parts


def _members(cls: type) -> list[Any]:
    return [
        (name, _behaviour(value))
        for name, value in sorted(vars(cls).items())
        if name not in ("__module__", "__dict__", "__weakref__", "__doc__", "__slotnames__")
        and not name.startswith("__plain")
    ]


def _behaviour(value: Any) -> Any:
    if isinstance(value, property):
        return [_behaviour(one) for one in (value.fget, value.fset, value.fdel)]
    value = getattr(value, "__func__", value)  # of a class method or a static method
    if not isinstance(value, types.FunctionType):
        return repr(type(value))
    defaults = [_of_default(one) for one in (value.__defaults__ or ())]
    named = {name: _of_default(one) for name, one in (value.__kwdefaults__ or {}).items()}
    return _code(value.__code__), defaults, named


def _of_default(value: Any) -> Any:
    """A default that calls may have changed counts by its type."""
    is_plain = isinstance(value, (bool, int, float, str, bytes, type(None)))
    return repr(value) if is_plain else repr(type(value))


def _code(code: types.CodeType) -> Any:
    consts = [_code(one) if isinstance(one, types.CodeType) else one for one in code.co_consts]
    return (code.co_code, tuple(map(repr, consts)), code.co_names, code.co_varnames)


def fingerprint(value: Any) -> Any:
    """Equal for equal values; for what can't be pickled, its identity."""
    stream = io.BytesIO()
    try:
        _Digest(stream).dump(value)
    except Exception:
        return id(value)
    return stream.getvalue()


# --- where data lie


def _is_data(value: Any) -> bool:
    return not isinstance(
        value, (types.FunctionType, types.ModuleType, type, staticmethod, classmethod, property)
    )


def _is_pythons_own(name: str, value: Any) -> bool:
    is_dunder = name.startswith("__") and name.endswith("__")
    return is_dunder or type(value).__name__ in ("member_descriptor", "getset_descriptor")


def _is_ours(value: Any) -> bool:
    return getattr(value, "__module__", None) == "__main__"


Place = tuple[str, ...]


def _places(view: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every place for data that code of the notebook can write to, and what lies there."""
    seen: set[int] = set()

    def function(where: Place, fn: Any) -> Iterator[tuple[Place, Any]]:
        if id(fn) in seen or not (_is_ours(fn) or fn.__closure__):
            return
        seen.add(id(fn))
        yield (*where, "defaults"), (fn.__defaults__, fn.__kwdefaults__)
        for name, value in list(vars(fn).items()):
            if isinstance(value, types.FunctionType):
                yield from function((*where, name), value)
            elif not name.startswith("__"):
                yield (*where, "attributes", name), value
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):
                content = cell.cell_contents
                if isinstance(content, types.FunctionType):
                    yield from function((*where, name), content)
                elif _is_data(content):
                    yield (*where, "cell", name), content

    def owner(where: Place, cls: Any) -> Iterator[tuple[Place, Any]]:
        if id(cls) in seen or not _is_ours(cls):
            return
        seen.add(id(cls))
        for base in cls.__mro__[1:]:
            yield from owner((base.__name__,), base)
        for name, value in list(vars(cls).items()):
            if isinstance(value, types.FunctionType):
                yield from function((*where, name), value)
            elif _is_data(value) and not _is_pythons_own(name, value):
                yield (*where, name), value

    for name, value in list(view.items()):
        if isinstance(value, type):
            yield from owner((name,), value)
        elif isinstance(value, types.FunctionType):
            yield from function((name,), value)
        elif _is_data(value):
            yield (name,), value


def _digests(view: dict[str, Any]) -> dict[Place, Any]:
    return {place: fingerprint(value) for place, value in _places(view)}


# --- the notebook as a container sees it


def _names(namespace: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in namespace.items()
        if name not in _SKIPPED and not name.startswith(("__", "_i", "_plain"))
    } | {name: value for name, value in namespace.items() if name == "__name__"}


def _is_same_class(one: type, other: type) -> bool:
    return fingerprint(one) == fingerprint(other) and _defaults(one) == _defaults(other)


def _defaults(cls: type) -> dict[str, str]:
    """The defaults of the fields of a model of pydantic or a dataclass."""
    fields = getattr(cls, "__pydantic_fields__", None) or getattr(cls, "__dataclass_fields__", {})
    return {name: repr(one.default) for name, one in fields.items()}


def _is_model(cls: type) -> bool:
    return hasattr(cls, "__pydantic_fields__")


def _swapped_task(loop: Any, task: Any) -> Any:
    """Replace the task that this thread runs; Python 3.14 runs one at a time, whatever the loop."""
    if loop is None or sys.version_info < (3, 14):
        return None
    return asyncio.tasks._swap_current_task(loop, task)  # type: ignore[attr-defined]


class Container:
    """One instance, and the globals that its hooks and methods see."""

    running: list[Container] = []  # noqa: RUF012 - the innermost is the last
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, declaration: Declaration, make: Callable[[], Any]) -> None:
        self.declaration = declaration
        self.view = dict(declaration.declared)
        self.changed: set[Place] = set()
        self.instance: Any = None
        with self.inside():
            self.instance = make()

    @classmethod
    def loop(cls) -> asyncio.AbstractEventLoop:
        if cls._loop is None:
            cls._loop = asyncio.new_event_loop()
        return cls._loop

    @staticmethod
    def has_loop_outside() -> bool:
        return asyncio._get_running_loop() is not None

    @contextlib.contextmanager
    def inside(self) -> Iterator[Any]:
        """Run a hook or method: the namespace is the container's meanwhile."""
        with _ONE_AT_A_TIME, self._inside() as instance:
            yield instance

    @contextlib.contextmanager
    def _inside(self) -> Iterator[Any]:
        namespace = self.declaration.namespace
        if len(Container.running) == 0:
            self.unify(namespace)
        before = dict(namespace)
        namespace.update(self.view)
        watched = self.declaration.watches
        digests = _digests(self.view) if watched else {}
        outer = asyncio._get_running_loop()
        task = _swapped_task(outer, None)
        asyncio._set_running_loop(None)
        Container.running.append(self)
        try:
            yield self.instance
        finally:
            Container.running.pop()
            asyncio._set_running_loop(outer)
            _swapped_task(outer, task)
            now = {**_names(namespace)}
            for name in list(now):
                if name not in self.view and name in before and before[name] is now[name]:
                    del now[name]  # the notebook's alone
            self.view = now
            if watched:
                after = _digests(self.view)
                places = {*digests, *after}
                self.changed |= {
                    one for one in places if digests.get(one, _ABSENT) != after.get(one, _ABSENT)
                }
            for name in [name for name in namespace if name not in before]:
                del namespace[name]
            namespace.update(before)

    def unify(self, namespace: dict[str, Any]) -> None:
        """Make one class of a helper class that the notebook has defined again.

        The container keeps the class that it has, with the new code in it; an instance that it
        returns is one of the notebook's class all the same.
        """
        pairs = {
            name: (kept, new)
            for name, new in namespace.items()
            if isinstance(new, type) and _is_ours(new)
            if isinstance(kept := self.view.get(name), type) and kept is not new
        }
        same = {name: pair for name, pair in pairs.items() if _is_same_class(*pair)}
        if len(same) < len(pairs):  # a model holds the schemas of its fields' classes
            same = {name: pair for name, pair in same.items() if not _is_model(pair[0])}
        pairs = same
        for one in gc.get_objects() if pairs else ():
            for kept, new in pairs.values():
                if type(one) is new:
                    with contextlib.suppress(TypeError):
                        one.__class__ = kept
        namespace.update({name: kept for name, (kept, _) in pairs.items()})


class Declaration:
    """A class under its name, its containers, and what the notebook was when it was declared."""

    known: dict[tuple[str, str], Declaration] = {}  # noqa: RUF012
    decisions: dict[str, str] = {}  # noqa: RUF012 - what the product said of each class, this cell
    watches = True

    def __init__(self, cls: Any, namespace: dict[str, Any], where: str) -> None:
        self.cls = cls
        self.where = where
        self.namespace = namespace
        self.containers: dict[Any, Container] = {}
        self.declared: dict[str, Any] = {}
        self.digests: dict[Place, Any] = {}
        self._before: Declaration | None = None
        self.is_open = True

    @classmethod
    def of(cls, target: Any, namespace: dict[str, Any], where: str) -> Declaration:
        new = cls(target, namespace, where)
        old = cls.known.get((where, target.__name__))
        if old is None:
            cls.known[where, target.__name__] = new
            return new
        if _codes(old.cls) & _codes(target):
            return new  # a factory's: each keeps its own code
        # Every handle, old or new, runs the new code: the declaration that they hold stays.
        new._before = copy.copy(old)
        vars(old).update(vars(new))
        return old

    @property
    def former(self) -> Declaration | None:
        """What the name stood for before, until `close`."""
        return self._before

    def restore(self, former: Declaration | None) -> None:
        """Go on with what was there before a cell whose new container failed to start."""
        if former is not None:
            vars(self).update(vars(former))

    @classmethod
    def unify_all(cls) -> None:
        for declaration in cls.known.values():
            for one in declaration.containers.values():
                one.unify(declaration.namespace)

    def close(self) -> None:
        """Take the notebook's values as what is declared, and do what was decided."""
        if not self.is_open:
            return
        self.is_open = False
        names = _names(self.namespace)
        for name, value in names.items():
            if type(value).__name__ == "Handle" and _within(value.cls, self.cls):
                names[name] = value.cls  # inside, the class and its bases are the real types
        self.declared = names
        self.digests = _digests(names)
        if self._before is not None:
            self._take_over(self._before)
            self._before = None
        self._part()

    def container(self, key: Any, make: Callable[[], Any]) -> Container:
        self.close()
        if key not in self.containers:
            self.containers[key] = Container(self, make)
        return self.containers[key]

    def stop(self) -> None:
        for one in self.containers.values():
            self._end(one)
        self.containers = {}

    def _end(self, one: Container) -> None:
        from corpus import plain_lm

        with contextlib.redirect_stdout(io.StringIO()), one.inside() as instance:
            for name in plain_lm.marked(type(instance), "exit"):
                with contextlib.suppress(Exception):
                    plain_lm.finished(getattr(instance, name)())

    def _part(self) -> None:
        """Give the notebook copies of its data: what it changes there is not the container's."""
        memo: dict[int, Any] = {}
        for name, value in self.declared.items():
            if _is_data(value) and self.namespace.get(name) is value and not callable(value):
                with contextlib.suppress(Exception):
                    self.namespace[name] = copy.deepcopy(value, memo)

    def _take_over(self, old: Declaration) -> None:
        decision = self.decisions.get(self.cls.__name__, "new")
        if decision == "unchanged":
            self.cls, self.declared, self.digests = old.cls, old.declared, old.digests
            self.containers = old.containers
        elif decision == "kept":
            before, after = _behind_hooks(old), _behind_hooks(self)
            for name in {*before, *after}:
                if old.containers and before.get(name, _ABSENT) != after.get(name, _ABSENT):
                    raise NotTruthful(f"{name} changed, which made the state that is kept")
            keeping = _Keeping(old, self)
            for one in old.containers.values():
                keeping.update(one)
                one.declaration = self
            self.containers = old.containers
            if old.containers:
                self.cls = old.cls
        else:
            for one in old.containers.values():
                old._end(one)
            self._reload_modules()

    def _reload_modules(self) -> None:
        """Modules next to the notebook: a new container imports them anew."""
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None) or ""
            if os.path.dirname(path) == os.getcwd():
                with contextlib.suppress(Exception):
                    spec = module.__spec__
                    spec.loader.exec_module(module)  # type: ignore[union-attr]


def _codes(cls: type) -> set[int]:
    """The identities of the code objects of a class's functions."""
    bodies = (getattr(value, "__func__", value) for value in vars(cls).values())
    codes = (one.__code__ for one in bodies if isinstance(one, types.FunctionType))
    return {id(code) for code in codes if code.co_filename.startswith("<ipython-input")}


def _within(value: Any, cls: Any) -> bool:
    return any(value is one or value.__qualname__ == one.__qualname__ for one in cls.__mro__)


def _behind_hooks(declaration: Declaration) -> dict[str, Any]:
    """What made an instance: the code of its hooks, and the functions and data that they name."""
    from corpus import plain_lm

    cls, found = declaration.cls, dict[str, Any]()
    hooks = [*plain_lm.marked(cls, "enter"), *plain_lm.marked(cls, "build"), "__init__"]

    def follow(name: str, value: Any) -> None:
        if name in found:
            return
        if isinstance(value, types.FunctionType) and _is_ours(value):
            found[name] = _code(value.__code__)
            for inner in _names_in(value.__code__):
                if inner in declaration.declared:
                    follow(inner, declaration.declared[inner])
        elif _is_data(value) and (name,) in declaration.digests:
            found[name] = declaration.digests[name,]

    for hook in hooks:
        follow(f"{cls.__name__}.{hook}", getattr(cls, hook, None))
    return found


def _names_in(code: types.CodeType) -> set[str]:
    """Return the globals that a code object names, and those of the code within it."""
    own = {one.argval for one in dis.get_instructions(code) if "GLOBAL" in one.opname}
    inner = (one for one in code.co_consts if isinstance(one, types.CodeType))
    return own.union(*map(_names_in, inner))


# --- new code under old objects


class _Keeping:
    def __init__(self, old: Declaration, new: Declaration) -> None:
        self._old, self._new = old, new
        self._changed: set[Place] = set()
        self._seen: set[int] = set()

    def update(self, container: Container) -> None:
        self._changed = container.changed
        self._seen = set()
        names = {**self._new.declared}
        for name in names:
            if names[name] is self._new.cls:
                names[name] = self._new.cls
        view = container.view
        for name in [*view]:
            if name not in names and (name,) not in self._changed and name in self._old.declared:
                del view[name]
        for name, value in names.items():
            if name not in view:
                view[name] = value
            else:
                view[name] = self._merged((name,), view[name], value)
        container.changed = set(self._changed)

    def _merged(self, place: Place, old: Any, new: Any) -> Any:
        """What lies at a place from now on."""
        if old is new:
            return old
        if isinstance(old, types.FunctionType) and isinstance(new, types.FunctionType):
            return self._function(place, old, new)
        if isinstance(old, type) and isinstance(new, type) and _is_ours(old):
            return self._class(place, old, new)
        if not _is_data(new) or not _is_data(old):
            return new
        return self._data(place, old, new)

    def _data(self, place: Place, old: Any, new: Any) -> Any:
        same = self._old.digests.get(place) == self._new.digests.get(place)
        if same:
            return old
        if place in self._changed:
            raise NotTruthful(f"{'.'.join(place)} changed in the container and in the notebook")
        return new

    def _function(self, place: Place, old: Any, new: Any) -> Any:
        if id(old) in self._seen or not (_is_ours(old) or old.__closure__):
            return old
        self._seen.add(id(old))
        if old.__code__.co_freevars != new.__code__.co_freevars:
            return new
        defaults = (old.__defaults__, old.__kwdefaults__), (new.__defaults__, new.__kwdefaults__)
        old.__defaults__, old.__kwdefaults__ = self._data((*place, "defaults"), *defaults)
        old.__code__ = new.__code__
        old.__doc__, old.__annotations__ = new.__doc__, new.__annotations__
        self._attributes(place, old, new)
        names, closures = old.__code__.co_freevars, (old.__closure__ or (), new.__closure__ or ())
        cells = zip(names, *closures, strict=True)
        for name, mine, theirs in cells:
            with contextlib.suppress(ValueError):
                was, now = mine.cell_contents, theirs.cell_contents
                if isinstance(was, types.FunctionType) and isinstance(now, types.FunctionType):
                    mine.cell_contents = self._function((*place, name), was, now)
                elif _is_data(was) and _is_data(now):
                    mine.cell_contents = self._data((*place, "cell", name), was, now)
        return old

    def _attributes(self, place: Place, old: Any, new: Any) -> None:
        for name, value in list(vars(new).items()):
            was = vars(old).get(name, _ABSENT)
            if isinstance(was, types.FunctionType) and isinstance(value, types.FunctionType):
                value = self._function((*place, name), was, value)
            elif was is not _ABSENT and not name.startswith("__"):
                value = self._data((*place, "attributes", name), was, value)
            setattr(old, name, value)
        if "__plain_marks__" not in vars(new):
            vars(old).pop("__plain_marks__", None)

    def _class(self, place: Place, old: Any, new: Any) -> Any:
        if id(old) in self._seen:
            return old
        self._seen.add(id(old))
        for mine, theirs in zip(old.__mro__[1:], new.__mro__[1:], strict=False):
            if _is_ours(mine) and mine.__name__ == theirs.__name__:
                self._class((mine.__name__,), mine, theirs)
        skipped = ("__dict__", "__weakref__", "__slotnames__", "__doc__", "__module__", "__slots__")
        for name, value in list(vars(new).items()):
            if name in skipped or type(value).__name__ == "member_descriptor":
                continue
            was = vars(old).get(name, _ABSENT)
            here = (*place, name)
            if isinstance(was, types.FunctionType) and isinstance(value, types.FunctionType):
                value = self._function(here, was, value)
            elif was is not _ABSENT and _is_data(was) and _is_data(value):
                value = self._data(here, was, value)
            with contextlib.suppress(AttributeError, TypeError):
                setattr(old, name, _rebound(value, new, old))
        for name in list(vars(old)):
            gone = name not in vars(new) and name not in skipped and not name.startswith("__")
            if gone and (*place, name) not in self._changed:
                delattr(old, name)
        return old


def _rebound(value: Any, new: type, old: type) -> Any:
    """``value`` with ``super()`` in it meaning the old class."""
    inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    seen: set[int] = set()
    while isinstance(inner, types.FunctionType) and id(inner) not in seen:
        seen.add(id(inner))
        following: Any = None
        for cell in inner.__closure__ or ():
            with contextlib.suppress(ValueError):
                if cell.cell_contents is new:
                    cell.cell_contents = old
                elif isinstance(cell.cell_contents, types.FunctionType):
                    following = cell.cell_contents
        inner = following
    return value
