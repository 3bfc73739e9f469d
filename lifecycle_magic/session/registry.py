"""The registry of names: for each app and name, the newest declaration and the service that runs
it.

A handle keeps an `Entry` and no class, so every handle of a name runs the newest declaration,
regardless of its own age. `claim` gives a new declaration its entry. If the same code object makes
several classes or functions under one name (a factory), each gets an entry of its own.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import CodeType, FrameType, FunctionType
from typing import Any

from lifecycle_magic.callers import function_call
from lifecycle_magic.decorators import travel
from lifecycle_magic.decorators.classes import unwrapped
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.registry_entry import RegistryEntry
from lifecycle_magic.services.service import Service
from lifecycle_magic.session import session as sessions
from lifecycle_magic.session.served_calls import named, publish, published
from lifecycle_magic.spec.class_spec import CALL, ClassSpec
from lifecycle_magic.spec.input_changes import NO_CHANGES, InputChanges

__all__ = ["Entry", "Variant", "claim"]

_OPTIMIZED = 0x01  # the flag of a function's code object; a module's and a class body's lack it


class Entry:
    """The newest declaration under ``key``, and its service in the current session."""

    def __init__(self, key: str, spec: ClassSpec) -> None:
        self.key = key
        self.spec = spec
        self.newest = _Source.of(spec)  # of the last claim, whether it is deployed or not
        self._classes: weakref.WeakSet[type] = weakref.WeakSet()
        self._handles: list[weakref.ref[Cls]] = []
        self.public_name = ""  # see `set_public_name`
        self.follow(spec)

    def service(self) -> Service:
        """Return the service. Create it with the newest declaration if there is none yet."""
        return _service(self.key, self.spec)

    def settle(self) -> None:
        """Do nothing: this declaration is final."""

    def follow(self, spec: ClassSpec) -> None:
        """Make every handle of this name stand for ``spec``, which its service runs already."""
        self.spec = spec
        self._classes.add(spec.cls)
        sessions.note_volumes(self.key, spec.volume_names(), spec.options.engine)
        session = sessions.opened()
        if session is not None:
            session.served_calls.notify_changed()
        variants = session.services.items() if session is not None else ()
        for key, service in list(variants):
            if key.startswith(f"{self.key}?"):
                service.mark_stale()

    def declare(self, spec: ClassSpec) -> None:
        """Make every handle of this name stand for ``spec``, which the next call deploys."""
        self.follow(spec)
        session = sessions.opened()
        if session is not None and self.key in session.services:
            session.services[self.key].declare(spec)

    def variant(self, options: dict[str, Any], changes: InputChanges = NO_CHANGES) -> Variant:
        """Return the entry of the class with other options, or other marks of its methods."""
        return Variant(self, options, changes)

    def change(self, change: Callable[[type], None], statement: str) -> None:
        """Raise `InvalidError`: containers have the class as it was declared."""
        name = self.spec.name
        raise InvalidError(
            f"{statement}: {name} is a handle, and its containers have the class as it was "
            f"declared. Fix: write it in the class, or assign it in the cell of {name} before its "
            "first call"
        )

    def has_made(self, cls: type) -> bool:
        """Return whether ``cls`` is, or derives from, a class declared under this name."""
        return any(issubclass(cls, one) for one in self._classes)

    def hold(self, handle: Cls) -> None:
        """Remember a handle of this name while it exists."""
        self._handles = [*filter(lambda one: one() is not None, self._handles), weakref.ref(handle)]

    def publish(self) -> str:
        """Let containers call the class by its key, and return the key."""
        return publish(self.key, self)

    def set_public_name(self, name: str) -> None:
        """Let other sessions call the class by this name, ``app/name``; by none if it is empty."""
        before = self.public_name
        if before and before != name and named.get(before) is self:
            sessions.name_class(before, None)
        self.public_name = name
        sessions.name_class(name, self)

    def publish_name(self) -> str:
        """Let other sessions call the class, and return its name there, as ``app/name``."""
        if self.public_name:
            sessions.current()
        return self.public_name

    @property
    def is_held(self) -> bool:
        """Return whether a handle of this name exists."""
        return any(one() is not None for one in self._handles)


class Variant:
    """A class with other options, which has containers of its own and follows its class.

    ``changes`` replace the marks of its methods.
    """

    def __init__(
        self, of: RegistryEntry, options: dict[str, Any], changes: InputChanges = NO_CHANGES
    ) -> None:
        self._of = of
        self._options = options
        self._changes = changes
        self._made: tuple[ClassSpec, ClassSpec] | None = None
        marks = of.key.partition("?")[2].partition("&")[2]
        labels = "&".join(filter(None, [marks, changes.label()]))
        self.key = f"{of.key.partition('?')[0]}?{self.spec.options.identity()}"
        if labels:
            self.key += f"&{labels}"

    def publish_name(self) -> str:
        """Return nothing: other sessions call the class with the options of its declaration."""
        return ""

    @property
    def spec(self) -> ClassSpec:
        """Return the newest declaration of the class, with the options of this variant."""
        base = self._of.spec
        if self._made is None or self._made[0] is not base:
            options = base.options.replace(base.name, **self._options)
            made = dataclasses.replace(base, options=options)
            made.check_single_use()
            made.check_keep()
            self._made = base, self._changes.apply(made)
        return self._made[1]

    def service(self) -> Service:
        """Return the variant's service, which has the newest declaration."""
        self.settle()
        service = _service(self.key, self.spec)
        if service.declared is not self.spec.cls:
            service.declare(self.spec)
        return service

    def settle(self) -> None:
        """Make the declaration of the class final."""
        self._of.settle()

    def variant(self, options: dict[str, Any], changes: InputChanges = NO_CHANGES) -> Variant:
        """Return the entry of this variant with further options or marks."""
        return Variant(self, options, changes)

    def change(self, change: Callable[[type], None], statement: str) -> None:
        """Change the class, if its declaration is open."""
        self._of.change(change, statement)

    def has_made(self, cls: type) -> bool:
        """Return whether ``cls`` is, or derives from, a class declared under this name."""
        return self._of.has_made(cls)

    def hold(self, handle: Cls) -> None:
        """Remember a handle of this variant while it exists."""
        self._of.hold(handle)

    def publish(self) -> str:
        """Let containers call the class by its key, and return the key."""
        return publish(self.key, self)


