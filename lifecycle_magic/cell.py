"""What ``%%lifecycle_cls`` does with a cell: run it, find its classes, put each into containers.

A cell that fails changes nothing: its class names then hold what they held before, and what runs
keeps running the code it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.marks import has_marks
from lifecycle_magic.spec import ClassSpec, read_class

if TYPE_CHECKING:
    from lifecycle_magic.arguments import Request
    from lifecycle_magic.card import Card
    from lifecycle_magic.services.service import Service

__all__ = ["PREFIX", "deploy", "found_in", "run"]

PREFIX = "cell/"
"""Services of cells are under this name in the session; those of an app under the app's."""

_MISSING = object()

MakeCard = Callable[[ClassSpec, "Service"], "Card"]


def run(
    execute: Callable[[], None],
    namespace: MutableMapping[str, Any],
    request: Request,
    make_card: MakeCard,
) -> None:
    """Run a cell by ``execute`` and replace its lifecycle classes in ``namespace`` by handles.

    Raises what the cell raised, or why a class does not come up.
    """
    from lifecycle_magic.remote import Cls
    from lifecycle_magic.session import Lookup

    before = dict(namespace)
    names: dict[type, list[str]] = {}
    try:
        execute()
    finally:
        # Whatever comes of them: no plain class takes the place of a handle.
        names = found_in(before, namespace)
        _restore([name for group in names.values() for name in group], before, namespace)
    specs = [read_class(cls, request.options) for cls in names]
    if not specs:
        raise InvalidError(_nothing(before, namespace))
    for spec in specs:
        lookup = Lookup(PREFIX + spec.name, spec)
        service, handle = lookup(), Cls(spec, lookup)
        with make_card(spec, service) as card:
            try:
                deploy(service, spec, request, card)
            except BaseException as error:
                if service.version is not None and service.version.spec is not spec:
                    _note(error, f"{spec.name} keeps the code that it had before this cell.")
                    raise  # under the former handle
                if service.version is None:
                    service.declare(spec)  # nothing to keep: the next call tries again
                _bind(names[spec.cls], handle, namespace)
                raise
        _bind(names[spec.cls], handle, namespace)


def deploy(service: Service, spec: ClassSpec, request: Request, card: Card) -> None:
    """Make ``spec`` what runs, with one warm container if it can be made without arguments."""
    if request.lazy:
        service.declare(spec)
        card.declared()
        return
    old = service.version.spec if service.version is not None else None
    card.did(service.deploy(spec, fresh=request.fresh, rebuild=request.rebuild), old, request)
    try:
        spec.arguments((), {})
    except InvalidError:
        card.needs_arguments()
        return
    service.pool((), {}).warm()
    try:
        card.serves(service.serving.open_all(spec))
    except InvalidError as error:  # no server is installed, say
        card.cannot_serve(error)


def found_in(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[type, list[str]]:
    """The lifecycle classes that a cell defined, each with the names it is bound to.

    A class without methods from which another one of the cell derives is only that one's base,
    and stays a plain class.
    """
    found: dict[type, list[str]] = {}
    for name, value in after.items():
        if before.get(name, _MISSING) is value or not isinstance(value, type):
            continue
        if value.__module__ == after.get("__name__") and has_marks(value):
            found.setdefault(value, []).append(name)
    bases = {base for cls in found for base in cls.__mro__[1:]}
    return {cls: names for cls, names in found.items() if cls not in bases or _has_methods(cls)}


def _has_methods(cls: type) -> bool:
    return bool(read_class(cls).methods)


def _note(error: BaseException, text: str) -> None:
    """`BaseException.add_note`, which Python 3.10 does not have."""
    error.__notes__ = [*getattr(error, "__notes__", ()), text]  # type: ignore[attr-defined]


def _restore(
    names: list[str], before: Mapping[str, Any], namespace: MutableMapping[str, Any]
) -> None:
    for name in names:
        if name in before:
            namespace[name] = before[name]
        else:
            namespace.pop(name, None)


def _bind(names: list[str], handle: Any, namespace: MutableMapping[str, Any]) -> None:
    for name in names:
        namespace[name] = handle


def _nothing(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Why there is nothing to run: which classes the cell has, and what they lack."""
    from lifecycle_magic.remote import Cls

    new = {n: v for n, v in after.items() if before.get(n, _MISSING) is not v}
    handles = [name for name, value in new.items() if isinstance(value, Cls)]
    if handles:
        return (
            f"%%lifecycle_cls: {handles[0]} has @app.cls already, which makes it a lifecycle class "
            "with options of its own: remove %%lifecycle_cls, or remove @app.cls"
        )
    plain = [
        name
        for name, value in new.items()
        if isinstance(value, type) and value.__module__ == after.get("__name__")
    ]
    if plain:
        return (
            f"%%lifecycle_cls: class {plain[0]} has no lifecycle decorator, so there is nothing "
            "to run: put @lm.method() above a method that is to be called, and @lm.enter() above "
            "one that is to run when the container starts"
        )
    return (
        "%%lifecycle_cls: the cell defines no class: write one with @lm.method() above a method, "
        "or run the cell without %%lifecycle_cls"
    )
