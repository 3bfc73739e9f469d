"""The work of ``%%lifecycle_cls``: run the cell, find its classes, deploy each in containers.

A cell that fails changes nothing: its names keep their previous values, and running containers keep
their code. The exception is a class that the cell itself has called: it already runs, so it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from inspect import isabstract
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.hooks import CALL_FORMS
from lifecycle_magic.decorators.marks import has_marks, where_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import warning_filters
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.session.registry import Entry
from lifecycle_magic.spec.class_checks import hides_marks
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.query_arguments import takes_query
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.ui.notebook.drafts import PREFIX, Draft
from lifecycle_magic.wire.exceptions import add_note

if TYPE_CHECKING:
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.ui.notebook.card import Card
    from lifecycle_magic.ui.notebook.options_line import Request

__all__ = ["PREFIX", "deploy", "found_in", "run"]

_MISSING = object()

MakeCard = Callable[[ClassSpec, "Service"], "Card"]
Declare = Callable[..., Any]
"""The outermost decorator of each class statement at the cell's top level.

It is also called with the result of each call that the cell assigns, and with the assigned names.
"""


def run(
    execute: Callable[[Declare], None],
    namespace: MutableMapping[str, Any],
    request: Request,
    make_card: MakeCard,
) -> None:
    """Run a cell by ``execute``, then deploy the lifecycle classes that ``namespace`` got from it.

    Raises what the cell raises, or the error that keeps a class from starting.
    """
    cell = RunningCell(namespace, request, make_card)
    try:
        execute(cell.declare)
    except BaseException as error:
        cell.abandon(error)
        forgotten = _forgotten(error)
        if forgotten is not None:
            raise forgotten from None
        raise
    cell.finish()


class RunningCell:
    """A running cell: the previous values of its names, and the drafts of its classes."""

    def __init__(
        self, namespace: MutableMapping[str, Any], request: Request, make_card: MakeCard
    ) -> None:
        self._namespace = namespace
        self._before = dict(namespace)
        self._request = request
        self._make_card = make_card
        self._drafts: list[Draft] = []

    def declare(self, value: Any, *names: str) -> Any:
        """Return the handle of a lifecycle class with methods; return any other value unchanged.

        A class without methods, or an abstract class, may be the base of another class, so it
        stays a plain class for now.
        """
        if not is_class(value) or value.__module__ != self._namespace.get("__name__"):
            return value
        if not (has_marks(value) or hides_marks(value)):
            return value
        for draft in self._drafts:
            if draft.is_open and draft.cls is value:
                return draft.handle
        if isabstract(value) or not read_class(value, self._request.options).methods:
            return value
        return self._draft(value, names).handle

    def finish(self) -> None:
        """Deploy the classes that the cell defined and has not called yet."""
        for cls, names in found_in(self._before, self._namespace, self._classes()).items():
            self._bind(names, self._draft(cls, names).handle)
        if not self._drafts:
            raise InvalidError(_nothing(self._before, self._namespace))
        try:
            for draft in self._drafts:
                if not draft.is_open:
                    continue
                if draft.has_failed:  # the cell has seen the error
                    self._take_back(draft)
                elif self._names(draft):
                    draft.settle()
                else:
                    self._leave_behind(draft)
        except BaseException:
            for draft in self._drafts:
                self._take_back(draft)
            raise
        finally:
            warning_filters.take_note()

    def abandon(self, error: BaseException) -> None:
        """Restore the previous values of all names except those of classes that already run."""
        for names in found_in(self._before, self._namespace, self._classes()).values():
            self._restore(names)
        for draft in self._drafts:
            self._take_back(draft)
            if draft.card is not None:
                draft.card.add_note(
                    f"the cell raised {type(error).__name__} after it had called "
                    f"{draft.spec.name}, so the new {draft.spec.name} stays deployed"
                )

    # --- drafts ------------------------------------------------------------------------------

    def _draft(self, cls: type, names: Sequence[str]) -> Draft:
        def may_follow(entry: Entry) -> bool:
            """Return whether a factory was called again for the names that held its last result."""
            mine = any(draft.entry is entry for draft in self._drafts)
            return not mine and self._held_by(entry) <= set(names)

        draft = Draft(cls, self._request.options, self._deploy, may_follow, self._request.app)
        self._drafts.append(draft)
        return draft

    def _held_by(self, entry: Entry) -> set[str]:
        """Return the names that held the handle of an entry before this cell."""
        return {
            name
            for name, value in self._before.items()
            if isinstance(value, Cls) and value._entry.key == entry.key
        }

    def _deploy(self, draft: Draft) -> Card:
        """Deploy a draft and show a card.

        If it fails and its name had no running version, the class stays declared and the next call
        tries again.
        """
        spec, service = draft.spec, draft.entry.service()
        with self._make_card(spec, service) as card:
            try:
                deploy(service, spec, self._request, card)
            except BaseException as error:
                if service.version is not None and service.version.spec is not spec:
                    add_note(error, f"{spec.name} keeps the code that it had before this cell.")
                    raise
                if service.version is None:
                    service.declare(spec)
                draft.accept()
                raise
        draft.accept()
        return card

    def _leave_behind(self, draft: Draft) -> None:
        """Close the draft of a class whose name the cell deleted or gave to another class.

        The first call by a remaining handle declares the class, unless a later class of the cell
        has its name.
        """
        later = self._drafts[self._drafts.index(draft) + 1 :]
        if any(one.entry is draft.entry for one in later):
            draft.close()
            return
        spec = draft.spec
        draft.close()
        draft.entry.declare(spec)

    def _take_back(self, draft: Draft) -> None:
        if draft.is_open:
            self._restore(self._names(draft))
            draft.close()

    def _classes(self) -> list[type]:
        return [draft.cls for draft in self._drafts]

    # --- names -------------------------------------------------------------------------------

    def _names(self, draft: Draft) -> list[str]:
        return [name for name, value in self._namespace.items() if value is draft.handle]

    def _bind(self, names: list[str], handle: Cls) -> None:
        for name in names:
            self._namespace[name] = handle

    def _restore(self, names: list[str]) -> None:
        for name in names:
            if name in self._before:
                self._namespace[name] = self._before[name]
            else:
                self._namespace.pop(name, None)


def deploy(service: Service, spec: ClassSpec, request: Request, card: Card) -> None:
    """Deploy ``spec``, and start one container if its class needs no arguments."""
    if request.lazy:
        service.declare(spec)
        card.report_lazy()
        return
    old = service.version.spec if service.version is not None else None
    card.report_deployed(
        service.deploy(spec, fresh=request.fresh, rebuild=request.rebuild), old, request
    )
    try:
        spec.arguments((), {})
    except InvalidError:
        card.report_arguments_needed()
        if not takes_query(spec):
            return
    else:
        service.open_pool((), {}).warm()
    try:
        card.report_addresses(service.serving.open_all(spec))
    except InvalidError as error:  # for example, no web server is installed
        card.report_unserved(error)


def found_in(
    before: Mapping[str, Any], after: Mapping[str, Any], classes: list[type] | None = None
) -> dict[type, list[str]]:
    """Return the lifecycle classes that are still plain classes after a cell, with their names.

    A class without methods, or an abstract class, that is a base of one of these classes or of
    ``classes`` is left out: it stays a plain class.
    """
    found: dict[type, list[str]] = {}
    for name, value in after.items():
        if before.get(name, _MISSING) is value or not is_class(value):
            continue
        if value.__module__ == after.get("__name__") and has_marks(value):
            found.setdefault(value, []).append(name)
    bases = {base for cls in (*found, *(classes or ())) for base in cls.__mro__[1:]}
    return {cls: names for cls, names in found.items() if cls not in bases or _can_serve(cls)}


def _can_serve(cls: type) -> bool:
    return not isabstract(cls) and bool(read_class(cls).methods)


def _forgotten(error: BaseException) -> InvalidError | None:
    """Return the error for ``K().f.remote`` on a class without ``@method``, or None."""
    if not isinstance(error, AttributeError) or error.name not in CALL_FORMS:
        return None
    function = error.obj
    if not isinstance(function, (FunctionType, MethodType)):
        return None
    where = where_of(function)
    refusal = InvalidError(
        f"{where}.{error.name}: {where} is a plain method. "
        f"Fix: add @lm.method() above def {function.__name__}"
    )
    return refusal.with_traceback(error.__traceback__)


def _nothing(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the message for a cell without a lifecycle class: what it defines, and the fix."""
    new = {n: v for n, v in after.items() if before.get(n, _MISSING) is not v}
    handles = [name for name, value in new.items() if isinstance(value, Cls)]
    if handles:
        return (
            f"%%lifecycle_cls: {handles[0]} has @app.cls already, which makes it a lifecycle class "
            "with its own options. Fix: remove %%lifecycle_cls, or remove @app.cls"
        )
    plain = [
        name
        for name, value in new.items()
        if is_class(value) and value.__module__ == after.get("__name__")
    ]
    if plain:
        return (
            f"%%lifecycle_cls: class {plain[0]} has no lifecycle decorator, so there is nothing "
            "to run. Fix: put @lm.method() above each method to call, and @lm.enter() above the "
            "method that runs when the container starts"
        )
    return (
        "%%lifecycle_cls: the cell defines no class. Fix: write a class with @lm.method() above a "
        "method, or remove %%lifecycle_cls"
    )
