"""The run of an app, which ends with a ``with`` block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_magic.threads.blocking import run_in_thread

if TYPE_CHECKING:
    from lifecycle_magic.app.app import App

__all__ = ["AppRun"]


class AppRun:
    """A run of an app, for ``with`` and ``async with``: it stops the app at its end."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __enter__(self) -> App:
        return self._app

    def __exit__(self, *_: object) -> None:
        self._app.stop()

    async def __aenter__(self) -> App:
        return self._app

    async def __aexit__(self, *_: object) -> None:
        await run_in_thread(self._app.stop)
