"""Names of Modal's that are refused here, as objects.

A program may import such a name and write it in an annotation. Each use of it raises an
`InvalidError` that says what to write instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import NotHere

__all__ = ["RefusedName", "refused_name"]


class RefusedName(type):
    """The type of refused names: classes without instances, which nothing inherits from."""

    _message: str

    def _refuse(cls, *_: Any, **__: Any) -> NoReturn:
        raise InvalidError(cls._message)

    __call__ = __getitem__ = __setitem__ = __iter__ = __contains__ = _refuse
    __enter__ = __aenter__ = _refuse

    def __exit__(cls, *_: object) -> None: ...

    async def __aexit__(cls, *_: object) -> None: ...

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):  # asked for by Python and by tools
            raise AttributeError(f"{cls!r} has no attribute {name!r}")
        raise NotHere(cls._message)

    def __repr__(cls) -> str:
        return f"<{cls.__module__}.{cls.__name__}, which is refused>"


def refused_name(module: str, name: str, message: str) -> RefusedName:
    """Return what stands for ``name`` in ``module``: any use of it raises ``message``."""

    def refuse_subclass(cls: Any, /, **_: Any) -> NoReturn:
        raise InvalidError(message)

    own = {
        "__module__": module,
        "__doc__": message,
        "__init_subclass__": classmethod(refuse_subclass),
        "_message": message,
    }
    return RefusedName(name, (), own)