def _handle(key: str) -> Cls | None:
    """Return a handle of the class that was published under ``key`` in this process."""
    found = published.get(key)
    return Cls(found) if found is not None else None


travel.find_handles_by(_handle)


def _keep_call(future: Future[Any], where: str, number: int) -> str:
    return sessions.current().served_calls.kept_calls.add(future, where, number=number)


function_call._keep = _keep_call


def _service(key: str, spec: ClassSpec) -> Service:
    session = sessions.current()
    service = session.services.get(key)
    if service is None:
        app = key.rpartition("/")[0]
        made = Service(session, spec.name, "" if app == "cell" else app, key)
        made.declare(spec)
        service = session.services.setdefault(key, made)
    return service


# -- a name for each declaration ----------------------------------------------------------------

_entries: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
_lock = threading.RLock()


def claim(
    key: str, spec: ClassSpec, may_follow: Callable[[Entry], bool] = lambda entry: False
) -> Entry:
    """Return the entry for a new declaration under ``key``.

    Usually it is the entry of the former declaration, whose handles then follow the new one. Only
    if one piece of code made both, by running twice, the new declaration gets another entry. It
    does not if ``may_follow`` allows it, if no handle of the former one exists, or if both are
    alike.
    """
    source = _Source.of(spec)
    with _lock:
        number, own = 1, key
        entry = _entries.get(own)
        while entry is not None and not (
            not entry.newest.made_twice(source)
            or may_follow(entry)
            or not _is_held(entry)
            or _are_alike(entry.newest.spec, spec)
        ):
            number, own = number + 1, f"{key}#{number + 1}"
            entry = _entries.get(own)
        if entry is None:
            entry = _entries[own] = Entry(own, spec)
        entry.newest = source
    if number > 1:
        name = f"{spec.name}-{{n}}"
        warnings.warn(
            f"the same code declared the name {spec.name} several times; each declaration keeps "
            f"its own code. Fix: give each one its own name, as in "
            f'@app.{_kind(spec)}(name=f"{name}")',
            stacklevel=_depth_of_user(),
        )
    return entry


def _are_alike(one: ClassSpec, other: ClassSpec) -> bool:
    """Return whether two declarations run the same code with the same values."""
    # On copies, because a declaration's own keys are only computed when it is deployed.
    one, other = dataclasses.replace(one), dataclasses.replace(other)
    if one.unreadable or other.unreadable:
        return False
    return one.state_key == other.state_key and one.code_key == other.code_key


def _is_held(entry: Entry) -> bool:
    """Return whether a handle exists that must keep its code. Handles are part of reference
    cycles.
    """
    if entry.is_held:
        gc.collect()
    return entry.is_held


def _kind(spec: ClassSpec) -> str:
    return "function" if spec.is_function else "cls"


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
    """The code that made a class: that of its functions, or without functions its place in the
    code.
    """

    spec: ClassSpec
    made: object  # the class, or the function of an ``@app.function``
    functions: frozenset[int]  # ids of code objects, which ``made`` keeps alive
    maker: CodeType | None
    line: int

    @classmethod
    def of(cls, spec: ClassSpec) -> _Source:
        """Return the source of a class. Call it while the declaration is on the stack."""
        maker, line = _maker(spec.cls)
        made = vars(spec.cls)[CALL].__func__ if spec.is_function else spec.cls
        return cls(spec, made, frozenset(map(id, _codes(spec.cls))), maker, line)

    def made_twice(self, other: _Source) -> bool:
        """Return whether the same code made this class and then the ``other`` one."""
        if self.made is other.made:
            return False  # one class, declared again with other options
        if self.functions or other.functions:
            return self.functions == other.functions
        return self.maker is not None and (self.maker is other.maker and self.line == other.line)


def _codes(cls: type) -> Iterator[CodeType]:
    """Yield the code of the functions that are written in the class itself, without wrappers."""
    for value in vars(cls).values():
        function = unwrapped(value, _is_handle)
        if isinstance(function, FunctionType) and _is_in(function, cls):
            yield function.__code__


def _is_handle(value: Any) -> bool:
    return isinstance(value, Cls)


def _is_in(function: FunctionType, cls: type) -> bool:
    """Return whether a function is written in the body of a class, by the user."""
    home = function.__globals__.get("__name__")
    return home == cls.__module__ and function.__qualname__.startswith(cls.__qualname__)


def _maker(cls: type) -> tuple[CodeType | None, int]:
    """Return the running code that has the statement of ``cls``, and the line in it."""
    enclosing, _, _ = cls.__qualname__.rpartition(".<locals>.")
    name = enclosing.rpartition(".")[2]
    for frame in _frames():
        code = frame.f_code
        if frame.f_globals.get("__name__") == cls.__module__ and (
            code.co_name == name if name else not code.co_flags & _OPTIMIZED
        ):
            return code, frame.f_lineno
    return None, 0


def _depth_of_user() -> int:
    """Return the stack level of the first frame outside of this package, for a warning."""
    for depth, frame in enumerate(_frames()):
        if not str(frame.f_globals.get("__name__")).startswith("lifecycle_magic"):
            return depth  # the caller of this function is level 1
    return 1


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
