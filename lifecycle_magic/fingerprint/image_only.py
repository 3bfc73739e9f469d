"""Stand-ins for modules that only an image has: names that become the real module in a container.

``with image.imports():`` binds them (`lifecycle_magic.images.imports_block`). A stand-in can be
referred to by name, also in annotations. Any other use of it in the kernel raises
`ModuleNotFoundError`. It is pickled as an import, so nothing of the kernel's environment travels
with it.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import types
import typing
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["ConditionalName", "MissingModule", "import_name", "run_try_import"]


class MissingModule(ModuleType):
    """A module of the image, or an object found in it under dotted ``names``.

    ``submodules`` are the dotted names that ``import a.b`` statements import besides ``a``.
    ``real`` is the module of this kernel that lacks one of them; its attributes are used as they
    are.
    """

    def __init__(
        self,
        module: str,
        names: tuple[str, ...] = (),
        submodules: Iterable[str] = (),
        real: ModuleType | None = None,
    ) -> None:
        super().__init__(".".join((module, *names)))
        self._module, self._names = module, names
        self._submodules = tuple(sorted(submodules))
        self._real = real

    @property
    def meaning(self) -> str:
        """The import that the stand-in becomes in a container, as a string for digests."""
        return repr((self._module, self._names, self._submodules))

    @property
    def submodules(self) -> tuple[str, ...]:
        """The submodules that are imported together with the module."""
        return self._submodules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._real is not None:
            try:
                return getattr(self._real, name)
            except (AttributeError, ImportError):
                pass  # the version of the package in the image may have the attribute
        return self._attribute(name)

    def _attribute(self, name: str) -> MissingModule:
        return MissingModule(self._module, (*self._names, name), self._submodules)

    # An annotation: ``torch.Tensor | None``, ``Float[Tensor, "a b"]``.

    def __or__(self, other: Any) -> Any:
        return typing.Union[self, other]  # noqa: UP007  # the operator would ask this method

    def __ror__(self, other: Any) -> Any:
        return typing.Union[other, self]  # noqa: UP007

    def __getitem__(self, items: Any) -> Any:
        return types.GenericAlias(self, items)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MissingModule) and self.meaning == other.meaning

    def __hash__(self) -> int:
        return hash(self.meaning)

    # Everything else needs the real thing.

    def _raise_missing(self) -> NoReturn:
        raise ModuleNotFoundError(
            f"{self.__name__} is only in the image, not in this kernel. Fix: use it only inside "
            f"methods, or install it here too: pip install {self._module.partition('.')[0]}",
            name=self._module,
        )

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._raise_missing()

    __call__ = __mro_entries__ = __instancecheck__ = __subclasscheck__ = _refuse
    __bool__ = __iter__ = __len__ = __contains__ = __enter__ = __aenter__ = _refuse
    __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __lt__ = __gt__ = _refuse
    __int__ = __float__ = __index__ = __setitem__ = _refuse

    def __copy__(self) -> MissingModule:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MissingModule:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return import_name, (self._module, self._names, self._submodules)

    def __repr__(self) -> str:
        return f"<{self.__name__}, which only the image has>"


def import_name(module: str, names: tuple[str, ...], submodules: tuple[str, ...] = ()) -> Any:
    """Return the real object where it is installed. Raises as the import statement does."""
    found: Any = importlib.import_module(module)
    for submodule in submodules:
        importlib.import_module(submodule)
    path = module
    for name in names:
        parent, path = path, f"{path}.{name}"
        try:
            found = getattr(found, name)  # before a submodule of that name, as in ``from a import``
        except AttributeError:
            found = _submodule(parent, path, name)
    return found


def _submodule(parent: str, path: str, name: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # the submodule exists, but a module that it imports does not
    top = parent.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", "")
    has = f" ({top} {version} in this image)" if isinstance(version, str) and version else ""
    raise ImportError(f"cannot import name {name!r} from {parent!r}{has}", name=parent)


class ConditionalName(MissingModule):
    """A name that a ``try: import`` of the block binds: the image decides which branch runs.

    ``source`` is the try statement. It runs once in each process of the container.
    """

    def __init__(self, source: str, name: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(name, names)
        self._source = source

    @property
    def meaning(self) -> str:
        """The statement that decides the name in a container, as a string for digests."""
        return repr((self._source, self._module, self._names))

    def _attribute(self, name: str) -> MissingModule:
        return ConditionalName(self._source, self._module, (*self._names, name))

    def _raise_missing(self) -> NoReturn:
        from lifecycle_magic.decorators.travel import is_local

        if not is_local():
            raise NameError(
                f"name {self._module!r} is not defined: the try statement in image.imports() did "
                f"not bind it in this image\n{self._source}"
            )
        raise ModuleNotFoundError(
            f"{self.__name__} depends on the image, through the try statement in "
            "image.imports(). Fix: use it only inside methods",
            name=self._module,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return run_try_import, (self._source, self._module, self._names)

    def __repr__(self) -> str:
        return f"<{self.__name__}, which the image decides>"


def run_try_import(source: str, name: str, names: tuple[str, ...]) -> Any:
    """Return what ``name`` is after the try statement has run here."""
    bound = _bound_by(source)
    if name not in bound:
        return ConditionalName(source, name, names)  # using it raises a NameError, as in Python
    return functools.reduce(getattr, names, bound[name])


@functools.cache
def _bound_by(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    exec(compile(source, "<image.imports()>", "exec", dont_inherit=True), space)
    return space
