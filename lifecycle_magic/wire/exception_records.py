"""Exceptions as records of plain data, and the exceptions rebuilt from such records.

Exceptions that an exception refers to (causes, members of a group, attributes) have records of
their own and refer to each other by index, so that cycles and shared objects survive.
"""

from __future__ import annotations

import functools
import io
import pickle
import types
from collections.abc import Callable
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.wire.exceptions import (
    ExceptionState,
    Links,
    add_note,
    attributes,
    defines_reduce,
    is_exception,
    make_blank,
    members,
    message,
    name_of,
    truncate,
    type_name,
)
from lifecycle_magic.wire.messages import ExceptionRecord, TracebackEntry
from lifecycle_magic.wire.reading_values import despite_filters

__all__ = ["Rebuilder", "UnpickledValue", "record"]

MAX_EXCEPTIONS = 500
"""Maximum exceptions of one failure. A longer chain is cut there."""

MAX_STATE = 1 << 26
"""Maximum bytes of an exception's state. A larger attribute stays where the exception was
raised.
"""


class UnpickledValue:
    """Placeholder for a value that could not travel with its exception.

    Its repr is the value's repr.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class _StateTooLargeError(Exception):
    pass


class _Bounded(io.BytesIO):
    """A file that refuses more than `MAX_STATE` bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > MAX_STATE:
            raise _StateTooLargeError(f"it is larger than {MAX_STATE >> 20} MiB")
        return super().write(data)


def record(
    error: BaseException, lines: Callable[[types.TracebackType | None], tuple[TracebackEntry, ...]]
) -> tuple[ExceptionRecord, ...]:
    """Return the records of ``error``, which is the first, and of all exceptions that it refers to.

    ``lines`` returns the entries to show of a traceback.
    """
    recorder = _Recorder()
    recorder.index(error)
    found: list[ExceptionRecord] = []
    for one in recorder.errors:  # grows meanwhile
        found.append(recorder.record(one)._replace(lines=lines(Links.of(one).traceback)))
    return tuple(found)


class _Recorder:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._indices: dict[int, int] = {}

    def index(self, error: BaseException | None) -> int | None:
        """Return the index of the exception's record; None if there are too many."""
        if error is None:
            return None
        index = self._indices.get(id(error))
        if index is None and len(self.errors) < MAX_EXCEPTIONS:
            index = self._indices[id(error)] = len(self.errors)
            self.errors.append(error)
        return index

    def record(self, error: BaseException) -> ExceptionRecord:
        cls = type(error)
        links = Links.of(error)
        group = None
        parts = members(error)
        if parts is not None:
            inner = (self.index(one) for one in parts[1])
            group = str(parts[0]), tuple(i for i in inner if i is not None)
        own = None
        if defines_reduce(cls):
            try:
                own = self._pickle(error, root=error)
            except BaseException:
                own = b""
        state, lost = self._state(error)
        return ExceptionRecord(
            type_name=type_name(cls),
            text=message(error),
            cls=_pickled_class(cls),
            own=own,
            state=state,
            lost=lost,
            group=group,
            cause=self.index(links.cause),
            context=self.index(links.context),
            suppress_context=links.suppress_context,
        )

    def _state(self, error: BaseException) -> tuple[bytes | None, tuple[str, ...]]:
        """Return the pickled `ExceptionState`, and a description of each value that could not be
        part of it.
        """
        whole = ExceptionState.of(error)
        try:
            return self._pickle(whole), ()
        except BaseException:
            pass
        lost: list[str] = []

        def travels(what: str, value: Any) -> bool:
            try:
                self._pickle(value)
            except BaseException as why:
                kind = type_name(type(value))
                lost.append(f"{what}, a {kind}: {name_of(type(why))}: {message(why)[:200]}")
                return False
            return True

        rest = ExceptionState(
            tuple(
                value if travels(f"args[{index}]", value) else UnpickledValue(_shown(value))
                for index, value in enumerate(whole.args)
            ),
            {place: v for place, v in whole.fields.items() if travels(place[1], v)},
            {name: v for name, v in whole.attributes.items() if travels(str(name), v)},
        )
        try:
            return self._pickle(rest), tuple(lost)
        except BaseException:  # each value is small enough, but not all of them together
            shown = tuple(UnpickledValue(_shown(value)) for value in whole.args)
            return self._pickle(ExceptionState(shown, {}, {})), (*lost, "all of its attributes")

    def _pickle(self, value: Any, root: BaseException | None = None) -> bytes:
        def pickled() -> bytes:
            file = _Bounded()
            pickler = _indexing_pickler_class()(file)
            pickler.index, pickler.root = self.index, root
            pickler.dump(value)
            return file.getvalue()

        return despite_filters(pickled)


@functools.cache
def _indexing_pickler_class() -> Any:
    from lifecycle_magic.wire.by_value import ByValue  # imports cloudpickle

    class Pickler(ByValue):
        """One that writes the index of an exception instead of the exception."""

        def persistent_id(self, obj: Any) -> int | None:
            if obj is self.root or not is_exception(obj):
                return None
            index: int | None = self.index(obj)
            return index

    return Pickler


