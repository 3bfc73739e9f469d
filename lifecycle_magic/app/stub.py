"""`Stub`, which was the name of `App` in Modal before 0.63, with what only it had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_magic.app.app import App
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import old_spelling, refuse_members
from lifecycle_magic.spec.options import Options

__all__ = ["Stub"]

_KINDS = ("Dict", "Image", "NamedFunction", "NamedClass", "Queue", "Secret", "Volume")


class Stub(App):
    """An `App` under its old name, which keeps objects: ``stub.jobs = Queue.new()``.

    They are attributes, ``stub.jobs``, and items, ``stub["jobs"]``.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        old_spelling("modal", "Stub")
        kept = {
            one: value
            for one, value in options.items()
            if type(value).__name__ in _KINDS and one not in Options.__dataclass_fields__
        }
        super().__init__(name, **{one: value for one, value in options.items() if one not in kept})
        for one, value in kept.items():
            self[one] = value

    def __getitem__(self, name: str) -> Any:
        if name == "image" or name in vars(self):
            return getattr(self, name)
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "image" and hasattr(type(self), name):
            raise InvalidError(
                f"stub[{name!r}]: a stub has a {name} of its own. Fix: keep it in a variable"
            )
        setattr(self, name, value)

    def webhook(
        self,
        _function: Any = None,
        /,
        *,
        method: str = "GET",
        label: str | None = None,
        **options: Any,
    ) -> Any:
        """Do what `function` above `fastapi_endpoint` does."""
        from lifecycle_magic.decorators.endpoints import fastapi_endpoint

        old_spelling("Stub", "webhook")
        mark = fastapi_endpoint(method=method, label=label)
        return self._above(mark, _function, options)

    def asgi(self, _function: Any = None, /, *, label: str | None = None, **options: Any) -> Any:
        """Do what `function` above `asgi_app` does."""
        from lifecycle_magic.decorators.endpoints import asgi_app

        old_spelling("Stub", "asgi")
        return self._above(asgi_app(label=label), _function, options)

    def wsgi(self, _function: Any = None, /, *, label: str | None = None, **options: Any) -> Any:
        """Do what `function` above `wsgi_app` does."""
        from lifecycle_magic.decorators.endpoints import wsgi_app

        old_spelling("Stub", "wsgi")
        return self._above(wsgi_app(label=label), _function, options)

    def _above(self, mark: Callable[[Any], Any], given: Any, options: dict[str, Any]) -> Any:
        def decorate(function: Any) -> Any:
            return self.function(**options)(mark(function))

        return decorate if given is None else decorate(given)


refuse_members(Stub)
