"""`Stub`, which was the name of `App` in Modal before 0.63."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.app.app import App
from lifecycle_magic.modal_api.table import old_spelling

__all__ = ["Stub"]


class Stub(App):
    """An `App` under its old name."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        old_spelling("modal", "Stub")
        super().__init__(name, **options)
