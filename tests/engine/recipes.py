"""An app whose classes are written as cells, and that notes what their builds report."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Iterator
from typing import Any

import lifecycle_magic as lm
from lifecycle_magic.lifecycle.states import BuildStep, Event
from lifecycle_magic.session import session


class Site:
    """An app on one engine, whose classes are written as cells."""

    def __init__(self, app: lm.App, mark: str) -> None:
        self.app = app
        self.mark = mark
        self.events: list[Event] = []

    def cls(self, cell: str, **options: Any) -> Any:
        space: dict[str, Any] = {"__name__": "__main__", "lm": lm, "MARK": self.mark, **options}
        exec(textwrap.dedent(cell), space)
        options = {name: value for name, value in options.items() if name.islower()}
        return self.app.cls(**options)(space["Model"])

    def steps(self) -> list[tuple[str, str]]:
        return [(e.status, e.text) for e in self.events if isinstance(e, BuildStep)]


def open_site(name: str, engine: str) -> Iterator[Site]:
    app = lm.App(name, engine=engine)
    site = Site(app, secrets.token_hex(8))
    unsubscribe = session.current().bus.subscribe(site.events.append)
    with app.run():
        yield site
    unsubscribe()
