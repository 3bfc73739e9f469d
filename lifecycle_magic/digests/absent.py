"""``with image.imports():`` imports what the image has and this kernel may not have.

A module that is not here is stood in for by an `Absent`: a name that can be referred to, and that
becomes the real thing where it arrives. Using it here raises `ModuleNotFoundError`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["Absent", "standing_in"]


class Absent(ModuleType):
    """Stands for a module, or for what is found in one under dotted ``names``."""

    def __init__(self, module: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(".".join((module, *names)))
        self._where = module, names
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module, names = self._where
        return Absent(module, (*names, name))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        module = self._where[0]
        raise ModuleNotFoundError(
            f"{self.__name__} is only in the image, not in this kernel: use it inside of methods, "
            f"or install {module.partition('.')[0]} here too",
            name=module,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return find, self._where

    def __repr__(self) -> str:
        return f"<{self.__name__}, which only the image has>"


def find(module: str, names: tuple[str, ...]) -> Any:
    """The real thing, where it is installed."""
    found: Any = module
    for depth in range(len(names) + 1):  # what was taken for an attribute may be a submodule
        try:
            found = importlib.import_module(".".join((module, *names[: len(names) - depth])))
        except ModuleNotFoundError:
            if depth == len(names):
                raise
        else:
            return reduce(getattr, names[len(names) - depth :], found)
    return found


class _Finder:
    """Comes last, and finds everything."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = sys.modules.get(name.partition(".")[0])
        if top is not None and not isinstance(top, Absent):
            return None  # a real package without this submodule: a mistake to be told
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Have imports that fail in the block give an `Absent`; others go as ever."""
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, found in sys.modules.items() if isinstance(found, Absent)]:
            del sys.modules[name]  # else every later import would find it too