def _pickled_class(cls: type) -> bytes | str:
    """Return the pickled class, or why it can't be pickled."""
    from lifecycle_magic.wire.by_value import ByValue

    def pickled() -> bytes:
        file = _Bounded()
        ByValue(file).dump(cls)
        return file.getvalue()

    try:
        return despite_filters(pickled)
    except BaseException as error:
        return _reason(error)


def _shown(value: Any) -> str:
    try:
        return truncate(repr(value))
    except BaseException:
        return f"<{type_name(type(value))}>"


class Rebuilder:
    """The exceptions that ``records`` describe.

    ``stand_in`` creates a replacement for an exception that can't be rebuilt. Its arguments are the
    record, the class (None if the class does not exist here), and the reason.
    """

    def __init__(
        self,
        records: tuple[ExceptionRecord, ...],
        stand_in: Callable[[ExceptionRecord, type | None, str], BaseException],
    ) -> None:
        self._records = records
        self._stand_in = stand_in
        self._made: dict[int, BaseException] = {}
        self._classes: dict[int, type] = {}
        self._making: set[int] = set()
        self._filled: set[int] = set()

    def rebuild(self) -> list[BaseException]:
        """Return the exceptions in the order of their records, linked but without tracebacks."""
        for index in range(len(self._records)):
            self._make(index)
        for index in range(len(self._records)):
            self._fill(index)
        return [self._made[index] for index in range(len(self._records))]

    def _make(self, index: int) -> BaseException:
        if index in self._made:
            return self._made[index]
        if index in self._making:
            raise ValueError("the exception is built from itself")
        self._making.add(index)
        made = self._new(index)
        try:
            isinstance(made, UnpickledValue)  # as all code does that handles exceptions
        except BaseException as error:
            made = self._stand_in(self._records[index], None, _reason(error))
            self._classes.pop(index, None)
        self._made[index] = made
        return made

    def _new(self, index: int) -> BaseException:
        found = self._records[index]
        try:
            cls = self._class(found)
        except BaseException as error:
            return self._stand_in(found, None, _reason(error))
        self._classes[index] = cls
        try:
            if found.own is None:
                group = found.group and (found.group[0], [self._make(i) for i in found.group[1]])
                return make_blank(cls, group or None)
            if not found.own:
                return self._stand_in(found, cls, "its __reduce__ did not work there")
            made = self._load(found.own, self._complete)
            if not is_exception(made):
                raise TypeError(f"its __reduce__ made a {type_name(type(made))}")
            return made  # type: ignore[no-any-return]
        except BaseException as error:
            return self._stand_in(found, cls, _reason(error))

    def _class(self, found: ExceptionRecord) -> type:
        if not isinstance(found.cls, bytes):
            raise TypeError(f"its class can't be pickled: {found.cls or 'for an unknown reason'}")
        cls = pickle.loads(found.cls)
        if not is_class(cls) or not issubclass(cls, BaseException):
            raise TypeError("its class is not an exception class here")
        return cls

    def _complete(self, index: int) -> BaseException:
        made = self._make(index)
        self._fill(index)
        return made

    def _fill(self, index: int) -> None:
        if index in self._filled:
            return
        self._filled.add(index)
        found, error = self._records[index], self._made[index]
        if found.state is not None and index in self._classes:
            self._fill_state(found, error, self._classes[index])
        Links(
            None,
            self._link(found.cause),
            self._link(found.context),
            found.suppress_context,
        ).set_on(error)
        if found.lost:
            add_note(error, f"Not pickled, so it stayed in the container: {'; '.join(found.lost)}")

    def _fill_state(self, found: ExceptionRecord, error: BaseException, cls: type) -> None:
        assert found.state is not None
        try:
            state: ExceptionState = self._load(found.state, self._make)
            if found.own:  # it has what its __reduce__ kept; the rest was set later
                missing = {k: v for k, v in state.attributes.items() if k not in attributes(error)}
                attributes(error).update(missing)
            else:
                state.set_on(error, cls)
        except BaseException as why:
            if type(error) is cls and not found.own:
                ExceptionState((found.text,), {}, {}).set_on(error, cls)
            add_note(error, f"Its attributes can't be rebuilt here: {_reason(why)}")

    def _link(self, index: int | None) -> BaseException | None:
        return self._made.get(index) if index is not None else None

    def _load(self, data: bytes, refer: Callable[[int], BaseException]) -> Any:
        unpickler = _IndexedUnpickler(io.BytesIO(data))
        unpickler.refer = refer
        return unpickler.load()


class _IndexedUnpickler(pickle.Unpickler):
    refer: Callable[[int], BaseException]

    def persistent_load(self, index: Any) -> Any:
        return self.refer(index)


def _reason(error: BaseException) -> str:
    return f"{name_of(type(error))}: {message(error)}"
