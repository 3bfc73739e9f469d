"""Names that IPython puts into a notebook's namespace, with their behaviour outside IPython."""

from __future__ import annotations

from typing import Any


def display(*objects: Any, **_: Any) -> None:
    """Print objects, as IPython's own function does outside IPython."""
    print(*objects)


def get_ipython() -> None:
    """Return None, as IPython's own function does outside IPython."""
