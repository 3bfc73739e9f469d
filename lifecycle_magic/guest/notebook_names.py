"""Names that IPython puts into a notebook's namespace, as they are in a container."""

from __future__ import annotations

import types
from typing import Any

_DISPLAY = "IPython.core.display_functions"


def display(*objs: Any, **kwargs: Any) -> Any:
    """Show objects in the cell: see `lifecycle_magic.guest.rich_output.display`."""
    from lifecycle_magic.guest import rich_output

    return rich_output.display(*objs, **kwargs)


def update_display(obj: Any, *, display_id: str, **kwargs: Any) -> None:
    """Show an object in the place of another one, as IPython's own function does."""
    from lifecycle_magic.guest import rich_output

    rich_output.update_display(obj, display_id=display_id, **kwargs)


def clear_output(wait: bool = False) -> None:
    """Clear the output of the cell, as IPython's own function does."""
    from lifecycle_magic.guest import rich_output

    rich_output.clear_output(wait)


def get_ipython() -> None:
    """Return None, as IPython's own function does outside IPython."""


_BY_NAME = {"display": display, "get_ipython": get_ipython}
_OF_IPYTHON = {"display": display, "update_display": update_display, "clear_output": clear_output}


def stand_in(value: object) -> object | None:
    """Return what has the place of a function of IPython in a container; None for other values.

    So a class that displays needs no IPython in its image.
    """
    if type(value) is types.FunctionType and value.__module__ == _DISPLAY:
        return _OF_IPYTHON.get(value.__name__)
    return None


def by_name(name: str) -> object | None:
    """Return what stands for a name that IPython has put into the namespace, or None."""
    return _BY_NAME.get(name)
