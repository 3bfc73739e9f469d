"""The call object that ``.remote()`` of an ``async def`` method returns inside a running event
loop.

Most code expects the value there. Therefore every use of the call as if it were the value raises an
error that names the two ways to get the value, and a call that is dropped issues a warning.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from lifecycle_magic.callers.function_call import FunctionCall

__all__ = ["AsyncCall"]

_ALONE = "abs bool bytes ceil complex enter aenter float floor index int invert iter aiter len neg"
_ALONE += " next anext pos reversed round trunc call contains delitem getitem setitem format reduce"
_BOTH_SIDES = "add and divmod floordiv lshift matmul mod mul or pow rshift sub truediv xor"
_COMPARED = "eq ne lt le gt ge"


class AsyncCall(FunctionCall[Any]):
    """The call of an ``async def`` method. Write ``await`` before it, or `get` its value."""

    def __repr__(self) -> str:
        return f"<call of {self._where}: {self._state()}; to get its value, {self._fix()}>"

    def _fix(self) -> str:
        return f"write `await {self._where}.remote(...)` or `{self._where}.remote(...).get()`"

    def _refusal(self, did: str) -> str:
        return f"{did}: this is the call of {self._where}, not its value. Fix: {self._fix()}"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # a protocol's attribute: hasattr() asks for it
            raise AttributeError(name)
        raise AttributeError(self._refusal(f"no attribute {name!r}"))

    def __hash__(self) -> int:
        return id(self)

    def __del__(self) -> None:
        # Not while __init__ runs, and not at the interpreter's end, when it can't be awaited any
        # more.
        if self.__dict__.get("_wanted", True) or sys.is_finalizing():
            return
        if self.prompts is not None:
            self.prompts.close()
        warnings.warn(
            f"the call of {self._where} was never awaited, so its value and its errors are lost. "
            f"Fix: {self._fix()}",
            RuntimeWarning,
            stacklevel=2,
        )


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: AsyncCall, *given: Any) -> Any:
        raise TypeError(self._refusal(f"no {name}()"))

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def _comparing(name: str) -> Callable[..., Any]:
    """Return a comparison that compares two calls by identity, like any other objects."""
    refuse = _refusing(name)

    def compare(self: AsyncCall, other: object) -> Any:
        return NotImplemented if isinstance(other, FunctionCall) else refuse(self)

    compare.__name__ = compare.__qualname__ = name
    return compare


for _name in _ALONE.split():
    setattr(AsyncCall, f"__{_name}__", _refusing(f"__{_name}__"))
for _name in _BOTH_SIDES.split():
    for _side in ("", "r", "i"):
        setattr(AsyncCall, f"__{_side}{_name}__", _refusing(f"__{_side}{_name}__"))
for _name in _COMPARED.split():
    setattr(AsyncCall, f"__{_name}__", _comparing(f"__{_name}__"))
