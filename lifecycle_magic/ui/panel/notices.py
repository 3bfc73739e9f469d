"""The latest notices, which the session itself does not keep."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.lifecycle.states import Notice
from lifecycle_magic.ui.panel.text import cut

__all__ = ["Notices", "PanelNotice"]

MAX_NOTICES = 8
MAX_NOTICE_CHARS = 1600


@dataclass(frozen=True)
class PanelNotice:
    """A notice, or the error of an action requested in the panel."""

    id: int
    cls: str | None
    text: str
    at: float
    level: Literal["info", "warning"]


class Notices:
    """The latest notices, oldest first."""

    def __init__(self) -> None:
        self.latest: deque[PanelNotice] = deque(maxlen=MAX_NOTICES)
        self._ids = 0

    def take(self, notice: Notice) -> None:
        """Add a notice of the session."""
        self.add(notice.cls, notice.whole, notice.at, notice.level)

    def add(
        self,
        cls: str | None,
        text: str,
        at: float,
        level: Literal["info", "warning"] = "warning",
    ) -> None:
        """Add a notice, shortened if it is long."""
        self._ids += 1
        self.latest.append(PanelNotice(self._ids, cls, cut(text, MAX_NOTICE_CHARS), at, level))
