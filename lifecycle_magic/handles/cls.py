"""The handle of a class, which replaces the class in its namespace.

It stands for the newest declaration of its name. In the container of its class it arrives as that
class, in another container as a handle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.callers.with_aio import with_thread
from lifecycle_magic.decorators.hooks import batch_marks, concurrent_marks
from lifecycle_magic.decorators.http_server import ADDRESS_FORMS, SERVE
from lifecycle_magic.decorators.travel import travel_class
from lifecycle_magic.handles.attributes import on_class
from lifecycle_magic.handles.obj import Obj, short_repr
from lifecycle_magic.handles.registry_entry import RegistryEntry
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import old_spelling, refuse, refuse_members
from lifecycle_magic.named.handle_transfer import reduce_by_name, to_another_session
from lifecycle_magic.named.handles import named_class
from lifecycle_magic.spec.class_spec import RESERVED, ClassSpec
from lifecycle_magic.spec.input_changes import InputChanges
from lifecycle_magic.spec.option_types import ModalOptionTypes, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Cls"]

Self = TypeVar("Self")


class _FromName:
    """`Cls.from_name`. On a handle it is the class's own attribute of this name, if it has one."""

    def __get__(self, handle: Cls | None, owner: type[Cls]) -> Any:
        if handle is not None and hasattr(handle._spec.cls, "from_name"):
            return on_class(handle._spec, "from_name", handle)
        return named_class


class Cls:
    """The handle of a lifecycle class. It has the class's attributes, and makes `Obj` instances."""

    def __init__(self, entry: RegistryEntry) -> None:
        cls = entry.spec.cls
        set_own = object.__setattr__  # __setattr__ changes the class
        set_own(self, "_entry", entry)
        set_own(self, "__name__", cls.__name__)
        set_own(self, "__qualname__", cls.__qualname__)
        set_own(self, "__module__", cls.__module__)
        set_own(self, "__doc__", cls.__doc__)
        entry.hold(self)

    @property
    def _spec(self) -> ClassSpec:
        spec: ClassSpec = self._entry.spec
        return spec

    def __call__(self, *args: Any, **kwargs: Any) -> Obj:
        """Return an instance. Wrong constructor arguments raise `InvalidError` at once."""
        self._spec.arguments(args, kwargs)
        return Obj(self, args, kwargs)

    @takes_options
    def with_options(self, **options: Unpack[ModalOptionTypes]) -> Cls:
        """Return the same class with other options and containers of its own.

        >>> Model.with_options(cpu=4, timeout=60)().predict.remote(x)  # doctest: +SKIP
        """
        return Cls(self._entry.variant(dict(options)))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls:
        """Return the same class with ``@concurrent`` of these numbers, and containers of its own.

        >>> Model.with_concurrency(max_inputs=8)().predict.remote(x)  # doctest: +SKIP
        """
        marks = concurrent_marks("with_concurrency", max_inputs, target_inputs)
        return Cls(self._entry.variant({}, InputChanges(concurrent=marks)))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls:
        """Return the same class with ``@batched`` of these numbers, and containers of its own.

        It counts for the methods with ``@batched``; without any, for the class's only method, which
        then gets lists. Raises `InvalidError` if there is no such method.

        >>> Model.with_batching(max_batch_size=8, wait_ms=50)().predict.remote(x)  # doctest: +SKIP
        """
        marks = batch_marks("with_batching", max_batch_size, wait_ms)
        return Cls(self._entry.variant({}, InputChanges(batched=marks)))

    from_name = _FromName()
    lookup = OldMember(looks_up)

    # --- as a class ------------------------------------------------------------------------

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._spec.cls,)  # a class may inherit from a decorated one

    def __instancecheck__(self, instance: Any) -> bool:
        if isinstance(instance, Obj):
            return bool(self._entry.has_made(instance._cls._spec.cls))
        return bool(self._entry.has_made(instance.__class__))

    def __subclasscheck__(self, cls: Any) -> bool:
        plain = cls._spec.cls if isinstance(cls, Cls) else cls
        return issubclass(plain, self._spec.cls) or bool(self._entry.has_made(plain))

    def __or__(self, other: Any) -> Any:
        return self._spec.cls | (other._spec.cls if isinstance(other, Cls) else other)

    def __ror__(self, other: Any) -> Any:
        return other | self._spec.cls

    def __getitem__(self, item: Any) -> Any:
        return self._spec.cls[item]  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cls):
            return NotImplemented
        return bool(self._entry.key == other._entry.key)

    def __hash__(self) -> int:
        return hash(self._entry.key)

    def __getattr__(self, name: str) -> Any:
        if (
            name in ADDRESS_FORMS
            and SERVE in self._spec.methods
            and not hasattr(self._spec.cls, name)
        ):
            shape = ADDRESS_FORMS[name]
            return with_thread(lambda: shape(getattr(self(), SERVE).web_url))
        try:
            return on_class(self._spec, name, self)
        except AttributeError:
            if name == "hydrate":
                return with_thread(self._hydrate)
            if name == "remote":
                return self._remote
            refuse("Cls", name)
            raise

    def _hydrate(self, client: object = None) -> Cls:
        return self

    def _remote(self, *args: Any, **kwargs: Any) -> Obj:
        old_spelling("Cls", "remote")
        return self(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        statement = f"{self.__name__}.{name} = {short_repr(value)}"
        self._entry.change(lambda cls: setattr(cls, name, value), statement)

    def __delattr__(self, name: str) -> None:
        self._entry.change(lambda cls: delattr(cls, name), f"del {self.__name__}.{name}")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        """The class's own attributes, for a decorator that is called on the handle."""
        return self._spec.cls.__dict__

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._spec.cls), *RESERVED})

    # --- as a value ------------------------------------------------------------------------

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if to_another_session.get():
            return reduce_by_name(self.__name__, self._entry.publish_name(), False)
        return travel_class, (self._spec.cls, self._entry.publish())

    def __repr__(self) -> str:
        return f"<lifecycle class {self._spec.name}: {', '.join(self._spec.methods)}>"


refuse_members(Cls)
