"""The handle of an ``@app.function``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.callers.methods_with_aio import with_aio
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.decorators.travel import travel_function
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.methods import Method
from lifecycle_magic.handles.obj import Obj
from lifecycle_magic.modal_api.old_members import OLD_WAYS, OldMember, looks_up, old_way
from lifecycle_magic.modal_api.table import old_spelling, refuse, refuse_members
from lifecycle_magic.named.handle_transfer import reduce_by_name, to_another_session
from lifecycle_magic.named.handles import NamedFunction, named_function
from lifecycle_magic.spec.class_spec import CALL
from lifecycle_magic.spec.option_types import ModalOptionTypes, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["HANDLES", "Function"]

Self = TypeVar("Self")


class Function:
    """The handle of an ``@app.function``: a method without a class."""

    def __init__(self, cls: Cls, wrapped: Callable[..., Any]) -> None:
        self._cls = cls
        method: Method = cls().call
        for way in ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map"):
            setattr(self, way, getattr(method, way))
        self._method = method
        method.reduced = self.__reduce__
        self.__name__ = wrapped.__name__
        self.__qualname__ = wrapped.__qualname__
        self.__module__ = wrapped.__module__
        self.__doc__ = wrapped.__doc__

    @takes_options
    def with_options(self, **options: Unpack[ModalOptionTypes]) -> Function:
        """Return the same function with other options and containers of its own.

        >>> square.with_options(cpu=4, timeout=60).remote(2)  # doctest: +SKIP
        """
        return Function(self._cls.with_options(**options), self.local)

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Function:
        """Return the same function with ``@concurrent`` of these numbers.

        >>> square.with_concurrency(max_inputs=8).remote(2)  # doctest: +SKIP
        """
        changed = self._cls.with_concurrency(max_inputs=max_inputs, target_inputs=target_inputs)
        return Function(changed, self.local)

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function:
        """Return the same function with ``@batched`` of these numbers: it gets lists.

        >>> square.with_batching(max_batch_size=8, wait_ms=50).remote(2)  # doctest: +SKIP
        """
        changed = self._cls.with_batching(max_batch_size=max_batch_size, wait_ms=wait_ms)
        return Function(changed, self.local)

    @property
    def update_autoscaler(self) -> CallWithAio:
        """Change how many containers there are, until the function is declared again.

        >>> square.update_autoscaler(min_containers=1, max_containers=4)  # doctest: +SKIP
        """
        found: CallWithAio = self._cls().update_autoscaler
        return found

    def keep_warm(self, warm_pool_size: int) -> None:
        """Keep this many containers: the old form of `update_autoscaler`."""
        old_spelling("Function", "keep_warm")
        self.update_autoscaler(min_containers=warm_pool_size)

    lookup = OldMember(looks_up)

    @property
    def is_generator(self) -> bool:
        """Return whether the function yields its values."""
        return self._cls._spec.methods[CALL].is_generator

    @with_aio
    def hydrate(self, client: object = None) -> Function:
        """Return the function, which is declared already."""
        return self

    def get_raw_f(self) -> Callable[..., Any]:
        """Return the plain function, as ``local`` does."""
        return self.local

    @staticmethod
    def from_name(app_name: str, name: str, **unused: object) -> NamedFunction:
        """Return a handle of the function ``name`` of the app ``app_name``: see `Cls.from_name`.

        >>> Function.from_name("demo", "square").remote(3)  # doctest: +SKIP
        9
        """
        return named_function(app_name, name, **unused)

    @property
    def local(self) -> Callable[..., Any]:
        """The plain function, which runs in this process."""
        function: Callable[..., Any] = vars(self._cls._spec.cls)[CALL].__func__
        return function

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # not a property, as `inspect` would find it on the class too
            return self.local
        if name.startswith("__"):
            raise AttributeError(name)
        if name in OLD_WAYS:
            return old_way(self._method, name)
        refuse("Function", name)
        raise AttributeError(f"{self.__name__} is an @app.function and has no {name}")

    @property
    def web_url(self) -> str:
        """The address of a function that answers HTTP."""
        return self._method.web_url

    @property
    def get_web_url(self) -> CallWithAio:
        """Return `web_url`, as a call, as in Modal."""
        return self._method.get_web_url

    @property
    def get_current_stats(self) -> CallWithAio:
        """Return how many inputs wait, and how many containers there are."""
        return self._method.get_current_stats

    @property
    def web_token(self) -> str | None:
        """The bearer token that the address requires, or None."""
        return self._method.web_token

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__
        raise InvalidError(
            f"{name}(...) does not say where to run. "
            f"Fix: write {name}.remote(...) or {name}.local(...)"
        )

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if to_another_session.get():
            return reduce_by_name(self.__name__, self._cls._entry.publish_name(), True)
        return travel_function, (self.local, self._cls._entry.publish())

    def __repr__(self) -> str:
        return f"<lifecycle function {self.__name__}>"


HANDLES = frozenset({Cls, Obj, Function})
"""The types that stand for a class, an instance and a function."""


refuse_members(Function)
