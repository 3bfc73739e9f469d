"""The ways to call a method of a class that another session serves."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.guest.foreign_calls import ForeignCalls, MethodKind
from lifecycle_magic.guest.session_answers import Wait, value_of
from lifecycle_magic.guest.session_connection import CallTarget, SessionConnection, SessionLeft
from lifecycle_magic.named.description import Description, MethodFacts
from lifecycle_magic.named.reach import Name, forget, reach
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import DESCRIBE

__all__ = ["NamedCalls", "describe"]


def describe(name: Name) -> tuple[SessionConnection, str, Description]:
    """Return where ``name`` is called, its key there, and what it is now.

    A session is asked once for each declaration. Raises `NotFoundError` if no session serves it.
    """
    while True:
        used, key = reach(name)
        known: Description | None = used.descriptions.get(key)
        if known is not None:
            return used, key, known
        changes = used.changes
        try:
            found = _ask(used, key, name)
        except SessionLeft:
            continue
        used.descriptions[key] = found
        if used.changes != changes:  # a class was declared again before it was kept
            used.descriptions.pop(key, None)
        return used, key, found


def _ask(used: SessionConnection, key: str, name: Name) -> Description:
    waiting = Wait()
    target = CallTarget(key, b"", "", str(name))
    number = used.ask(target, DESCRIBE, (), {}, waiting.receive)
    try:
        answer = waiting.wait()
    except BaseException:
        used.send(Kind.ABANDON, number)
        raise
    assert answer is not None
    if answer.lost:
        raise NotFoundError(f"{name}: {answer.lost}")
    try:
        found: Description = value_of(answer, str(name))
    except NotFoundError:
        forget(name)
        raise
    return found


class NamedCalls(ForeignCalls):
    """The ways to call one method of ``name``. ``arguments`` are those of the constructor, pickled.

    ``is_function`` says what the caller takes ``name`` for.
    """

    def __init__(
        self, name: Name, method: str, arguments: bytes, where: str, is_function: bool
    ) -> None:
        super().__init__(self._find, where, self._find_kind)
        self._name = name
        self._method = method
        self._arguments = arguments
        self._is_function = is_function
        self._found: tuple[SessionConnection, CallTarget, Description] | None = None

    def _find(self) -> tuple[SessionConnection, CallTarget]:
        known = self._found
        if known is not None:
            used, target, found = known
            # A session that declares a class again makes its callers drop the descriptions.
            is_open = not used.is_closed and not used.is_left
            if is_open and used.descriptions.get(target.key) is found:
                return used, target
        used, key, found = describe(self._name)
        check_sort(self._name, found, self._is_function)
        target = CallTarget(key, self._arguments, self._method, self._where)
        self._found = used, target, found
        return used, target

    def facts(self) -> MethodFacts:
        """Return what the method is now. Raises `InvalidError` if there is none of its name."""
        found = describe(self._name)[2]
        check_sort(self._name, found, self._is_function)
        facts = found.method(self._method)
        if facts is None:
            names = ", ".join(one.name for one in found.methods) or "none"
            raise InvalidError(
                f"{found.name} has no method {self._method}; it has {names}. Fix: call one of these"
            )
        return facts

    def _find_kind(self) -> MethodKind:
        facts = self.facts()
        return MethodKind(facts.is_async, facts.is_generator)

    def _warn_blocking(self) -> None:
        if not is_local():
            super()._warn_blocking()


def check_sort(name: Name, found: Description, is_function: bool) -> None:
    """Raise `InvalidError` if a class was looked up as a function, or the other way round."""
    if found.is_function == is_function:
        return
    sort, right = ("function", "Function") if found.is_function else ("class", "Cls")
    raise InvalidError(
        f"{name} is a {sort}. Fix: write lm.{right}.from_name({name.app!r}, {name.name!r})"
    )


def pickled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the arguments of a constructor as one pickle."""
    from lifecycle_magic.wire.pickling import dumps, dumps_by_value

    given, buffers = dumps((args, kwargs))
    return given if not buffers else dumps_by_value((args, kwargs))
