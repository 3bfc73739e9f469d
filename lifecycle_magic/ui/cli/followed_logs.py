"""The output of containers while it is written: ``lifecycle-magic logs --follow``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lifecycle_magic.host.paths import state_root
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.ui.panel.snapshot import RunFolder
from lifecycle_magic.ui.panel.text import plain

__all__ = ["follow", "news"]

LOOK_SECONDS = 0.25
_ALL = 1 << 30
_OVERLAP = 4096  # characters by which the text of a log is found again after its older part is gone


def follow(find: Callable[[], tuple[bool, Sequence[RunFolder]]], lines: int) -> None:
    """Print the last ``lines`` lines of each container, then what is added, its end included.

    ``find`` returns whether more containers may come, and the run folders of those that run.
    """
    history = History(state_root())
    shown: dict[str, str] = {}
    writer = ""
    goes_on = True
    while goes_on:
        goes_on, folders = find()
        for folder in folders:
            before, now = shown.get(folder.container), folder.log(_ALL)
            more = folder.log(lines) if before is None else news(before, now)
            shown[folder.container] = now
            if more or before is None:
                if folder.container != writer:
                    print(f"--- {plain(folder.cls)} ({folder.container})")
                    writer = folder.container
                print(plain(more), end="", flush=True)
        for gone in shown.keys() - {folder.container for folder in folders}:
            before = shown.pop(gone)
            for last in [one for one in history.entries() if one.container == gone][-1:]:
                if end := plain(news(before, last.tail)).strip("\n"):
                    print(end, flush=True)
        if goes_on:
            time.sleep(LOOK_SECONDS)


def news(before: str, now: str) -> str:
    """Return what a log has now and had not before; its beginning may have been removed.

    >>> news("one two ", "two three")
    'three'
    """
    if now.startswith(before):
        return now[len(before) :]
    for size in (min(len(before), _OVERLAP), *range(min(len(before), 64), 0, -1)):
        at = now.rfind(before[-size:])
        if at >= 0:
            return now[at + size :]
    return now
